"""The figures of cost and of pre-training, each from one DataFrame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from tlm_search.report.figures.style import (
    COLOURS,
    GREY,
    MAX_POINTS,
    REFERENCE_COLOUR,
    Colours,
    faint,
    finish,
    log_axis,
    plain,
)
from tlm_search.report.formatting import (
    bounds,
    compact,
    duration,
    interval,
    judged_by,
    metric_words,
    milliseconds,
    number,
    percent,
    plural,
)
from tlm_search.study.record import REFERENCE_NUMBER


def tradeoff_figure(
    tradeoffs: pd.DataFrame, cost: str, colours: Colours, *, most: float | None = None, least: float | None = None
) -> go.Figure:
    """Draw the test metric against a cost: the Pareto front (on validation) as a line, other points dim.

    The constraints of the study allow the range from ``least`` to ``most``; the rest is shaded.
    """
    figure = go.Figure()
    known = tradeoffs[tradeoffs[cost].notna()]
    own = known[known["trial"] >= 0]
    front = own[own[f"front_{cost}"]].sort_values(cost)
    others = own[own["whole"] & ~own[f"front_{cost}"]]
    others = others.sort_values("validation_metric", ascending=False, kind="stable").head(MAX_POINTS)
    for name, rows, marker in (
        ("other committees", others, {"size": 7, "opacity": 0.45}),
        ("Pareto front", front, {"size": 10, "opacity": 1.0, "line": {"width": 1, "color": GREY}}),
    ):
        figure.add_scatter(
            x=rows[cost],
            y=rows["test_metric"],
            name=name,
            legendgroup=name,
            mode="lines+markers" if name == "Pareto front" else "markers",
            line={"color": GREY, "width": 1.5, "dash": "dot"},
            marker={**marker, "color": [colours.get(int(trial), GREY) for trial in rows["trial"]]},
            text=[_tradeoff_facts(row) for row in rows.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
    reference = known[(known["trial"] == REFERENCE_NUMBER) & known["whole"]]
    figure.add_scatter(
        x=reference[cost],
        y=reference["test_metric"],
        name="reference",
        legendgroup="reference",
        mode="markers",
        marker={"symbol": "diamond", "size": 13, "color": REFERENCE_COLOUR},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": reference["test_metric_high"] - reference["test_metric"],
            "arrayminus": reference["test_metric"] - reference["test_metric_low"],
            "color": REFERENCE_COLOUR,
            "thickness": 1.5,
        },
        text=[_tradeoff_facts(row) for row in reference.to_dict("records")],
        hovertemplate="%{text}<extra></extra>",
    )
    words, judged = metric_words(cost), judged_by(tradeoffs)
    finish(figure, f"Test {judged} against {words}", words, f"test {judged}")
    if len(known) and known[cost].min() > 0 and known[cost].max() / known[cost].min() > 8:
        log_axis(figure, known[cost])
    if cost not in ("latency_ms", "training_seconds"):
        figure.update_xaxes(tickformat="~s")
    _shade(figure, known[cost], most=most, least=least)
    return figure


def _shade(figure: go.Figure, costs: pd.Series, *, most: float | None, least: float | None) -> None:
    """Shade what the constraints exclude, within the range of the points."""
    log = figure.layout.xaxis.type == "log"
    low, high = float(costs.min()), float(costs.max())
    forbidden = []
    if most is not None and most < high:
        forbidden.append((most, high * 1.3))
    if least is not None and least > low:
        forbidden.append((low / 1.3, least))
    for start, end in forbidden:
        # On a logarithmic axis a shape takes values, an annotation takes their logarithms.
        figure.add_shape(
            type="rect", x0=start, x1=end, yref="paper", y0=0, y1=1, layer="below", line={"width": 0},
            fillcolor=faint(GREY, 0.16),
        )  # fmt: skip
        edge = most if start == most else least
        figure.add_annotation(
            x=math.log10(float(edge or 1)) if log else edge, yref="paper", y=1, yanchor="bottom", showarrow=False,
            xanchor="left" if edge == most else "right", text="not allowed",
        )  # fmt: skip


def pretraining_figure(pretraining: pd.DataFrame, colours: Colours) -> go.Figure:
    """Draw the test metric of single members against the size of pre-training; lines join equal configurations."""
    figure = go.Figure()
    sizes = sorted(pretraining["pretrain_size"].unique())
    index_of = {size: index for index, size in enumerate(sizes)}
    drawn = pretraining.head(MAX_POINTS)
    pairs = [rows.sort_values("pretrain_size") for _, rows in drawn.groupby("pair", sort=False)]
    joined = [rows for rows in pairs if rows["pretrain_size"].nunique() > 1]
    figure.add_scatter(
        # None ends the line of a pair, so that one trace draws all lines.
        x=[x for rows in joined for x in [*(index_of[s] for s in rows["pretrain_size"]), None]],
        y=[y for rows in joined for y in [*rows["test_metric"], None]],
        name="all else equal",
        legendgroup="all else equal",
        mode="lines",
        line={"color": GREY, "width": 1},
        opacity=0.6,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[index_of[size] for size in drawn["pretrain_size"]],
        y=drawn["test_metric"],
        name="configuration",
        legendgroup="configuration",
        mode="markers",
        marker={"size": 8, "color": [colours.get(int(trial), GREY) for trial in drawn["trial"]], "opacity": 0.75},
        text=[_pretraining_facts(row) for row in drawn.to_dict("records")],
        hovertemplate="%{text}<extra></extra>",
    )
    finish(figure, "Single members by size of pre-training", "documents of pre-training", f"test {judged_by(drawn)}")
    figure.update_xaxes(
        tickvals=list(range(len(sizes))),
        ticktext=["none" if size == 0 else number(size) for size in sizes],
        range=[-0.4, max(len(sizes), 2) - 0.6],
    )
    return figure


def loss_figure(pretraining: pd.DataFrame, colours: Colours) -> go.Figure:
    """Draw the test metric of a single member against its loss of masked-language modelling."""
    known = pretraining[pretraining["pretraining_loss"].notna()]
    figure = go.Figure()
    figure.add_scatter(
        x=known["pretraining_loss"],
        y=known["test_metric"],
        name="configuration",
        legendgroup="configuration",
        mode="markers",
        marker={"size": 9, "color": [colours.get(int(trial), GREY) for trial in known["trial"]], "opacity": 0.8},
        text=[
            f"{_pretraining_facts(row)}<br>loss {row['pretraining_loss']:.2f} nats" for row in known.to_dict("records")
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    title = "Single members by their pre-training loss"
    return finish(figure, title, "MLM loss (nats per token)", f"test {judged_by(known)}")


def overlap_figure(overlap: pd.DataFrame, metric: str = "accuracy") -> go.Figure:
    """Draw the gain of pre-training, in points of ``metric``, against the share of the task that its text covers."""
    known = overlap[overlap["gain"].notna()]
    figure = go.Figure()
    for name, column, colour, symbol in (
        ("of the types", "type_share", COLOURS[0], "circle"),
        ("of the tokens (frequency-weighted)", "token_share", COLOURS[1], "square"),
    ):
        rows = known.sort_values(column)
        figure.add_scatter(
            x=rows[column],
            y=rows["gain"],
            name=name,
            legendgroup=name,
            mode="lines+markers",
            line={"color": colour, "width": 1.5, "dash": "dot"},
            marker={"size": 10, "color": colour, "symbol": symbol},
            text=[
                f"{row['pretrain_size']:,} documents contain {percent(row[column])} {name}<br>"
                f"gain {100 * row['gain']:+.1f} points, mean of {plural(int(row['pairs']), 'pair')}"
                for row in rows.to_dict("records")
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    finish(
        figure, "Gain of pre-training by overlap", "share of the task that the text contains", f"test {metric} gained"
    )
    figure.update_xaxes(tickformat=".1%")
    figure.update_yaxes(tickformat="+.1%")
    return figure


def _tradeoff_facts(row: Mapping[Any, Any]) -> str:
    lines = [
        f"<b>{plain(row['configuration'])}</b>, {plural(int(row['size']), 'member')}",
        f"test {percent(row['test_metric'])}, 95% interval {interval(*bounds(row))}",
        f"validation {percent(row['validation_metric'])}",
        f"{milliseconds(row['latency_ms'])}, {compact(row['serving_flops'])} FLOPs per text, "
        f"{compact(row['parameters'])} parameters",
        f"training {compact(row['training_flops'])} FLOPs, {duration(row['training_seconds'])}",
    ]
    return "<br>".join(lines)


def _pretraining_facts(row: Mapping[Any, Any]) -> str:
    gain = row["gain"]
    lines = [
        f"<b>{plain(row['configuration'])}</b>",
        f"one member: {percent(row['test_metric'])} on test, 95% interval {interval(*bounds(row))}",
    ]
    if gain is not None and gain == gain:
        lines.append(f"{100 * gain:+.1f} points against no pre-training, all else equal")
    return "<br>".join(lines)
