"""The figures of accuracy against committee size, each from one DataFrame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from tlm_search.report.figures.style import (
    BASELINE_COLOUR,
    COLOURS,
    GREY,
    REFERENCE_COLOUR,
    Colours,
    faint,
    finish,
    plain,
)
from tlm_search.report.formatting import bounds, compact, duration, interval, judged_by, milliseconds, percent, plural
from tlm_search.study.record import BASELINE_NUMBER, REFERENCE_NUMBER

SHOWN, LISTED = len(COLOURS), 12  # configurations that are visible at first, and in the figure
FACET_LINES = 3


def frontier_figure(frontiers: pd.DataFrame, colours: Colours, *, listed: int = LISTED) -> go.Figure:
    """Draw the test metric against committee size: one line for each configuration, horizontal lines for the rivals.

    The rivals are the reference and the linear baseline. The best configuration, that of the answer, has its 95%
    interval; a button switches to the spread over committees of its members.
    """
    figure = go.Figure()
    lines = frontiers[frontiers["trial"] >= 0]
    largest = max([2, *lines["size"].tolist()])
    _add_rivals(figure, frontiers, (0.8, largest + 0.2))
    best = best_of(frontiers)
    for index, trial in enumerate(lines["trial"].drop_duplicates().tolist()[:listed]):
        rows = lines[lines["trial"] == trial]
        # One band at first, because overlapping bands cannot be read.
        _add_band(figure, rows, colours.get(trial, GREY), visible=trial == best or "legendonly")
        _add_line(figure, rows, colours.get(trial, GREY), best=trial == best, visible=index < SHOWN or "legendonly")
    if best is not None:
        _add_subsets(figure, lines[lines["trial"] == best], colours.get(best, GREY))
    judged = judged_by(frontiers)
    finish(figure, f"Test {judged} against committee size", "committee size (members)", f"test {judged}")
    figure.update_xaxes(range=[0.8, largest + 0.2], dtick=max(1, round(largest / 8)))
    return figure


def best_of(frontiers: pd.DataFrame) -> int | None:
    """Return the trial of the answer's best committee; None if no committee may be chosen."""
    eligible = frontiers.loc[frontiers["eligible"].astype(bool), "trial"]
    return int(eligible.iloc[0]) if len(eligible) else None


def facet_figures(frontiers: pd.DataFrame, colours: Colours) -> dict[int, go.Figure]:
    """Draw the best configurations of each size of pre-training with reference and baseline, all on the same axes."""
    lines = frontiers[frontiers["trial"] >= 0]
    sizes = sorted(int(size) for size in lines["pretrain_size"].unique())
    chosen = {
        size: lines[(lines["pretrain_size"] == size)]["trial"].drop_duplicates().tolist()[:FACET_LINES]
        for size in sizes
    }
    shown = lines[lines["trial"].isin([trial for trials in chosen.values() for trial in trials])]
    rivals = frontiers[frontiers["trial"] < 0].groupby("trial", sort=False).tail(1)
    values = [*shown["test_metric"], *rivals["test_metric_low"], *rivals["test_metric_high"]]
    figures = {}
    for size in sizes if len(sizes) > 1 else []:
        figure = go.Figure()
        largest = max(2, int(shown["size"].max()))
        _add_rivals(figure, frontiers, (0.8, largest + 0.2))
        for index, trial in enumerate(chosen[size]):
            rows = shown[shown["trial"] == trial]
            _add_line(figure, rows, colours.get(trial, GREY), best=index == 0, visible=True)
        title = f"Pre-trained on {size:,} documents" if size else "Not pre-trained"
        finish(figure, title, "committee size (members)", f"test {judged_by(frontiers)}")
        margin = 0.05 * (max(values) - min(values)) or 0.01
        figure.update_yaxes(range=[min(values) - margin, max(values) + margin])
        figure.update_xaxes(range=[0.8, largest + 0.2], dtick=max(1, round(largest / 8)))
        figures[size] = figure
    return figures


def gain_figure(frontiers: pd.DataFrame, colours: Colours) -> go.Figure:
    """Draw what each further member adds to the test metric."""
    figure = go.Figure()
    lines = frontiers[(frontiers["trial"] >= 0) & frontiers["test_gain"].notna()]
    best = best_of(frontiers)
    for trial in lines["trial"].drop_duplicates().tolist()[:SHOWN]:
        rows = lines[lines["trial"] == trial]
        name = str(rows["configuration"].iloc[0])
        figure.add_scatter(
            x=rows["size"],
            y=rows["test_gain"],
            name=name,
            legendgroup=name,
            mode="lines+markers",
            line={"color": colours.get(trial, GREY), "width": 3 if trial == best else 2},
            marker={"size": 7, "color": colours.get(trial, GREY)},
            text=[
                f"<b>{plain(name)}</b><br>member {row['size']} adds {100 * row['test_gain']:+.1f} points"
                for row in rows.to_dict("records")
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    finish(figure, "What each further member adds", "committee size (members)", f"test {judged_by(frontiers)} gained")
    largest = int(lines["size"].max())
    figure.update_xaxes(dtick=max(1, round(largest / 8)), range=[1.8, max(largest, 3) + 0.2])
    figure.update_yaxes(tickformat="+.1%", zeroline=True, zerolinecolor=GREY, zerolinewidth=1)
    return figure


def _add_rivals(figure: go.Figure, frontiers: pd.DataFrame, across: tuple[float, float]) -> None:
    looks = ((REFERENCE_NUMBER, REFERENCE_COLOUR, "dash"), (BASELINE_NUMBER, BASELINE_COLOUR, "dot"))
    for number, colour, dash in looks:
        rows = frontiers[frontiers["trial"] == number]
        if not rows.empty:
            _add_across(figure, rows.iloc[-1], across, colour=colour, dash=dash)


def _add_across(figure: go.Figure, whole: pd.Series, across: tuple[float, float], *, colour: str, dash: str) -> None:
    """Draw a value that has no committee size as a horizontal line with its 95% interval."""
    name = str(whole["configuration"])
    figure.add_scatter(
        x=[*across, *reversed(across)],
        y=[whole["test_metric_low"]] * 2 + [whole["test_metric_high"]] * 2,
        name=name,
        legendgroup=name,
        showlegend=False,
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=faint(colour, 0.1),
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=list(pd.Series(range(31)) / 30 * (across[1] - across[0]) + across[0]),
        y=[whole["test_metric"]] * 31,
        name=name,
        legendgroup=name,
        mode="lines",
        line={"color": colour, "width": 2, "dash": dash},
        text=_frontier_facts(dict(whole)),
        hovertemplate="%{text}<extra></extra>",
    )


def _add_line(figure: go.Figure, rows: pd.DataFrame, colour: str, *, best: bool, visible: Any) -> None:
    name = str(rows["configuration"].iloc[0])
    figure.add_scatter(
        x=rows["size"],
        y=rows["test_metric"],
        name=name,
        legendgroup=name,
        mode="lines+markers",
        visible=visible,
        line={"color": colour, "width": 3 if best else 2},
        marker={
            "size": 8 if best else 6,
            "color": colour,
            "symbol": ["circle" if eligible else "circle-open" for eligible in rows["eligible"]],
        },
        text=[_frontier_facts(row) for row in rows.to_dict("records")],
        hovertemplate="%{text}<extra></extra>",
    )


def _add_band(figure: go.Figure, rows: pd.DataFrame, colour: str, *, visible: Any) -> None:
    name = str(rows["configuration"].iloc[0])
    figure.add_scatter(
        x=[*rows["size"], *reversed(list(rows["size"]))],
        y=[*rows["test_metric_low"], *reversed(list(rows["test_metric_high"]))],
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


def _add_subsets(figure: go.Figure, rows: pd.DataFrame, colour: str) -> None:
    name = "95% of the committees of the best"
    figure.add_scatter(
        x=[*rows["size"], *reversed(list(rows["size"]))],
        y=[*rows["subset_low"], *reversed(list(rows["subset_high"]))],
        name=name,
        legendgroup=name,
        visible="legendonly",
        mode="lines",
        line={"width": 1, "dash": "dot", "color": colour},
        fill="toself",
        fillcolor=faint(colour, 0.25),
        hoverinfo="skip",
    )


def _frontier_facts(row: Mapping[Any, Any]) -> str:
    if row["trial"] == BASELINE_NUMBER:
        return "<br>".join(_baseline_facts(row))
    lines = [
        f"<b>{plain(row['configuration'])}</b>",
        f"{plural(int(row['size']), 'member')}: {percent(row['test_metric'])} on test, 95% interval "
        f"{interval(*bounds(row))}",
        f"95% of {row['subsets']} committees: {interval(row['subset_low'], row['subset_high'])}",
        f"validation {percent(row['validation_metric'])}, macro F1 {percent(row['test_macro_f1'])}, "
        f"calibration error {percent(row['test_calibration_error'])}",
        f"{milliseconds(row['latency_ms'])}, {compact(row['serving_flops'])} FLOPs per text, "
        f"{compact(row['parameters'])} parameters",
        f"training {compact(row['training_flops'])} FLOPs, {duration(row['training_seconds'])}",
    ]
    return "<br>".join(lines)


def _baseline_facts(row: Mapping[Any, Any]) -> list[str]:
    return [
        f"<b>{plain(row['configuration'])}</b>",
        f"{percent(row['test_metric'])} on test, 95% interval {interval(*bounds(row))}",
        f"validation {percent(row['validation_metric'])}, macro F1 {percent(row['test_macro_f1'])}, "
        f"calibration error {percent(row['test_calibration_error'])}",
        f"{compact(row['parameters'])} parameters, training {duration(row['training_seconds'])}",
    ]
