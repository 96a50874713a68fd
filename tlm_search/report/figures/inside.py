"""The figures about the members of a committee, each from one DataFrame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from tlm_search.report.figures.style import COLOURS, GREY, REFERENCE_COLOUR, Colours, finish, plain
from tlm_search.report.formatting import judged_by, percent, plural

LONGEST = 20  # characters; an axis shortens longer labels
MAX_LABELS = 30  # a figure with more cannot be read


def label_figure(per_label: pd.DataFrame) -> go.Figure:
    """Draw the test accuracy on each label, of the committee and of the reference.

    With more than ``MAX_LABELS`` labels, draw those on which the two differ most in either direction.
    """
    rows, title = per_label.sort_values("difference", kind="stable"), "Test accuracy by label"
    if len(rows) > MAX_LABELS:
        half = MAX_LABELS // 2
        title += f": the {half} of {len(rows)} on which the committee gains most, and the {half} on which least"
        rows = pd.concat([rows.head(half), rows.tail(half)])
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
            text=[
                f"{plain(row['label'])}: {percent(row[column])} of {plural(int(row['rows']), 'text')}"
                for row in rows.to_dict("records")
            ],
            hovertemplate="%{text}<extra>" + name + "</extra>",
        )
    finish(figure, title, "test accuracy", "")
    figure.update_xaxes(tickformat=".0%")
    category_range = {"range": [-0.7, len(rows) - 0.3]}  # Plotly would leave a tenth of the axis empty
    figure.update_yaxes(tickformat="", type="category", **category_range, **_ticks(rows["label"].tolist()))
    figure.update_layout(height=max(260, 90 + 24 * len(rows)))
    return figure


def members_figure(members: pd.DataFrame, frontiers: pd.DataFrame, colours: Colours) -> go.Figure:
    """Draw each member alone and the committee of all, for the best configurations."""
    figure = go.Figure()
    trials = members["trial"].drop_duplicates().tolist()
    names = {trial: f"#{trial}" for trial in trials}
    alone = "single members"
    figure.add_scatter(
        x=members["test_metric"],
        y=[names[trial] for trial in members["trial"]],
        name=alone,
        legendgroup=alone,
        mode="markers",
        marker={"size": 9, "opacity": 0.6, "color": [colours.get(int(trial), GREY) for trial in members["trial"]]},
        text=[
            f"<b>{plain(row['configuration'])}</b><br>member {row['member']} alone: {percent(row['test_metric'])}"
            for row in members.to_dict("records")
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    whole = frontiers[frontiers["trial"].isin(trials)].groupby("trial", sort=False).tail(1)
    together = "committee of all"
    figure.add_scatter(
        x=whole["test_metric"],
        y=[names[trial] for trial in whole["trial"]],
        name=together,
        legendgroup=together,
        mode="markers",
        marker={
            "size": 15, "symbol": "diamond-open",
            "color": [colours.get(int(trial), GREY) for trial in whole["trial"]], "line": {"width": 2.5},
        },
        text=[
            f"<b>{plain(row['configuration'])}</b><br>{plural(int(row['size']), 'member')}: "
            f"{percent(row['test_metric'])}"
            for row in whole.to_dict("records")
        ],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    finish(figure, "Single members and their committee", f"test {judged_by(members)}", "")
    figure.update_xaxes(tickformat=".0%")
    order = [names[trial] for trial in trials]
    figure.update_yaxes(tickformat="", type="category", categoryorder="array", categoryarray=order[::-1])
    figure.update_layout(height=max(260, 110 + 36 * len(trials)))
    return figure


def diversity_figure(diversity: pd.DataFrame) -> go.Figure:
    """Draw the cross-entropy of the members and of their vote by committee size; their distance is the ambiguity."""
    figure = go.Figure()
    for name, column, colour in (
        ("mean of the members alone", "member_cross_entropy", GREY),
        ("their vote", "cross_entropy", COLOURS[0]),
    ):
        figure.add_scatter(
            x=diversity["size"],
            y=diversity[column],
            name=name,
            legendgroup=name,
            mode="lines+markers",
            line={"color": colour, "width": 2.5},
            marker={"size": 7, "color": colour},
            fill="tonexty" if column == "cross_entropy" else None,
            fillcolor="rgba(28,127,196,0.12)",
            text=[
                f"{plural(int(row['size']), 'member')}<br>members {row['member_cross_entropy']:.3f} - ambiguity "
                f"{row['ambiguity']:.3f} = vote {row['cross_entropy']:.3f} nats"
                for row in diversity.to_dict("records")
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    finish(figure, "What the vote gains", "committee size (first members)", "test cross-entropy (nats)")
    figure.update_yaxes(tickformat=".2f")
    figure.update_xaxes(dtick=max(1, round(int(diversity["size"].max()) / 8)))
    return figure


def calibration_figure(calibration: pd.DataFrame) -> go.Figure:
    """Draw accuracy against confidence by committee size, before and after calibration.

    On the diagonal confidence equals accuracy.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], name="confidence = accuracy", legendgroup="confidence = accuracy", mode="lines",
        line={"color": GREY, "width": 1, "dash": "dot"}, hoverinfo="skip",
    )  # fmt: skip
    names = calibration["committee"].drop_duplicates().tolist()
    for index, name in enumerate(names):
        rows = calibration[calibration["committee"] == name]
        reference = rows["size"].iloc[0] == 0
        colour = REFERENCE_COLOUR if reference else COLOURS[index % len(COLOURS)]
        error = float(rows["calibration_error"].iloc[0])
        figure.add_scatter(
            x=rows["confidence"],
            y=rows["accuracy"],
            name=f"{name}, error {percent(error)}",
            legendgroup=name,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": "dash" if reference else "solid"},
            marker={"size": 6, "color": colour},
            text=[
                f"<b>{plain(name)}</b><br>{plural(int(row['rows']), 'text')}: confidence {percent(row['confidence'])}, "
                f"accuracy {percent(row['accuracy'])}"
                for row in rows.to_dict("records")
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    finish(figure, "Calibration by committee size", "confidence", "test accuracy")
    figure.update_xaxes(tickformat=".0%", range=[0, 1.02])
    figure.update_yaxes(range=[0, 1.02])
    return figure


def confusion_figure(confusion: pd.DataFrame) -> go.Figure:
    """Draw the share of the texts of each label that the committee takes for each label."""
    labels = confusion["label"].drop_duplicates().tolist()
    count = len(labels)
    share = confusion["share"].to_numpy(dtype=float).reshape(count, count)
    texts = [
        f"{plain(row['label'])} taken for {plain(row['said'])}: {plural(int(row['committee']), 'text')}"
        + ("" if pd.isna(row["reference"]) else f", by the reference {int(row['reference'])}")
        for row in confusion.to_dict("records")
    ]
    figure = go.Figure()
    names = [plain(label) for label in labels]
    figure.add_heatmap(
        z=share,
        x=names,
        y=names,
        name="share",
        legendgroup="share",
        colorscale=[[0, "rgba(28,127,196,0)"], [1, "rgba(28,127,196,1)"]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
        text=[texts[start : start + count] for start in range(0, count * count, count)],
        texttemplate="%{z:.0%}" if count <= 12 else None,
        hovertemplate="%{text}<extra></extra>",
    )
    finish(figure, "Labels that the committee confuses", "committee says", "label")
    figure.update_xaxes(type="category", showgrid=False, **_ticks(labels))
    figure.update_yaxes(type="category", tickformat="", showgrid=False, autorange="reversed", **_ticks(labels))
    figure.update_layout(height=max(320, 140 + 26 * count))
    return figure


def _ticks(labels: Sequence[str]) -> dict[str, list[str]]:
    """Return the ticks of an axis of labels. Long labels are shortened in the middle unless two would look alike."""
    half = (LONGEST - 1) // 2
    cut = [label if len(label) <= LONGEST else f"{label[: LONGEST - 1 - half]}…{label[-half:]}" for label in labels]
    seen = Counter(cut)
    shown = [short if seen[short] == 1 else label for short, label in zip(cut, labels, strict=True)]
    return {"tickvals": [plain(label) for label in labels], "ticktext": [plain(label) for label in shown]}
