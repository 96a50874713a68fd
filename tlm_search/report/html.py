"""The report: one HTML file that needs no network, and beside it the tables as CSV and the figures as Plotly's JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tlm_search.errors import StudyError
from tlm_search.members.store import Store
from tlm_search.report import figures, insight, search_figures, tables
from tlm_search.report.answer import (
    Answer,
    answer_of,
    disagreement,
    per_label_table,
    run_command,
    summary_line,
    what_matching_means,
)
from tlm_search.report.evidence import Evidence
from tlm_search.report.frames import Frame, configurations_frame, frame_of, pairs_frame, provenance_table
from tlm_search.report.style import colours_of
from tlm_search.report.words import duration, percent, plural, points
from tlm_search.search.record import StudyRecord
from tlm_search.space.parameters import Range

SMALL_HEIGHT = 260


@dataclass(frozen=True)
class Report:
    """Everything that a page shows: tables and figures by name."""

    answer: Answer
    tables: Mapping[str, pd.DataFrame]
    figures: Mapping[str, go.Figure]
    disagreement: float | None


def write_report(record: StudyRecord, store: Store | None, out: Path) -> Path:
    """Write ``report.html``, ``tables/*.csv`` and ``figures/*.json`` into the folder ``out``; return the page's path.

    Works on a study that still runs and on one without results, and says so in the page. ``store`` adds what only the
    logits tell: paired comparisons, accuracy by label, disagreement, losses of pre-training.

    Raises:
        StudyError: the folder cannot be written.
    """
    evidence = Evidence(record, store)
    report = build_report(record, evidence)
    page = render(record, report, evidence)
    try:
        for folder in (out / "tables", out / "figures"):
            folder.mkdir(parents=True, exist_ok=True)
        for name, table in report.tables.items():
            _write(out / "tables" / f"{name}.csv", table.to_csv(index=False))
        for name, figure in report.figures.items():
            _write(out / "figures" / f"{name}.json", figure.to_json())
        _write(out / "report.html", page)
    except OSError as error:
        raise StudyError(
            f"the report cannot be written into {out}: {error.strerror or error}", hint="Make the folder writable."
        ) from error
    return out / "report.html"


def build_report(record: StudyRecord, evidence: Evidence) -> Report:
    """Compute the tables, and the figures from them; a figure without data is left out."""
    answer = answer_of(record, evidence)
    importance = insight.importance_table(record)
    by_name = {
        "trials": tables.trials_table(record),
        "frontiers": tables.frontiers_table(record),
        "tradeoffs": tables.tradeoffs_table(record),
        "pretraining": tables.pretraining_table(record, evidence),
        "importance": importance,
        "boundaries": insight.boundaries_table(record),
        "outcomes": tables.outcomes_table(record),
        "labels": per_label_table(record, answer.cheapest or answer.best, evidence),
        "provenance": provenance_table(record, evidence.provenance()),
    }
    return Report(
        answer=answer,
        tables=by_name,
        figures=_figures(record, by_name),
        disagreement=disagreement(answer.cheapest or answer.best, evidence),
    )


def _figures(record: StudyRecord, by_name: Mapping[str, pd.DataFrame]) -> dict[str, go.Figure]:
    frontiers, tradeoffs, pretraining = by_name["frontiers"], by_name["tradeoffs"], by_name["pretraining"]
    trials, importance = by_name["trials"], by_name["importance"]
    colours = colours_of(frontiers)
    drawn: dict[str, go.Figure] = {}
    if (frontiers["trial"] >= 0).any():
        drawn["frontier"] = figures.frontier_figure(frontiers, colours)
    for cost in tables.COSTS:
        if tradeoffs.loc[tradeoffs["trial"] >= 0, cost].notna().any():
            drawn[cost] = figures.tradeoff_figure(tradeoffs, cost, colours)
    if pretraining["pretrain_size"].nunique() > 1:
        drawn["pretraining"] = figures.pretraining_figure(pretraining, colours)
    if pretraining["pretraining_loss"].notna().sum() > 1:
        drawn["loss"] = figures.loss_figure(pretraining, colours)
    if len(by_name["labels"]):
        drawn["labels"] = figures.label_figure(by_name["labels"])
    complete = trials[(trials["state"] == "complete") & trials["validation_accuracy"].notna()]
    if len(complete):
        reference = None if record.reference is None else record.reference.metrics.get("validation_accuracy")
        drawn["history"] = search_figures.history_figure(trials, reference)
        if len(importance):
            drawn["importance"] = search_figures.importance_figure(importance)
        for name in insight.slice_names(record, importance):
            if complete[name].nunique() > 1:
                domain = record.space.searched()[name]
                log = isinstance(domain, Range) and domain.log
                drawn[f"slice_{name}"] = search_figures.slice_figure(trials, name, log=log)
    return drawn


def render(record: StudyRecord, report: Report, evidence: Evidence) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("tlm_search.report", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    slices = [name for name in report.figures if name.startswith("slice_")]
    configurations, caption = configurations_frame(record, report.tables["trials"])
    answer = report.answer.table
    return environment.get_template("page.html.j2").render(
        record=record,
        summary=summary_line(record),
        facts=_facts(record),
        notes=_notes(record),
        sections=_sections(report),
        answer=report.answer,
        matching=what_matching_means(),
        answer_columns=list(answer.columns),
        answer_rows=[(title, list(answer.loc[title])) for title in answer.index],
        advice=insight.boundary_advice(report.tables["boundaries"]),
        figures={name: _heading(name, figure) for name, figure in report.figures.items()},
        slices=slices,
        pretraining_sentence=_pretraining_sentence(report.tables["pretraining"]),
        pairs_table=pairs_frame(report.tables["pretraining"]),
        committee_sentence=_committee_sentence(report),
        members_sentence=_members_sentence(record),
        boundaries_table=_boundaries_frame(report.tables["boundaries"]),
        outcomes_table=frame_of(report.tables["outcomes"], percents=("share",)),
        configurations_table=configurations,
        configurations_caption=caption,
        provenance_table=frame_of(report.tables["provenance"]),
        command=run_command(record),
        space_yaml=yaml.safe_dump(record.space.to_document(), sort_keys=False, allow_unicode=True),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        css=Markup(_asset("page.css")),
        script=Markup(_asset("page.js")),
        plotly=Markup(get_plotlyjs()) if report.figures else "",
        figures_json=_safe_json({name: figure.to_plotly_json() for name, figure in report.figures.items()}),
    )


def _sections(report: Report) -> list[tuple[str, str]]:
    drawn = report.figures
    there = {
        "frontier": ("Accuracy by committee size", "frontier" in drawn),
        "cost": ("Accuracy and cost", any(cost in drawn for cost in tables.COSTS)),
        "pretraining": ("Pre-trained or not", "pretraining" in drawn or "loss" in drawn),
        "committee": ("Inside the committee", "labels" in drawn),
        "search": ("The search", len(report.tables["trials"]) > 0),
        "configurations": ("All configurations", (report.tables["trials"]["state"] == "complete").any()),
        "provenance": ("Provenance", True),
    }
    return [(name, title) for name, (title, shown) in there.items() if shown]


def _notes(record: StudyRecord) -> list[str]:
    notes = []
    if record.space.trainer == "simulated":
        notes.append("The trainer of this study is simulated: its numbers are made up, no model was trained.")
    running = len(record.in_state("running"))
    if running:
        notes.append(
            f"The study is not finished: {plural(running, 'trial')} {'is' if running == 1 else 'are'} still running."
        )
    if not record.in_state("complete"):
        notes.append("No trial is complete yet, so there is nothing to compare.")
    if record.reference is not None and record.reference.state == "failed":
        reason = (record.reference.error or "no reason was noted").splitlines()[0]
        notes.append(f"The reference failed, so committees are not compared with it: {reason}")
    elif record.reference is None and record.space.reference is not None:
        notes.append("The reference is not trained yet.")
    return notes


def _facts(record: StudyRecord) -> list[str]:
    facts = []
    if task := record.data.get("task_name"):
        facts.append(f"task {task}, {plural(len(record.labels), 'label')}")
    if corpus := record.data.get("corpus_name"):
        facts.append(f"corpus {corpus}")
    return facts


def _pretraining_sentence(pretraining: pd.DataFrame) -> str:
    gains = pretraining["gain"].dropna()
    if len(gains):
        better = int((gains > 0).sum())
        return (
            f"In {better} of {plural(len(gains), 'pair')} that differ in nothing but pre-training, the pre-trained "
            f"members are better; on average by {points(float(gains.mean()))} points of test accuracy."
        )
    means = pretraining.groupby(pretraining["pretrain_size"] > 0)["test_accuracy"].mean()
    if len(means) < 2:
        return "All configurations of this study are alike in whether they are pre-trained."
    return (
        f"Pre-trained members reach {percent(float(means[True]))} on average, others {percent(float(means[False]))}. "
        "No two configurations differ in nothing but pre-training, so other settings are part of that difference."
    )


def _committee_sentence(report: Report) -> str:
    chosen = report.answer.cheapest or report.answer.best
    if report.disagreement is None or chosen is None:
        return "The chosen committee and the reference, label by label."
    return (
        f"Two members of the chosen committee name different labels for {percent(report.disagreement)} of the test "
        "texts on average; the vote gains where they err apart."
    )


def _members_sentence(record: StudyRecord) -> str:
    trained, reused, saved = insight.members_saved(record)
    words = f"{plural(trained, 'member')} trained"
    if not reused:
        return f"{words}."
    return f"{words}, {plural(reused, 'member')} taken from the store, which saved about {duration(saved)} of training."


def _boundaries_frame(boundaries: pd.DataFrame) -> Frame:
    shown = boundaries.assign(edge=[f"at the {edge} end" if edge else "inside" for edge in boundaries["edge"]])
    return frame_of(shown.rename(columns={"edge": "place"}))


@dataclass(frozen=True)
class _Heading:
    title: str
    axes: str
    height: int


def _heading(name: str, figure: go.Figure) -> _Heading:
    small = name.startswith("slice_")
    layout = figure.layout
    axes = " against ".join(axis.title.text for axis in (layout.yaxis, layout.xaxis) if axis.title.text)
    return _Heading(layout.title.text, axes, SMALL_HEIGHT if small else int(layout.height))


def _asset(name: str) -> str:
    return (Path(__file__).parent / "page" / name).read_text(encoding="utf-8")


def _safe_json(value: Any) -> Markup:
    """Write JSON that no text in it can leave: ``</script>`` and ``<!--`` need a ``<``."""
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        # Six digits are more than a screen shows, and halve the page.
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _write(file: Path, text: str) -> None:
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)
