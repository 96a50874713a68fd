"use strict";
(() => {
  const { figures, texts } = JSON.parse(document.getElementById("figures").textContent);
  for (const trace of Object.values(figures).flatMap((figure) => figure.data)) {
    if (trace.type !== "heatmap" && Array.isArray(trace.text)) trace.text = trace.text.map((place) => (place === null ? null : texts[place]));
  }
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const touched = window.matchMedia("(hover: none), (max-width: 640px)");
  const drawn = [];
  const PAPER_WIDTH = 680;

  // Plotly does not read CSS, so pass it the theme's colours.
  function theme(layout) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const changes = {
      "font.color": colour("--ink"),
      "modebar.bgcolor": "rgba(0,0,0,0)",
      "modebar.color": colour("--soft"),
      "modebar.activecolor": colour("--accent"),
      "hoverlabel.bgcolor": colour("--surface"),
      "hoverlabel.bordercolor": colour("--line"),
      "hoverlabel.font.color": colour("--ink"),
    };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) {
        changes[`${key}.gridcolor`] = colour("--grid");
        changes[`${key}.tickfont.color`] = colour("--soft");
        changes[`${key}.title.font.color`] = colour("--soft");
      }
    }
    return changes;
  }

  function paint(plot, layout) {
    const maps = plot.data.flatMap((trace, place) => (trace.type === "heatmap" ? [place] : []));
    const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
    // Plotly chooses the colour of these numbers as if the page were white.
    const numbers = maps.length ? Plotly.restyle(plot, { "textfont.color": ink }, maps) : Promise.resolve();
    return numbers.then(() => Plotly.relayout(plot, theme(layout)));
  }

  function element(name, text, attributes = {}) {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function chips(plot, data) {
    const box = document.querySelector(`[data-for="${plot.id}"]`);
    const groups = [...new Set(data.map((trace) => trace.legendgroup))];
    if (groups.length < 2) return;
    for (const group of groups) {
      const places = data.flatMap((trace, place) => (trace.legendgroup === group ? [place] : []));
      const main = data[places[places.length - 1]];
      const chip = element("button", "", { type: "button", class: "chip", "aria-pressed": String(main.visible !== "legendonly") });
      const swatch = element("span", "", { class: "swatch" });
      const marker = main.marker && main.marker.color;
      swatch.style.background = (main.mode !== "markers" && main.line && main.line.color) || (typeof marker === "string" ? marker : "#8A929B");
      chip.title = main.name;
      chip.append(swatch, element("span", main.name));
      chip.addEventListener("click", () => {
        const on = chip.getAttribute("aria-pressed") !== "true";
        chip.setAttribute("aria-pressed", String(on));
        Plotly.restyle(plot, { visible: on ? true : "legendonly" }, places);
      });
      box.append(chip);
    }
  }

  // Plotly's texts are lines with some markup. Names that the user gave are escaped.
  const ESCAPED = { "&lt;": "<", "&gt;": ">", "&amp;": "&" };
  const lines = (text) => String(text).split("<br>").map((line) => line.replace(/<[^>]*>/g, "").replace(/&(lt|gt|amp);/g, (word) => ESCAPED[word]));

  function written(value, axis = {}) {
    if (value === null || value === undefined || axis.showticklabels === false) return "";
    const tick = axis.tickvals && axis.ticktext ? axis.tickvals.indexOf(value) : -1;
    if (tick >= 0) return lines(axis.ticktext[tick]).join(" ");
    if (typeof value !== "number") return lines(value).join(" ");
    if (/%$/.test(axis.tickformat || "")) return `${(100 * value).toFixed(1)}%`;
    return value.toLocaleString("en", { maximumSignificantDigits: 6 });
  }

  // Plotly's Python package writes an array of numbers as its bytes.
  const KINDS = {
    f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, i2: Int16Array, u2: Uint16Array, i1: Int8Array, u1: Uint8Array,
  };
  function list(values) {
    if (!values || !values.bdata) return values || [];
    const bytes = Uint8Array.from(atob(values.bdata), (character) => character.charCodeAt(0));
    const flat = Array.from(new KINDS[values.dtype](bytes.buffer), (value) => (Number.isNaN(value) ? null : value));
    const columns = values.shape ? Number(String(values.shape).split(",")[1]) : 0;
    return columns ? Array.from({ length: flat.length / columns }, (_, row) => flat.slice(row * columns, (row + 1) * columns)) : flat;
  }

  // A figure as rows, one for each point with facts, for readers who cannot see it or point at it.
  function rowsOf(data, layout) {
    const rows = [];
    for (const trace of data) {
      if (trace.hoverinfo === "skip") continue;
      const [x, y, numbers] = [list(trace.x), list(trace.y), list(trace.customdata)];
      if (trace.type === "heatmap") {
        y.forEach((label, i) => x.forEach((said, j) => rows.push([trace.name, written(said), written(label), lines(trace.text[i][j]).join("; ")])));
        continue;
      }
      const told = Array.isArray(trace.text) ? trace.text : [];
      const level = trace.mode === "lines" && !told.length && y.every((value) => value === y[0]);
      const whole = typeof trace.text === "string" || level;
      y.slice(0, whole ? 1 : undefined).forEach((value, i) => {
        if (value === null) return;
        const fact = whole ? trace.text || "" : told[i] || (numbers.length ? `trial ${numbers[i]}` : "");
        rows.push([trace.name, whole ? "all" : written(x[i], layout.xaxis), written(value, layout.yaxis), lines(fact).join("; ")]);
      });
    }
    return rows;
  }

  function numbers(box) {
    const { data, layout } = figures[box.dataset.for];
    const plot = document.getElementById(`figure-${box.dataset.for}`);
    const rows = rowsOf(data, layout);
    // An axis without a title has names as values, which are shown, or positions, which tell a reader nothing.
    const axis = (one, place) => (one.title && one.title.text) || (rows.some((row) => row[place] && isNaN(row[place])) ? "name" : "");
    const heads = ["line", axis(layout.xaxis, 1), axis(layout.yaxis, 2), "facts"];
    const kept = heads.flatMap((head, place) => (head && rows.some((row) => row[place]) ? [place] : []));
    const table = document.createElement("table");
    table.append(element("caption", plot.closest("figure").querySelector("h3, h4").textContent));
    const top = table.createTHead().insertRow();
    kept.forEach((place) => top.append(element("th", heads[place], { scope: "col" })));
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      kept.forEach((place, column) => line.append(column ? element("td", row[place]) : element("th", row[place], { scope: "row" })));
    }
    const scroll = element("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": table.caption.textContent });
    scroll.append(table);
    box.append(scroll);
  }

  // A finger hides a label at its point, and the edge of a phone cuts it. So show the facts below the figure.
  function factsBelow(plot) {
    const below = element("p", "Tap a point to read its facts.", { class: "facts-of-point", "aria-live": "polite" });
    plot.after(below);
    const tell = ({ points: [point] }) => {
      const text = point.text ?? point.data.text;
      const plain = `${point.data.name}: ${written(point.x, point.xaxis)}, ${written(point.y, point.yaxis)}`;
      below.replaceChildren();
      lines(typeof text === "string" ? text : plain).forEach((line, place) => below.append(...(place ? [document.createElement("br"), line] : [element("strong", line)])));
    };
    plot.on("plotly_hover", tell);
    plot.on("plotly_click", tell);
  }

  function shorten(trace, layout) {
    const shown = (name) => (/%$/.test(layout[`${name}axis`].tickformat || "") ? `%{${name}:.1%}` : `%{${name}}`);
    const short = trace.type === "heatmap" ? "%{z:.0%}" : `${shown("x")}: ${shown("y")}`;
    if (trace.hovertemplate) trace.hovertemplate = trace.hovertemplate.replace("%{text}", short);
  }

  // A picture for paper: white, with a title, and with the visible lines in its legend.
  function save(button) {
    const plot = document.getElementById(`figure-${button.dataset.for}`);
    const layout = structuredClone(drawn.find(([one]) => one === plot)[1]);
    const ink = { color: "#1c2126" };
    Object.assign(layout, {
      paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: { ...layout.font, ...ink, size: 13 }, margin: { l: 70, r: 20, t: 70, b: 60 },
      title: { text: plot.closest("figure").querySelector("h3, h4").textContent.replace(/</g, "&lt;"), x: 0.02, xanchor: "left" },
      legend: { orientation: "v", x: 1.02, xanchor: "left", y: 1, yanchor: "top" },
    });
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis/.test(name))) {
      Object.assign(layout[key], { gridcolor: "#e6e6e6", tickfont: { ...layout[key].tickfont, color: "#444" } });
    }
    const data = plot.data.filter((trace) => trace.visible !== "legendonly").map((trace) => (trace.type === "heatmap" ? { ...trace, textfont: ink } : trace));
    layout.showlegend = new Set(data.map((trace) => trace.legendgroup)).size > 1;
    const size = { width: 1100, height: plot.clientHeight + 120, scale: button.dataset.format === "png" ? 2 : 1 };
    Plotly.downloadImage({ data, layout }, { format: button.dataset.format, filename: button.dataset.for, ...size });
  }

  function draw(plot) {
    const figure = figures[plot.dataset.figure];
    const layout = structuredClone(figure.layout);
    delete layout.title;
    layout.showlegend = false;
    layout.autosize = true;
    layout.margin.t = (layout.annotations || []).length ? 28 : 12;  // annotations stand above the axes
    delete layout.height;
    if (plot.clientWidth < 520) layout.font.size = 11.5;
    if (touched.matches) {
      Object.assign(layout, { dragmode: false, hoverdistance: 40 });  // a finger also scrolls the page, and is wide
      for (const trace of figure.data) shorten(trace, layout);
    }
    const done = Plotly.newPlot(plot, figure.data, layout, {
      responsive: true, displaylogo: false, displayModeBar: touched.matches || plot.clientWidth < 520 ? false : "hover",
      modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]],
    }).then(() => paint(plot, layout));
    chips(plot, figure.data);
    if (touched.matches) factsBelow(plot);
    drawn.push([plot, layout]);
    return done;
  }

  const repaint = () => drawn.forEach(([plot, layout]) => paint(plot, layout));

  function sortable(table) {
    const body = table.tBodies[0];
    table.querySelectorAll("th .sort").forEach((button) => {
      button.addEventListener("click", () => {
        const head = button.closest("th");
        const down = head.getAttribute("aria-sort") !== "descending";
        table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[head.cellIndex].dataset.value;
        const order = (a, b) => {
          const x = value(a), y = value(b);
          if (x === "" || y === "") return (x === "") - (y === "");  // unknown values stay last
          const difference = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
          return down ? -difference : difference;
        };
        body.append(...[...body.rows].sort(order));
      });
    });
  }

  // Tell programs that print or test the page that all figures are drawn.
  Promise.all([...document.querySelectorAll(".plot")].map(draw)).then(() => { document.documentElement.dataset.drawn = "true"; });
  document.querySelectorAll("table").forEach(sortable);
  document.querySelectorAll(".numbers").forEach((box) => box.addEventListener("toggle", () => numbers(box), { once: true }));
  document.querySelectorAll(".save").forEach((button) => button.addEventListener("click", () => save(button)));
  dark.addEventListener("change", repaint);
  // Paper is white and narrower than the window. Redraw the figures for it, and unfold everything.
  window.matchMedia("print").addEventListener("change", (event) => {
    document.querySelectorAll("details.whole").forEach((box) => { box.open = event.matches; });
    drawn.forEach(([plot, layout]) => {
      const size = event.matches ? { width: Math.min(plot.clientWidth, PAPER_WIDTH), autosize: false } : { width: null, autosize: true };
      Plotly.relayout(plot, { ...theme(layout), ...size });
    });
  });
})();
