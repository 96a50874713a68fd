"""The files of a report other than its page: tables as CSV and LaTeX, figures as Plotly JSON, PNG and SVG."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from tlm_search.errors import UserError
from tlm_search.files import write_text

FORMATS = ("html", "csv", "tex", "md", "png", "svg")
DEFAULT = ("html", "csv", "tex", "md")
PICTURES = ("png", "svg")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
MAX_TEX_ROWS = 60  # rows; a table in a paper is shorter, and the CSV has all rows
PICTURE_WIDTH, PICTURE_SCALE = 1100, 2
MAX_SIDE_NAME = 40  # characters; a legend with longer names would take most of the width, so it stands below the axes
LEGEND_LINE = 22  # pixels


def read_formats(text: str) -> tuple[str, ...]:
    """Return the formats in a text such as ``html,csv,md``.

    Raises:
        UserError: a format is unknown, or none is given.
    """
    formats = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    unknown = [word for word in formats if word not in FORMATS]
    if unknown or not formats:
        what = f"{unknown[0]} is not a format of a report" if unknown else "no format is given"
        raise UserError(f"--format {text}: {what}", hint=f"give some of {', '.join(FORMATS)}, separated by commas")
    return formats


def pictures_are_possible() -> bool:
    """Return whether the packages that draw PNG and SVG are installed."""
    return importlib.util.find_spec("kaleido") is not None


def check_formats(formats: Sequence[str]) -> None:
    """Raise an error if pictures are requested but cannot be drawn. Call it before tables are computed.

    Raises:
        UserError: a package for pictures is missing.
    """
    if not pictures_are_possible() and any(name in PICTURES for name in formats):
        raise UserError(
            "PNG and SVG need Kaleido, which is not installed",
            hint="install it with pip install 'tlm-search[figures]'; it also needs Chrome or Chromium",
        )


def write_files(
    tables: Mapping[str, pd.DataFrame], figures: Mapping[str, go.Figure], out: Path, *, formats: Sequence[str]
) -> None:
    """Write the tables and figures in these ``formats`` below ``out``."""
    for folder, needed in (("tables", ("csv", "tex")), ("figures", ("html", *PICTURES))):
        if any(name in formats for name in needed):
            (out / folder).mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        if "csv" in formats:
            write_text(out / "tables" / f"{name}.csv", safe_cells(table).to_csv(index=False))
        if "tex" in formats:
            write_text(out / "tables" / f"{name}.tex", latex(table))
    if "html" in formats:
        for name, figure in figures.items():
            write_text(out / "figures" / f"{name}.json", figure.to_json())
    if figures and any(name in PICTURES for name in formats):
        _write_pictures(figures, out / "figures", [name for name in PICTURES if name in formats])


def safe_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before texts that a spreadsheet would compute; numbers stay numbers."""
    safe = table.rename(columns=_safe_cell)
    for name in safe.columns:
        if pd.api.types.is_object_dtype(safe[name]) or pd.api.types.is_string_dtype(safe[name]):
            safe[name] = safe[name].map(_safe_cell)
    return safe


def latex(table: pd.DataFrame) -> str:
    """Write a table for LaTeX as a ``tabular`` without a float, with the rules of booktabs."""
    columns = list(table.columns)
    shown = table.head(MAX_TEX_ROWS)
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(table[name]) else "l" for name in columns)
    lines = [f"\\begin{{tabular}}{{{kinds}}}", "\\toprule"]
    lines.append(" & ".join(_tex(str(name).replace("_", " ")) for name in columns) + r" \\")
    lines.append("\\midrule")
    lines += [" & ".join(_tex_cell(value) for value in row) + r" \\" for row in shown.itertuples(index=False)]
    lines += ["\\bottomrule", "\\end{tabular}"]
    if len(table) > len(shown):
        lines.append(f"% the first {len(shown)} of {len(table)} rows; all are in the CSV file")
    return "\n".join(lines) + "\n"


def standalone(figure: go.Figure) -> go.Figure:
    """Return a copy of a figure for use without the page: white background, margins, and its own legend.

    On the page a row of buttons replaces the legend.
    """
    paper = go.Figure(figure)
    paper.for_each_trace(lambda trace: trace.update(visible=False), selector={"visible": "legendonly"})
    named = {trace.name or "" for trace in paper.data if trace.visible is not False and trace.showlegend is not False}
    legend = {"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"}
    if max(map(len, named), default=0) > MAX_SIDE_NAME:
        legend = {"x": 0, "xanchor": "left", "y": -0.22, "yanchor": "top", "orientation": "v", "tracegroupgap": 2}
        paper.update_layout(height=figure.layout.height + LEGEND_LINE * len(named))
    return paper.update_layout(
        margin={"l": 70, "r": 20, "t": 80 if figure.layout.annotations else 60, "b": 60},
        title={"x": 0.02, "xanchor": "left"},
        legend=legend,
        showlegend=len({trace.legendgroup for trace in paper.data}) > 1,
        paper_bgcolor="white",
        plot_bgcolor="white",
    )


def _write_pictures(figures: Mapping[str, go.Figure], folder: Path, formats: Sequence[str]) -> None:
    import plotly.io

    drawn = [standalone(figure) for figure in figures.values()]
    heights = [int(figure.layout.height) + 60 for figure in drawn]
    paths = [str(folder / f"{name}.{kind}") for kind in formats for name in figures]
    try:
        plotly.io.write_images(
            drawn * len(formats), paths, width=PICTURE_WIDTH, height=heights * len(formats), scale=PICTURE_SCALE
        )
    except Exception as error:  # Kaleido's errors, such as a missing browser, have no common base
        reason = str(error).strip().splitlines()
        raise UserError(
            f"Kaleido could not draw the figures: {reason[0] if reason else type(error).__name__}",
            hint="install Chrome or Chromium and run the command again; the other files of the report are written",
        ) from error


def _safe_cell(value: Any) -> Any:
    is_formula = isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    # At the start of a row LaTeX would read these as an option of the preceding line break.
    "[": "{[}", "*": "{*}",
    "\n": " ",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def _tex_cell(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return "--"
    if isinstance(value, float):
        return f"{value:.4g}"
    return _tex(str(value))
