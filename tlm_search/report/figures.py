"""The figures of results, each made of one DataFrame: frontiers, trade-offs, pre-training, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from tlm_search.report.style import COLOURS, GREY, MAX_POINTS, REFERENCE_COLOUR, Colours, faint, finish, log_axis, plain
from tlm_search.report.words import compact, duration, interval, metric_words, milliseconds, number, percent

SHOWN, LISTED = len(COLOURS), 12  # configurations that are drawn at first, and that can be drawn


def frontier_figure(frontiers: pd.DataFrame, colours: Colours) -> go.Figure:
    """Draw test accuracy against committee size: a line per configuration, the reference as a line across."""
    figure = go.Figure()
    lines = frontiers[frontiers["trial"] >= 0]
    largest = max([2, *lines["size"].tolist()])
    bar = _add_reference(figure, frontiers, (0.8, largest + 0.2))
    for place, trial in enumerate(lines["trial"].drop_duplicates().tolist()[:LISTED]):
        rows = lines[lines["trial"] == trial]
        colour = colours.get(trial, GREY)
        name = str(rows["configuration"].iloc[0])
        visible: Any = True if place < SHOWN else "legendonly"
        # One band at first: several on top of each other say nothing.
        _add_band(figure, rows, colour, name, visible=place == 0 or "legendonly")
        figure.add_scatter(
            x=rows["size"],
            y=rows["test_accuracy"],
            name=name,
            legendgroup=name,
            mode="lines+markers",
            visible=visible,
            line={"color": colour, "width": 3 if place == 0 else 2},
            marker={"size": 8 if place == 0 else 6, "color": colour},
            text=[_frontier_facts(row) for row in rows.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
    if bar is not None and len(lines):
        _mark_crossing(figure, lines[lines["trial"] == lines["trial"].iloc[0]], bar)
    finish(figure, "Test accuracy against committee size", "committee size (members)", "test accuracy")
    figure.update_xaxes(range=[0.8, largest + 0.2], dtick=max(1, round(largest / 8)))
    return figure


def tradeoff_figure(tradeoffs: pd.DataFrame, cost: str, colours: Colours) -> go.Figure:
    """Draw test accuracy against a cost: the Pareto front (of validation accuracy) as a line, other points dim."""
    figure = go.Figure()
    known = tradeoffs[tradeoffs[cost].notna()]
    own = known[known["trial"] >= 0]
    front = own[own[f"front_{cost}"]].sort_values(cost)
    others = own[own["whole"] & ~own[f"front_{cost}"]]
    others = others.sort_values("validation_accuracy", ascending=False, kind="stable").head(MAX_POINTS)
    for name, rows, marker in (
        ("other committees", others, {"size": 7, "opacity": 0.45}),
        ("Pareto front", front, {"size": 10, "opacity": 1.0, "line": {"width": 1, "color": GREY}}),
    ):
        figure.add_scatter(
            x=rows[cost],
            y=rows["test_accuracy"],
            name=name,
            legendgroup=name,
            mode="lines+markers" if name == "Pareto front" else "markers",
            line={"color": GREY, "width": 1.5, "dash": "dot"},
            marker={**marker, "color": [colours.get(int(trial), GREY) for trial in rows["trial"]]},
            text=[_tradeoff_facts(row) for row in rows.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
    reference = known[(known["trial"] < 0) & known["whole"]]
    figure.add_scatter(
        x=reference[cost],
        y=reference["test_accuracy"],
        name="reference",
        legendgroup="reference",
        mode="markers",
        marker={"symbol": "diamond", "size": 13, "color": REFERENCE_COLOUR},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": reference["test_high"] - reference["test_accuracy"],
            "arrayminus": reference["test_accuracy"] - reference["test_low"],
            "color": REFERENCE_COLOUR,
            "thickness": 1.5,
        },
        text=[_tradeoff_facts(row) for row in reference.to_dict("records")],
        hovertemplate="%{text}<extra></extra>",
    )
    words = metric_words(cost)
    finish(figure, f"Test accuracy against {words}", words, "test accuracy")
    if len(known) and known[cost].min() > 0 and known[cost].max() / known[cost].min() > 8:
        log_axis(figure, known[cost])
    if cost != "latency_ms":
        figure.update_xaxes(tickformat="~s")
    return figure


def pretraining_figure(pretraining: pd.DataFrame, colours: Colours) -> go.Figure:
    """Draw the accuracy of a single member against the size of pre-training; lines join what is else equal."""
    figure = go.Figure()
    sizes = sorted(pretraining["pretrain_size"].unique())
    place_of = {size: place for place, size in enumerate(sizes)}
    drawn = pretraining.head(MAX_POINTS)
    pairs = [rows.sort_values("pretrain_size") for _, rows in drawn.groupby("pair", sort=False)]
    joined = [rows for rows in pairs if rows["pretrain_size"].nunique() > 1]
    figure.add_scatter(
        # A gap between pairs: one trace for all lines.
        x=[x for rows in joined for x in [*(place_of[s] for s in rows["pretrain_size"]), None]],
        y=[y for rows in joined for y in [*rows["test_accuracy"], None]],
        name="all else equal",
        legendgroup="all else equal",
        mode="lines",
        line={"color": GREY, "width": 1},
        opacity=0.6,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[place_of[size] for size in drawn["pretrain_size"]],
        y=drawn["test_accuracy"],
        name="configuration",
        legendgroup="configuration",
        mode="markers",
        marker={"size": 8, "color": [colours.get(int(trial), GREY) for trial in drawn["trial"]], "opacity": 0.75},
        text=[_pretraining_facts(row) for row in drawn.to_dict("records")],
        hovertemplate="%{text}<extra></extra>",
    )
    means = pretraining.groupby("pretrain_size")["test_accuracy"].mean()
    figure.add_scatter(
        x=[place_of[size] for size in means.index],
        y=means,
        name="mean",
        legendgroup="mean",
        mode="lines+markers",
        line={"color": COLOURS[0], "width": 3},
        marker={"symbol": "line-ew-open", "size": 26, "color": COLOURS[0], "line": {"width": 3}},
        hovertemplate="mean %{y:.1%}<extra></extra>",
    )
    finish(figure, "Single members by size of pre-training", "documents of pre-training", "test accuracy")
    figure.update_xaxes(
        tickvals=list(range(len(sizes))),
        ticktext=["none" if size == 0 else number(size) for size in sizes],
        range=[-0.4, max(len(sizes), 2) - 0.6],
    )
    return figure


def loss_figure(pretraining: pd.DataFrame, colours: Colours) -> go.Figure:
    """Draw the accuracy of a single member against its loss of masked-language modelling."""
    known = pretraining[pretraining["pretraining_loss"].notna()]
    figure = go.Figure()
    figure.add_scatter(
        x=known["pretraining_loss"],
        y=known["test_accuracy"],
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
    return finish(figure, title, "masked-language-model loss (nats per token)", "test accuracy")


def label_figure(per_label: pd.DataFrame) -> go.Figure:
    """Draw the test accuracy on each label, of the committee and of the reference."""
    rows = per_label.sort_values("difference")
    figure = go.Figure()
    for name, column, colour, symbol in (
        ("reference", "reference", REFERENCE_COLOUR, "diamond"),
        ("committee", "committee", COLOURS[0], "circle"),
    ):
        figure.add_scatter(
            x=rows[column],
            y=[plain(label) for label in rows["label"]],
            name=name,
            legendgroup=name,
            mode="markers",
            marker={"size": 10, "color": colour, "symbol": symbol},
            customdata=rows["rows"],
            hovertemplate="%{y}: %{x:.1%} of %{customdata} texts<extra>" + name + "</extra>",
        )
    finish(figure, "Test accuracy by label", "test accuracy", "")
    figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(tickformat="", type="category", automargin=True)
    figure.update_layout(height=max(260, 90 + 24 * len(rows)))
    return figure


def _add_reference(figure: go.Figure, frontiers: pd.DataFrame, across: tuple[float, float]) -> float | None:
    rows = frontiers[frontiers["trial"] < 0]
    if rows.empty:
        return None
    whole = rows.iloc[-1]
    name = str(whole["configuration"])
    figure.add_scatter(
        x=[*across, *reversed(across)],
        y=[whole["test_low"]] * 2 + [whole["test_high"]] * 2,
        name=name,
        legendgroup=name,
        showlegend=False,
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=faint(REFERENCE_COLOUR, 0.1),
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=list(pd.Series(range(31)) / 30 * (across[1] - across[0]) + across[0]),
        y=[whole["test_accuracy"]] * 31,
        name=name,
        legendgroup=name,
        mode="lines",
        line={"color": REFERENCE_COLOUR, "width": 2, "dash": "dash"},
        text=[_frontier_facts(dict(whole))] * 31,
        hovertemplate="%{text}<extra></extra>",
    )
    return float(whole["test_accuracy"])


def _add_band(figure: go.Figure, rows: pd.DataFrame, colour: str, name: str, *, visible: Any) -> None:
    figure.add_scatter(
        x=[*rows["size"], *reversed(list(rows["size"]))],
        y=[*rows["test_low"], *reversed(list(rows["test_high"]))],
        name=f"{name}, 95% interval",
        legendgroup=name,
        showlegend=False,
        visible=visible,
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=faint(colour, 0.14),
        hoverinfo="skip",
    )


def _mark_crossing(figure: go.Figure, rows: pd.DataFrame, bar: float) -> None:
    crossed = rows[rows["test_accuracy"] >= bar]
    if crossed.empty:
        return
    size = int(crossed["size"].iloc[0])
    figure.add_shape(
        type="line",
        x0=size,
        x1=size,
        yref="paper",
        y0=0,
        y1=1,
        layer="below",
        line={"color": GREY, "width": 1, "dash": "dot"},
    )
    figure.add_annotation(
        x=size,
        yref="paper",
        y=0.02,
        yanchor="bottom",
        xanchor="left" if size < float(rows["size"].max()) else "right",
        text=f" {size} member{' of the best<br> reaches' if size == 1 else 's of the best<br> reach'} the reference ",
        showarrow=False,
        align="left",
    )


def _frontier_facts(row: Mapping[Any, Any]) -> str:
    lines = [
        f"<b>{plain(row['configuration'])}</b>",
        f"{row['size']} member{'' if row['size'] == 1 else 's'}: {percent(row['test_accuracy'])} on test, 95% interval "
        f"{interval(row['test_low'], row['test_high'])}",
        f"95% of {row['subsets']} committees: {interval(row['subset_low'], row['subset_high'])}",
        f"validation {percent(row['validation_accuracy'])}, macro F1 {percent(row['test_macro_f1'])}, "
        f"calibration error {percent(row['test_calibration_error'])}",
    ]
    return "<br>".join(lines)


def _tradeoff_facts(row: Mapping[Any, Any]) -> str:
    lines = [
        f"<b>{plain(row['configuration'])}</b>, {row['size']} member{'' if row['size'] == 1 else 's'}",
        f"test {percent(row['test_accuracy'])}, 95% interval {interval(row['test_low'], row['test_high'])}",
        f"validation {percent(row['validation_accuracy'])}",
        f"{milliseconds(row['latency_ms'])}, {compact(row['parameters'])} parameters",
        f"training {compact(row['training_flops'])} FLOPs, {duration(row['training_seconds'])}",
    ]
    return "<br>".join(lines)


def _pretraining_facts(row: Mapping[Any, Any]) -> str:
    gain = row["gain"]
    lines = [
        f"<b>{plain(row['configuration'])}</b>",
        f"one member: {percent(row['test_accuracy'])} on test, "
        f"95% interval {interval(row['test_low'], row['test_high'])}",
    ]
    if gain is not None and gain == gain:
        lines.append(f"{100 * gain:+.1f} points against no pre-training, all else equal")
    return "<br>".join(lines)
