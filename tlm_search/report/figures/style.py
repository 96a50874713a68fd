"""The common style of all figures: colours that are safe for the colour-blind and on light and dark pages, axes, texts.

The reference is vermilion in every figure, the linear baseline brown. Each of the best configurations has the same
colour in every figure, and all other points are grey. The page replaces the colours of text and grid by those of its
theme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from tlm_search.report.formatting import compact

# After Okabe and Ito 2008, "Color Universal Design", the blue lighter for dark pages; vermilion is the reference's.
COLOURS = ("#1C7FC4", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#7A6BC4")
REFERENCE_COLOUR, BASELINE_COLOUR = "#D55E00", "#93723A"
GREY = "#8A929B"
MAX_POINTS = 300  # a figure with more points shows only the best

Colours = Mapping[int, str]


def colours_of(frontiers: pd.DataFrame) -> dict[int, str]:
    """Return the colour of each of the best configurations by trial number."""
    best = frontiers.loc[frontiers["trial"] >= 0, "trial"].drop_duplicates().tolist()
    return dict(zip(best, COLOURS, strict=False))


def finish(figure: go.Figure, title: str, x: str, y: str) -> go.Figure:
    """Give a figure its title, its axes and the common style, and return it."""
    figure.update_layout(
        title={"text": title},
        template="none",
        height=400,
        margin={"l": 8, "r": 12, "t": 44, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13},
        hoverlabel={"align": "left", "font": {"size": 13}},
        hovermode="closest",
        legend={"orientation": "h", "yanchor": "top", "y": -0.18},
        showlegend=True,
    )
    figure.update_xaxes(title={"text": x, "standoff": 8}, automargin=True, zeroline=False, showline=False, ticks="")
    figure.update_yaxes(title={"text": y, "standoff": 8}, automargin=True, zeroline=False, tickformat=".0%", ticks="")
    return figure


def log_axis(figure: go.Figure, values: pd.Series) -> None:
    """Make the x axis logarithmic, with few enough ticks that their labels do not overlap."""
    low, high = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()))
    steps = (1, 2, 5) if values.max() / values.min() < 30 else (1, 3) if high - low < 4 else (1,)
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[compact(tick) for tick in ticks])


def faint(colour: str, opacity: float) -> str:
    """Return a transparent version of a colour."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def plain(text: Any) -> str:
    """Escape ``text`` of the user, because Plotly interprets some HTML in its texts."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
