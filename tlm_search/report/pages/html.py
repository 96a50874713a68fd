"""The report as one HTML file that needs no network, with its tables as CSV and its figures as Plotly JSON."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
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

from tlm_search.committee.metrics import metric_words
from tlm_search.committee.verdict import FAILS, HOLDS
from tlm_search.errors import StudyError
from tlm_search.files import write_text, writing
from tlm_search.report.claims.answer import rows_sentence, run_command, summary_line, what_matching_means
from tlm_search.report.claims.claims import HELPS
from tlm_search.report.claims.verdicts import LEAST_SEEDS, NOT_MEASURED
from tlm_search.report.evidence import Evidence
from tlm_search.report.figures.frontier import LISTED
from tlm_search.report.figures.students import students_frame
from tlm_search.report.formatting import duration, percent, plural, points
from tlm_search.report.pages.build import Report, build_report
from tlm_search.report.pages.files import DEFAULT, check_formats, pictures_are_possible, write_files
from tlm_search.report.pages.markdown import ACCURACIES, bibtex, markdown
from tlm_search.report.privacy import public, public_space
from tlm_search.report.tables import insight
from tlm_search.report.tables.costs import COSTS
from tlm_search.report.tables.frames import (
    Frame,
    claims_frame,
    configurations_frame,
    confusions_frame,
    examples_frame,
    frame_of,
    overlap_frame,
    pairs_frame,
    saturation_frame,
)
from tlm_search.report.tables.inside import confusions_table
from tlm_search.store.local import Store
from tlm_search.study.record import StudyRecord

SMALL_HEIGHT = 260
_NOT_TRAINED = "The reference is not trained yet."


def write_report(record: StudyRecord, store: Store | None, out: Path, *, formats: Sequence[str] = DEFAULT) -> Path:
    """Write the report into the folder ``out``; return the path of the page, or ``out`` without a page.

    ``formats`` are taken from ``FORMATS``: ``html`` is ``report.html`` with ``figures/*.json`` (Plotly), ``csv`` and
    ``tex`` are ``tables/*``, ``md`` is ``report.md``, ``png`` and ``svg`` are ``figures/*``. It works for a running
    study and for one without results, and the page says so. ``store`` adds what needs logits.

    Raises:
        StudyError: the folder cannot be written.
        UserError: pictures are requested and the packages that draw them are not installed.
    """
    check_formats(formats)
    evidence, record = Evidence(record, store), public(record)
    report = build_report(record, evidence)
    with writing(StudyError, f"the report in {out}", otherwise="choose another folder with --out"):
        if "md" in formats:
            write_text(out / "report.md", markdown(record, report))
        if "html" in formats:
            write_text(out / "report.html", render(record, report))
        write_files(report.tables, report.figures, out, formats=formats)
    return out / "report.html" if "html" in formats else out


def render(record: StudyRecord, report: Report) -> str:
    """Return the page."""
    slices = [name for name in report.figures if name.startswith("slice_")]
    configurations, caption = configurations_frame(record, report.tables["trials"])
    pairs, pairs_caption = pairs_frame(report.tables["pretraining"])
    answer = report.answer.table
    return fill(
        "page.html.j2",
        report.figures,
        record=record,
        summary=summary_line(record),
        facts=_facts(record),
        notes=notes_of(record),
        rows=rows_sentence(record),
        sections=_sections(report, metric_words(record.space.task.metric)),
        metric=metric_words(record.space.task.metric),
        answer=report.answer,
        matching=what_matching_means(metric_words(record.space.task.metric)),
        answer_columns=list(answer.columns),
        answer_rows=[(title, list(answer.loc[title])) for title in answer.index],
        advice=_advice(report),
        slices=slices,
        facets=[name for name in report.figures if name.startswith("facet_")],
        students_table=students_frame(report.tables["students"]),
        saturation_table=saturation_frame(report.tables["saturation"]),
        overlap_table=overlap_frame(report.tables["overlap"]),
        confusions_table=confusions_frame(confusions_table(report.tables["confusion"])),
        examples_table=examples_frame(report.tables["examples"]),
        committees_table=frame_of(report.tables["committees"], percents=ACCURACIES),
        mixed_sentence=report.mixed,
        claims_table=claims_frame(report.tables["claims"]),
        bibtex=bibtex(record),
        pretraining_sentence=_pretraining_sentence(report.tables["claims"], metric_words(record.space.task.metric)),
        pairs_table=pairs,
        pairs_caption=pairs_caption,
        committee_sentence=_committee_sentence(report),
        calibration_sentence=_calibration_sentence(report),
        members_sentence=_members_sentence(record),
        boundaries_table=_boundaries_frame(report.tables["boundaries"]),
        reference_tries_table=frame_of(report.tables["reference_tries"], percents=ACCURACIES),
        outcomes_table=frame_of(report.tables["outcomes"], percents=("share",)),
        configurations_table=configurations,
        configurations_caption=caption,
        provenance_table=frame_of(report.tables["provenance"]),
        command=run_command(record),
        unlisted=_unlisted(report.tables["frontiers"]),
        pictures=pictures_are_possible(),
        pictures_command=shlex.join(["tlm-search", "report", record.name, "--format", "png,svg"]),
        space_yaml=yaml.safe_dump(public_space(record), sort_keys=False, allow_unicode=True),
    )


def fill(template: str, figures: Mapping[str, go.Figure], **values: Any) -> str:
    """Fill a template with ``values``, and with the style, the script and the figures that every page has."""
    environment = Environment(
        loader=PackageLoader("tlm_search.report.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(
        figures={name: _heading(name, figure) for name, figure in figures.items()},
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        css=Markup(_asset("page.css")),
        script=Markup(_asset("page.js")),
        plotly=Markup(get_plotlyjs()) if figures else "",
        figures_json=_safe_json(_with_shared_texts(figures)),
        **values,
    )


def _advice(report: Report) -> list[str]:
    best = report.answer.best
    more = insight.size_advice(report.tables["saturation"], None if best is None else best.candidate)
    boundaries = report.tables["boundaries"]
    cautioned = [caution.setting for caution in report.answer.cautions if caution.side == "committee"]
    return insight.boundary_advice(boundaries[~boundaries["setting"].isin(cautioned)]) + more


def _sections(report: Report, metric: str) -> list[tuple[str, str]]:
    drawn = report.figures
    titles = {
        "frontier": (f"{metric[0].upper()}{metric[1:]} by committee size", "frontier" in drawn),
        "cost": (f"{metric[0].upper()}{metric[1:]} and cost", any(cost in drawn for cost in COSTS)),
        "pretraining": ("Pre-trained or not", "pretraining" in drawn or "loss" in drawn),
        "committee": ("Inside the committee", "members" in drawn),
        "search": ("The search", len(report.tables["trials"]) > 0),
        "claims": ("The claims", len(report.tables["claims"]) > 0),
        "configurations": ("All configurations", (report.tables["trials"]["state"] == "complete").any()),
        "provenance": ("Provenance", True),
    }
    return [(name, title) for name, (title, shown) in titles.items() if shown]


def notes_of(record: StudyRecord) -> list[str]:
    """Return what a reader must know first: simulated members, an unfinished study, a missing reference."""
    notes = []
    if not record.space.reads_data:
        notes.append("The trainer of this study is simulated: its numbers are made up, and no model was trained.")
    running = len(record.in_state("running"))
    if running:
        notes.append(
            f"The study is not finished: {plural(running, 'trial')} {'is' if running == 1 else 'are'} still running."
        )
    if not record.in_state("complete"):
        notes.append("No trial is complete yet, so there is nothing to compare.")
    if record.reference is not None and record.reference.state == "failed":
        reason = (record.reference.error or "no reason was recorded").splitlines()[0]
        notes.append(f"The reference failed, so committees are not compared with it: {reason}")
    elif record.reference is None and record.space.reference is not None:
        done, of = len(record.reference_tries), len(record.space.reference_tries())
        notes.append(f"The reference is not chosen yet: {done} of its {of} tries are done." if done else _NOT_TRAINED)
    return notes


def _facts(record: StudyRecord) -> list[str]:
    facts = []
    if task := record.data.get("task_name"):
        facts.append(f"task {task}, {plural(len(record.labels), 'label')}")
    if corpus := record.data.get("corpus_name"):
        facts.append(f"corpus {corpus}")
    if texts := record.data.get("unlabelled_texts"):
        left_out = f", {texts['held_out']:,} that validation or test has left out" if texts.get("held_out") else ""
        facts.append(f"{plural(texts['used'], 'unlabelled text')}{left_out}")
    return facts


def _unlisted(frontiers: pd.DataFrame) -> str:
    known = frontiers.loc[frontiers["trial"] >= 0, "trial"].nunique()
    return f" These are the best {LISTED} of {known:,}; all are in tables/frontiers.csv." if known > LISTED else ""


def _pretraining_sentence(claims: pd.DataFrame, metric: str) -> str:
    """Say the verdict of the claim on pre-training, with its effect and interval."""
    [claim] = claims[claims["claim"] == HELPS].to_dict("records")
    if claim["verdict"] == NOT_MEASURED:
        return f"Whether pre-training helps is not measured: {claim['measured_on']}."
    says = {HOLDS: "Pre-training helps", FAILS: "Pre-training harms"}
    few = f" A verdict needs {LEAST_SEEDS} seeds." if claim["seeds"] < LEAST_SEEDS else ""
    return (
        f"{says.get(claim['verdict'], 'This study cannot tell whether pre-training helps')}: single members with it "
        f"have {points(claim['effect'])} points of test {metric} ({points(claim['low'])} to {points(claim['high'])}) "
        f"against those without, both with the settings that are best for them on validation.{few}"
    )


def _committee_sentence(report: Report) -> str:
    diversity = report.tables["diversity"]
    if len(diversity) < 2:
        return "The best committee has a single member, so there is no vote to analyse."
    last = diversity.iloc[-1]
    return (
        f"Two of the {len(diversity)} members of the best committee name different labels for "
        f"{percent(last['disagreement'])} of the test texts on average. A member alone has a cross-entropy of "
        f"{last['member_cross_entropy']:.3f} nats; because members make different errors, the vote has "
        f"{last['ambiguity']:.3f} less: {last['cross_entropy']:.3f}."
    )


def _calibration_sentence(report: Report) -> str:
    """Say what calibration, fitted on validation, changes on test; empty without logits."""
    calibration = report.tables["calibration"].drop_duplicates("committee")
    if calibration.empty:
        return ""
    whole = calibration[calibration["size"] == calibration["size"].max()]
    before, after = whole.iloc[0], whole.iloc[1]
    return (
        "Calibrated on validation, as it is exported, it has a calibration error on test of "
        f"{percent(after['calibration_error'])} (before {percent(before['calibration_error'])}) and a cross-entropy of "
        f"{after['cross_entropy']:.3f} nats (before {before['cross_entropy']:.3f})."
    )


def _members_sentence(record: StudyRecord) -> str:
    trained, reused, saved = insight.members_saved(record)
    words = f"{plural(trained, 'member')} trained"
    if not reused:
        return f"{words}."
    return (
        f"{words}, {plural(reused, 'member')} reused from the store, which saved about {duration(saved)} of training."
    )


def _boundaries_frame(boundaries: pd.DataFrame) -> Frame:
    shown = boundaries.assign(edge=[f"at the {edge} end" if edge else "inside" for edge in boundaries["edge"]])
    return frame_of(shown.rename(columns={"edge": "position"}))


@dataclass(frozen=True)
class _Heading:
    title: str
    axes: str
    height: int


def _heading(name: str, figure: go.Figure) -> _Heading:
    small = name.startswith(("slice_", "facet_"))
    layout = figure.layout
    axes = " against ".join(axis.title.text for axis in (layout.yaxis, layout.xaxis) if axis.title.text)
    return _Heading(layout.title.text, axes, SMALL_HEIGHT if small else int(layout.height))


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _with_shared_texts(figures: Mapping[str, go.Figure]) -> dict[str, Any]:
    """Return the figures with the texts of their points in one common list, because several figures share them."""
    indices: dict[str, int] = {}
    documents = {name: figure.to_plotly_json() for name, figure in figures.items()}
    for trace in (trace for document in documents.values() for trace in document["data"]):
        if trace["type"] != "heatmap" and not isinstance(trace.get("text", ""), str):
            trace["text"] = [None if text is None else indices.setdefault(text, len(indices)) for text in trace["text"]]
    return {"figures": documents, "texts": list(indices)}


def _safe_json(value: Any) -> Markup:
    """Write JSON in which no text can end the script element: ``</script>`` and ``<!--`` need a ``<``."""
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        # Six digits are more than a screen shows, and they halve the size of the page.
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
