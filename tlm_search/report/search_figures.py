"""The figures of the search itself, each made of one DataFrame: history, slices, importance."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from tlm_search.report.style import COLOURS, GREY, MAX_POINTS, REFERENCE_COLOUR, finish, log_axis
from tlm_search.report.words import number


def history_figure(trials: pd.DataFrame, reference_accuracy: float | None) -> go.Figure:
    """Draw validation accuracy by trial, and the best so far."""
    figure = go.Figure()
    for state, symbol, opacity in (("complete", "circle", 0.6), ("pruned", "x-thin-open", 0.6)):
        rows = trials[(trials["state"] == state) & trials["validation_accuracy"].notna()]
        figure.add_scatter(
            x=rows["trial"],
            y=rows["validation_accuracy"],
            name=state,
            legendgroup=state,
            mode="markers",
            marker={"size": 7, "symbol": symbol, "color": GREY, "opacity": opacity},
            hovertemplate="trial %{x}: %{y:.1%}<extra>" + state + "</extra>",
        )
    done = trials[(trials["state"] == "complete") & trials["validation_accuracy"].notna()]
    figure.add_scatter(
        x=done["trial"],
        y=done["validation_accuracy"].cummax(),
        name="best so far",
        legendgroup="best so far",
        mode="lines",
        line={"shape": "hv", "color": COLOURS[0], "width": 2.5},
        hovertemplate="best so far %{y:.1%}<extra></extra>",
    )
    if reference_accuracy is not None and len(trials):
        figure.add_scatter(
            x=[int(trials["trial"].min()), int(trials["trial"].max())],
            y=[reference_accuracy] * 2,
            name="reference",
            legendgroup="reference",
            mode="lines",
            line={"color": REFERENCE_COLOUR, "dash": "dash", "width": 2},
            hovertemplate="reference %{y:.1%}<extra></extra>",
        )
    return finish(figure, "The search, trial by trial", "trial", "validation accuracy")


def slice_figure(trials: pd.DataFrame, setting: str, *, log: bool) -> go.Figure:
    """Draw validation accuracy against one setting, over the complete trials."""
    rows = trials[(trials["state"] == "complete") & trials[setting].notna()]
    rows = rows.sort_values("validation_accuracy", ascending=False, kind="stable").head(MAX_POINTS)
    figure = go.Figure()
    texts = rows[setting].map(lambda value: isinstance(value, str)).any()
    few = rows[setting].nunique() <= 8
    category = texts or (few and not log)
    ordered = sorted(rows[setting].unique(), key=lambda value: (isinstance(value, str), value))
    figure.add_scatter(
        x=[number(value) for value in rows[setting]] if category else rows[setting],
        y=rows["validation_accuracy"],
        mode="markers",
        name="trial",
        legendgroup="trial",
        marker={"size": 7, "color": COLOURS[0], "opacity": 0.5},
        customdata=rows["trial"],
        hovertemplate=f"trial %{{customdata}}: {setting} %{{x}}, %{{y:.1%}}<extra></extra>",
    )
    finish(figure, setting.replace("_", " "), setting.replace("_", " "), "validation accuracy")
    if category:
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=[number(value) for value in ordered])
    elif log:
        log_axis(figure, rows[setting])
    return figure


def importance_figure(importance: pd.DataFrame) -> go.Figure:
    """Draw the share of each setting in the variance of validation accuracy, as bars."""
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
    finish(figure, "What mattered", "share of the variance of validation accuracy", "")
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(tickformat="")
    return figure
