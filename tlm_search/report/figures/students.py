"""The students of committees: a point in the frontier's figure, and a table that compares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from tlm_search.committee.candidates import Candidate, candidates, whole
from tlm_search.committee.effect import Effect, Side, committee, effect, singles
from tlm_search.committee.interval import accuracy_interval
from tlm_search.committee.metrics import contributions_of_votes, largest_contribution, texts_that_count
from tlm_search.committee.vote import softmax
from tlm_search.report.evidence import Evidence
from tlm_search.report.figures.style import GREY, Colours, plain
from tlm_search.report.formatting import compact, duration, interval, milliseconds, percent, plural, points
from tlm_search.report.tables.frames import Cell, Column, Frame
from tlm_search.report.tables.mixed import MixedCommittee, remembered
from tlm_search.report.tables.tables import label_of
from tlm_search.study.record import StudentRecord, StudyRecord, TrialRecord

MODELS = ("student", "single member", "committee", "reference")
COLUMNS = (
    *("trial", "configuration", "committee_size", "teachers", "documents", "model", "members", "seeds", "test_metric"),
    *("test_metric_low", "test_metric_high", "difference", "difference_low", "difference_high"),
    *("latency_ms", "parameters", "training_flops", "training_seconds"),
)
_NUMBERS = COLUMNS[COLUMNS.index("test_metric") :]


def students_table(record: StudyRecord, evidence: Evidence) -> pd.DataFrame:
    """Return for each student a row for it and for each model that it is compared with.

    ``test_metric`` of the student and of the single member are means over ``seeds``. ``difference`` is the student's
    metric minus that of the row, with its 95% interval over seeds and test texts, paired by text. The interval is
    missing without logits. The training cost of a student includes that of its committee.
    """
    rows = [row for student in record.students for row in _rows(record, student, evidence)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(_NUMBERS, "float64"))


def _rows(record: StudyRecord, student: StudentRecord, evidence: Evidence) -> Iterator[dict[str, Any]]:
    trial, mixed = record.numbered(student.trial), None
    if student.mixed is not None:
        mixed = remembered(record, evidence, student.mixed)
    if trial is None or (len(trial.frontier) < student.size if student.mixed is None else mixed is None):
        return
    taught = candidates(trial)[student.size - 1] if mixed is None else mixed.candidate
    costs = {"student": candidates(student.result)[0], "committee": taught}
    costs["single member"] = candidates(trial)[0]
    if record.reference is not None and (deep := whole(record.reference)) is not None:
        costs["reference"] = deep
    sides = _sides(record, student, trial, mixed, evidence)
    of = {"trial": trial.number, "configuration": label_of(record, trial)}
    of["teachers"] = "" if student.mixed is None else student.mixed["how"]
    of |= {"committee_size": student.size, "documents": student.documents}
    seeds = {"student": len(student.result.members), "single member": len(trial.members)}
    for name in (name for name in MODELS if name in costs):
        cost, side = costs[name], sides.of.get(name)
        reached = (cost.test_metric, *cost.test_interval)
        if side is not None:
            reached = (float(side.rows.mean()), *accuracy_interval(side.rows, side.spread, texts=sides.texts))
        members = student.size if name == "committee" else cost.size  # a mixed committee has the figures of one model
        row = {**of, "model": name, "members": members, "seeds": seeds.get(name, 1)}
        row |= dict(zip(("test_metric", "test_metric_low", "test_metric_high"), reached, strict=True))
        if name != "student":
            row |= _difference(costs["student"], sides, name, cost)
        row |= {"latency_ms": cost.latency_ms, "parameters": cost.parameters}
        row |= {"training_flops": cost.training_flops, "training_seconds": cost.training_seconds}
        if name == "student":
            row["training_flops"] = student.flops + (costs["committee"].training_flops or 0.0)
            row["training_seconds"] = student.seconds + (costs["committee"].training_seconds or 0.0)
        yield row


@dataclass(frozen=True)
class _Sides:
    """The side of each model by its name, the effective number of ``texts`` and the ``largest`` contribution of one."""

    of: Mapping[str, Side]
    texts: float = 1.0
    largest: float = 1.0


def _sides(
    record: StudyRecord,
    student: StudentRecord,
    trial: TrialRecord,
    mixed: MixedCommittee | None,
    evidence: Evidence,
) -> _Sides:
    """Return the side of each model; none if the logits of students or teachers are missing."""
    learned, taught = evidence.logits_of(student.result), evidence.logits_of(trial)
    if learned is None or taught is None:
        return _Sides({})
    labels, metric = taught.test_labels, taught.metric
    sides = {
        "student": singles(contributions_of_votes(softmax(learned.test), labels, metric)),
        "single member": singles(contributions_of_votes(softmax(taught.test), labels, metric)),
        "committee": committee(taught.test[: student.size] if mixed is None else mixed.votes.test, labels, metric),
    }
    deep = None if record.reference is None else evidence.logits_of(record.reference)
    if deep is not None:
        sides["reference"] = committee(deep.test, labels, metric)
    return _Sides(sides, texts_that_count(metric, labels), largest_contribution(metric, labels))


def _difference(ours: Candidate, sides: _Sides, name: str, theirs: Candidate) -> dict[str, float]:
    if name not in sides.of:
        return {"difference": ours.test_metric - theirs.test_metric}
    found: Effect = effect(sides.of["student"], sides.of[name], largest=sides.largest)
    return {"difference": found.mean, "difference_low": found.low, "difference_high": found.high}


def students_words(students: pd.DataFrame) -> list[list[str]]:
    """Return lines on each student: what it reaches, and what the models reach that it is compared with."""
    return [_lines(of) for of in _each(students)]


def mark_students(figure: go.Figure, students: pd.DataFrame, colours: Colours) -> None:
    """Draw the students into the figure of the frontier, each as a point at one member with its 95% interval."""
    for of in _each(students):
        student = of["student"]
        colour = colours.get(student["trial"], GREY)
        name = f"student of #{student['trial']} with {plural(student['committee_size'], 'member')}"
        if student["teachers"]:
            name = f"student of the {student['teachers']} committee, {plural(student['committee_size'], 'member')}"
        name += f", {student['documents']:,} documents" if student["documents"] else ""
        first, *more = (plain(line) for line in _lines(of))
        figure.add_scatter(
            x=[1],
            y=[student["test_metric"]],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [student["test_metric_high"] - student["test_metric"]],
                "arrayminus": [student["test_metric"] - student["test_metric_low"]],
                "color": colour,
                "thickness": 1.5,
                "width": 5,
            },
            name=name,
            legendgroup=name,
            mode="markers",
            marker={"size": 14, "symbol": "star", "color": colour, "line": {"color": "white", "width": 1}},
            text=["<br>".join([f"<b>{first}</b>", *more])],
            hovertemplate="%{text}<extra></extra>",
        )


def _each(students: pd.DataFrame) -> Iterator[dict[str, dict[Any, Any]]]:
    """Yield the rows of each student, by model."""
    for _, rows in students.groupby(["trial", "committee_size", "teachers", "documents"], sort=False):
        yield {row["model"]: row for row in rows.to_dict("records")}


def _lines(of: dict[str, dict[Any, Any]]) -> list[str]:
    student = of["student"]
    return [
        _model_words(student),
        f"one model: {percent(student['test_metric'])} on test, mean of {plural(student['seeds'], 'seed')}, "
        f"95% interval {interval(student['test_metric_low'], student['test_metric_high'])}",
        *(
            f"{points(row['difference'])} points{_span(row, ' ({})')} to {_model_words(row)}, "
            f"which reaches {percent(row['test_metric'])}"
            for name, row in of.items()
            if name != "student"
        ),
        f"{milliseconds(student['latency_ms'])}, {compact(student['parameters'])} parameters, training with its "
        f"committee {compact(student['training_flops'])} FLOPs",
    ]


def _span(row: dict[Any, Any], form: str = "{}") -> str:
    low, high = row["difference_low"], row["difference_high"]
    return "" if low != low else form.format(f"{points(low)} to {points(high)}")


def students_frame(students: pd.DataFrame) -> Frame:
    """Return the table for the page."""
    columns = [Column("model", False)]
    columns += [Column(title, True) for title in ("test", "95% interval", "student minus this", "95% interval")]
    columns += [Column(title, True) for title in ("latency", "parameters", "training FLOPs", "training time")]
    rows = []
    for row in students.to_dict("records"):
        name = _model_words(row)
        rows.append(
            [
                Cell(name, name),
                _cell(percent(row["test_metric"]), row["test_metric"]),
                _cell(interval(row["test_metric_low"], row["test_metric_high"]), row["test_metric_low"]),
                _cell(points(row["difference"]), row["difference"]),
                _cell(_span(row) or points(None), row["difference_low"]),
                _cell(milliseconds(row["latency_ms"]), row["latency_ms"]),
                _cell(compact(row["parameters"]), row["parameters"]),
                _cell(compact(row["training_flops"]), row["training_flops"]),
                _cell(duration(row["training_seconds"]), row["training_seconds"]),
            ]
        )
    return Frame(columns, rows)


def _model_words(row: dict[Any, Any]) -> str:
    if row["model"] == "student":
        more = f" and {row['documents']:,} documents" if row["documents"] else ""
        if row["teachers"]:
            committee = f"{row['teachers']} committee, {plural(row['committee_size'], 'member')}"
            return f"student of the {committee}{more}, like {row['configuration']}"
        return f"student of {row['configuration']}, {plural(row['committee_size'], 'member')}{more}"
    if row["model"] == "committee":
        return f"its committee of {plural(row['committee_size'], 'member')}"
    return "a single member" if row["model"] == "single member" else "the reference"


def _cell(text: str, value: float) -> Cell:
    return Cell(text, "" if value != value else value)
