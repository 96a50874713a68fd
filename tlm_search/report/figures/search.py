"""The figures of the search, each from one DataFrame: history, slices, importance."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from tlm_search.report.figures.style import COLOURS, GREY, MAX_POINTS, REFERENCE_COLOUR, finish, log_axis, plain
from tlm_search.report.formatting import judged_by, number, percent

FEW = 8  # an axis of no more distinct values has equal steps
QUARTERS = ("lowest quarter", "second quarter", "third quarter", "best quarter")
QUARTER_COLOURS = (GREY, GREY, COLOURS[4], COLOURS[0])


def history_figure(trials: pd.DataFrame, reference: float | None) -> go.Figure:
    """Draw the metric on validation by trial, and the best so far."""
    figure = go.Figure()
    for state, symbol, opacity in (("complete", "circle", 0.6), ("pruned", "x-thin-open", 0.6)):
        rows = trials[(trials["state"] == state) & trials["validation_metric"].notna()]
        figure.add_scatter(
            x=rows["trial"],
            y=rows["validation_metric"],
            name=state,
            legendgroup=state,
            mode="markers",
            marker={"size": 7, "symbol": symbol, "color": GREY, "opacity": opacity},
            hovertemplate="trial %{x}: %{y:.1%}<extra>" + state + "</extra>",
        )
    done = trials[(trials["state"] == "complete") & trials["validation_metric"].notna()]
    figure.add_scatter(
        x=done["trial"],
        y=done["validation_metric"].cummax(),
        name="best so far",
        legendgroup="best so far",
        mode="lines",
        line={"shape": "hv", "color": COLOURS[0], "width": 2.5},
        hovertemplate="best so far %{y:.1%}<extra></extra>",
    )
    if reference is not None and len(trials):
        figure.add_scatter(
            x=[int(trials["trial"].min()), int(trials["trial"].max())],
            y=[reference] * 2,
            name="reference",
            legendgroup="reference",
            mode="lines",
            line={"color": REFERENCE_COLOUR, "dash": "dash", "width": 2},
            hovertemplate="reference %{y:.1%}<extra></extra>",
        )
    return finish(figure, "The search, trial by trial", "trial", f"validation {judged_by(trials)}")


def slice_figure(trials: pd.DataFrame, setting: str, *, log: bool) -> go.Figure:
    """Draw the metric on validation against one setting, over the complete trials."""
    rows = trials[(trials["state"] == "complete") & trials[setting].notna()]
    rows = rows.sort_values("validation_metric", ascending=False, kind="stable").head(MAX_POINTS)
    figure = go.Figure()
    texts = rows[setting].map(lambda value: isinstance(value, str)).any()
    few = rows[setting].nunique() <= FEW
    category = texts or (few and not log)
    ordered = sorted(rows[setting].unique(), key=lambda value: (isinstance(value, str), value))
    figure.add_scatter(
        x=[number(value) for value in rows[setting]] if category else rows[setting],
        y=rows["validation_metric"],
        mode="markers",
        name="trial",
        legendgroup="trial",
        marker={"size": 7, "color": COLOURS[0], "opacity": 0.5},
        customdata=rows["trial"],
        hovertemplate=f"trial %{{customdata}}: {setting} %{{x}}, %{{y:.1%}}<extra></extra>",
    )
    finish(figure, setting.replace("_", " "), setting.replace("_", " "), f"validation {judged_by(trials)}")
    if category:
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=[number(value) for value in ordered])
    elif log:
        log_axis(figure, rows[setting])
    return figure


def importance_figure(importance: pd.DataFrame) -> go.Figure:
    """Draw the share of each setting in the variance of the metric on validation, as bars."""
    rows = importance.sort_values("importance")
    figure = go.Figure()
    figure.add_bar(
        x=rows["importance"],
        y=[name.replace("_", " ") for name in rows["setting"]],
        orientation="h",
        marker={"color": COLOURS[0]},
        name="importance",
        legendgroup="importance",
        hovertemplate="%{y}: %{x:.0%}<extra></extra>",
    )
    finish(figure, "What mattered", "share of the variance on validation", "")
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(tickformat="")
    return figure


def parallel_figure(trials: pd.DataFrame, settings: Sequence[str], *, logs: Container[str] = ()) -> go.Figure:
    """Draw each complete trial as a line across its settings, coloured by quarters of the validation metric.

    The best lines are on top. Every axis goes from the lowest value to the highest. Settings that are words, or few
    numbers, are drawn at equal steps.
    """
    done = trials[(trials["state"] == "complete") & trials["validation_metric"].notna()]
    done = done.sort_values("validation_metric", ascending=False, kind="stable").head(MAX_POINTS)
    axes = [*settings, "validation_metric"]
    positions, ticks = {}, []
    for position, name in enumerate(axes):
        positions[name], labels = _axis(done[name], log=name in logs)
        ticks += [(position, height, label) for height, label in labels]
    figure = go.Figure()
    ranks = done["validation_metric"].rank(pct=True, method="first")
    for quarter, (name, colour) in enumerate(zip(QUARTERS, QUARTER_COLOURS, strict=True)):
        rows = done.index[(ranks > quarter / 4) & (ranks <= (quarter + 1) / 4)]
        figure.add_scatter(
            x=[x for _ in rows for x in [*range(len(axes)), None]],
            y=[y for row in rows for y in [*(positions[name].get(row) for name in axes), None]],
            name=name,
            legendgroup=name,
            mode="lines+markers",
            opacity=0.75 if quarter == 3 else 0.35,
            line={"color": colour, "width": 2 if quarter == 3 else 1},
            marker={"size": 4, "color": colour},
            text=[
                text
                for row in done.loc[rows].to_dict("records")
                for text in [*(_setting_words(row, n) for n in axes), None]
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.add_scatter(
        x=[position + 0.02 for position, _, _ in ticks],
        y=[height for _, height, _ in ticks],
        mode="text",
        name="values",
        legendgroup="values",
        text=[label for _, _, label in ticks],
        textposition="top right",
        textfont={"size": 11},
        hoverinfo="skip",
    )
    finish(figure, "All trials, setting by setting", "", "")
    titles = [*settings, f"validation {judged_by(trials)}"]
    figure.update_xaxes(
        tickvals=list(range(len(axes))), ticktext=[name.replace("_", "<br>").replace(" ", "<br>") for name in titles],
        range=[-0.15, len(axes) - 0.4], showgrid=True,
    )  # fmt: skip
    figure.update_yaxes(showticklabels=False, showgrid=False, range=[-0.06, 1.06])
    return figure


def _axis(column: pd.Series, *, log: bool) -> tuple[dict[int, float], list[tuple[float, str]]]:
    """Return the height, 0 to 1, of each value by its row, and the heights that get a label."""
    rows, values = column.dropna().index.tolist(), column.dropna().tolist()
    different = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    if len(different) <= FEW or any(isinstance(value, str) for value in different):
        step = {value: index / max(len(different) - 1, 1) for index, value in enumerate(different)}
        heights = {row: step[value] for row, value in zip(rows, values, strict=True)}
        return heights, [(at, number(value)) for value, at in step.items()]
    scaled = [math.log10(value) if log else float(value) for value in values]
    low, high = min(scaled), max(scaled)
    heights = {row: (value - low) / (high - low) for row, value in zip(rows, scaled, strict=True)}
    write = percent if column.name == "validation_metric" else number
    return heights, [(0.0, write(min(values))), (1.0, write(max(values)))]


def _setting_words(row: Mapping[Any, Any], name: str) -> str:
    words = percent(row[name]) if name == "validation_metric" else number(row[name])
    return f"trial {row['trial']}: {plain(name.replace('_', ' '))} {plain(words)}"
