"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = [];
  const PAPER_WIDTH = 680;

  // Plotly does not read CSS: the theme's colours are handed over.
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
    // Plotly chooses the colour of their numbers as if the page were white.
    const numbers = maps.length ? Plotly.restyle(plot, { "textfont.color": ink }, maps) : Promise.resolve();
    return numbers.then(() => Plotly.relayout(plot, theme(layout)));
  }

  function chips(plot, data) {
    const box = document.querySelector(`[data-for="${plot.id}"]`);
    const groups = [...new Set(data.map((trace) => trace.legendgroup))];
    if (groups.length < 2) return;
    for (const group of groups) {
      const places = data.flatMap((trace, place) => (trace.legendgroup === group ? [place] : []));
      const main = data[places[places.length - 1]];
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "chip";
      chip.setAttribute("aria-pressed", String(main.visible !== "legendonly"));
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      const marker = main.marker && main.marker.color;
      swatch.style.background = (main.mode !== "markers" && main.line && main.line.color) || (typeof marker === "string" ? marker : "#8A929B");
      const words = document.createElement("span");
      words.textContent = chip.title = main.name;
      chip.append(swatch, words);
      chip.addEventListener("click", () => {
        const on = chip.getAttribute("aria-pressed") !== "true";
        chip.setAttribute("aria-pressed", String(on));
        Plotly.restyle(plot, { visible: on ? true : "legendonly" }, places);
      });
      box.append(chip);
    }
  }

  function draw(plot) {
    const figure = figures[plot.dataset.figure];
    const layout = figure.layout;
    delete layout.title;
    layout.showlegend = false;
    layout.autosize = true;
    layout.margin.t = (layout.annotations || []).length ? 28 : 12;  // annotations stand above the axes
    delete layout.height;
    if (plot.clientWidth < 520) layout.font.size = 11.5;
    const done = Plotly.newPlot(plot, figure.data, layout, {
      responsive: true, displaylogo: false, displayModeBar: plot.clientWidth < 520 ? false : "hover",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      toImageButtonOptions: { format: "svg", filename: plot.dataset.figure },
    }).then(() => paint(plot, layout));
    chips(plot, figure.data);
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
          if (x === "" || y === "") return (x === "") - (y === "");  // unknown ones stay below
          const difference = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
          return down ? -difference : difference;
        };
        body.append(...[...body.rows].sort(order));
      });
    });
  }

  // Says to whoever prints or tests the page that nothing moves any more.
  Promise.all([...document.querySelectorAll(".plot")].map(draw)).then(() => { document.documentElement.dataset.drawn = "true"; });
  document.querySelectorAll("table").forEach(sortable);
  dark.addEventListener("change", repaint);
  // Paper is narrower than the window, and white: figures are drawn anew for it.
  window.matchMedia("print").addEventListener("change", (event) => {
    drawn.forEach(([plot, layout]) => {
      const size = event.matches ? { width: Math.min(plot.clientWidth, PAPER_WIDTH), autosize: false } : { width: null, autosize: true };
      Plotly.relayout(plot, { ...theme(layout), ...size });
    });
  });
})();
