"""Tables for the page: each cell has a text to read and a value to sort by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tlm_search.data.prepared import facts_of
from tlm_search.report.formatting import (
    compact,
    describe,
    duration,
    interval,
    judged_by,
    metric_words,
    milliseconds,
    number,
    percent,
    points,
)
from tlm_search.search.trial import SEEDS_PER_STUDY
from tlm_search.study.record import StudyRecord

MAX_ROWS = 200
MAX_PAIRS = 10


@dataclass(frozen=True)
class Cell:
    """One cell."""

    text: str
    value: str | float


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    title: str
    numeric: bool


@dataclass(frozen=True)
class Frame:
    """A table of texts."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def frame_of(table: pd.DataFrame, *, percents: Sequence[str] = ()) -> Frame:
    """Return a table with one cell for each value. Columns in ``percents`` are shares."""
    formats: dict[str, Callable[[Any], str]] = dict.fromkeys(percents, percent)
    columns = [Column(str(name).replace("_", " "), _is_numeric(table[name])) for name in table.columns]
    rows = [
        [_cell(value, formats.get(str(name), number)) for name, value in zip(table.columns, row, strict=True)]
        for row in table.itertuples(index=False)
    ]
    return Frame(columns, rows)


def configurations_frame(record: StudyRecord, trials: pd.DataFrame) -> tuple[Frame, str]:
    """Return the complete trials, best on validation first, and a caption that says how many there are."""
    complete = trials[(trials["state"] == "complete") & trials["validation_metric"].notna()]
    shown = complete.sort_values("validation_metric", ascending=False, kind="stable").head(MAX_ROWS)
    names = sorted(record.space.searched(), key=lambda name: name != "committee_size")
    bar = None if record.reference is None else record.reference.metrics.get(f"test_{record.space.task.metric}")
    titles = ["trial", "validation", "test", "95% interval", "to reference", "latency", "parameters"]
    columns = [Column(title, True) for title in titles]
    columns += [Column(name.replace("_", " "), _is_numeric(shown[name])) for name in names]
    columns += [Column("training FLOPs", True), Column("training time", True)]
    rows = []
    for row in shown.to_dict("records"):
        gap = None if bar is None else row["test_metric"] - bar
        rows.append(
            [
                _cell(row["trial"], number),
                _cell(row["validation_metric"], percent),
                _cell(row["test_metric"], percent),
                Cell(interval(row["test_metric_low"], row["test_metric_high"]), row["test_metric_low"]),
                _cell(gap, points),
                _cell(row["latency_ms"], milliseconds),
                _cell(row["parameters"], compact),
                *(_cell(row[name], number) for name in names),
                _cell(row["training_flops"], compact),
                _cell(row["training_seconds"], duration),
            ]
        )
    caption = f"Complete trials, best on validation first; {judged_by(trials)} of the whole committee"
    if len(complete) > len(shown):
        caption += f". The best {len(shown)} of {len(complete):,}; all are in tables/trials.csv"
    return Frame(columns, rows), caption


def pairs_frame(pretraining: pd.DataFrame) -> tuple[Frame, str]:
    """Return the configurations that have a twin without pre-training, best on validation first, with a caption."""
    pairs = pretraining[pretraining["gain"].notna()]
    paired = pairs.head(MAX_PAIRS)
    better = int((pairs["gain"] > 0).sum())
    caption = (
        f"Test {judged_by(pretraining)} of single members in pairs that differ only in pre-training; no setting was "
        f"chosen for either side. {better} of {len(pairs):,} pairs gain. The best on validation come first"
    )
    if len(pairs) > len(paired):
        caption += f". The first {len(paired)} of {len(pairs):,}; all are in tables/pretraining.csv"
    columns = [Column("configuration", False)]
    columns += [Column(title, True) for title in ("without", "with", "gain in points")]
    rows = [
        [
            Cell(row["configuration"], row["configuration"]),
            _cell(row["test_metric"] - row["gain"], percent),
            _cell(row["test_metric"], percent),
            _cell(row["gain"], points),
        ]
        for row in paired.to_dict("records")
    ]
    return Frame(columns, rows), caption


def saturation_frame(saturation: pd.DataFrame) -> Frame:
    """Return the promised gain of twice the members, one row for each configuration."""
    columns = [Column("configuration", False)]
    columns += [Column(title, True) for title in ("members", "on validation", "twice as many add", "95% interval")]
    rows = []
    for row in saturation.to_dict("records"):
        low, high = points(row["next_low"]), points(row["next_high"])
        rows.append(
            [
                Cell(row["configuration"], row["configuration"]),
                _cell(row["members"], number),
                _cell(row["validation_metric"], percent),
                _cell(row["next_gain"], points),
                Cell(low if low == points(None) else f"{low} to {high}", row["next_low"]),
            ]
        )
    return Frame(columns, rows)


def confusions_frame(confusions: pd.DataFrame) -> Frame:
    """Return the pairs of labels that are confused most, with the counts of committee and reference."""
    columns = [Column("label", False), Column("taken for", False)]
    columns += [Column(title, True) for title in ("texts", "of the label", "by the reference")]
    rows = [
        [
            Cell(str(row["label"]), str(row["label"])),
            Cell(str(row["said"]), str(row["said"])),
            _cell(row["committee"], number),
            _cell(row["share"], percent),
            _cell(row["reference"], number),
        ]
        for row in confusions.to_dict("records")
    ]
    return Frame(columns, rows)


def examples_frame(examples: pd.DataFrame) -> Frame:
    """Return the test texts on which committee and reference differ most."""
    columns = [Column(title, False) for title in ("text", "label", "committee says", "reference says")]
    rows = []
    for row in examples.to_dict("records"):
        answers = [f"{row[f'{one}_says']} ({percent(row[f'{one}_on_label'])})" for one in ("committee", "reference")]
        rows.append(cells([row["text"] or f"test text {row['row']}", str(row["label"]), *answers]))
    return Frame(columns, rows)


def overlap_frame(overlap: pd.DataFrame) -> Frame:
    """Return the part of the task that the text of each size of pre-training covers, and its gain."""
    titles = ("documents", "of the types", "of the tokens", "gain in points", "pairs")
    rows = [
        [
            _cell(row["pretrain_size"], number),
            _cell(row["type_share"], percent),
            _cell(row["token_share"], percent),
            _cell(row["gain"], points),
            _cell(row["pairs"], number),
        ]
        for row in overlap.to_dict("records")
    ]
    return Frame([Column(title, True) for title in titles], rows)


def claims_frame(claims: pd.DataFrame) -> Frame:
    """Return the claims with their effects in points of the task's metric."""
    columns = [Column("claim", False), Column("verdict", False)]
    judged = str(claims["metric"].iloc[0])
    columns += [Column(title, True) for title in (f"points of {metric_words(judged)}", "95% interval", "seeds")]
    columns += [Column("measured on", False)]
    rows = []
    for row in claims.to_dict("records"):
        low, high = points(row["low"]), points(row["high"])
        span = low if low == points(None) else f"{low} to {high}"
        rows.append(
            [
                Cell(str(row["claim"]), str(row["claim"])),
                Cell(str(row["verdict"]), str(row["verdict"])),
                _cell(row["effect"], points if row["metric"] == judged else _of_latency),
                Cell(span, "" if span == low else row["low"]),
                _cell(row["seeds"], number),
                Cell(str(row["measured_on"]), str(row["measured_on"])),
            ]
        )
    return Frame(columns, rows)


def _of_latency(share: float | None) -> str:
    return points(None) if share is None else f"{percent(share)} of the latency"


def provenance_table(record: StudyRecord, of_members: Mapping[str, Any]) -> pd.DataFrame:
    """Return the provenance of the study: space, data, seeds, versions, machine, times."""
    space = record.space
    started = [trial.started for trial in record.trials if trial.started is not None]
    finished = [trial.finished for trial in record.trials if trial.finished is not None]
    facts: dict[str, Any] = {
        "space digest": space.digest,
        "trainer": space.trainer,
        "seed": space.seed,
        "seeds of the members": _member_seeds(record),
        "objectives": ", ".join(
            f"{direction} {name}" for direction, name in zip(record.directions, record.objectives, strict=True)
        ),
        "constraints": ", ".join(str(constraint) for constraint in space.constraints) or "none",
        "sampler": space.sampler.name,
        "pruner": space.pruner.name,
        "first trial started": min(started).isoformat(" ", "seconds") if started else "",
        "last trial finished": max(finished).isoformat(" ", "seconds") if finished else "",
    }
    skipped, variants = {"labels", "special", "variants"}, record.data.get("variants", ())
    differs = {key for variant in variants for key in variant["data"]} - skipped
    same = {key: value for key, value in record.data.items() if key not in skipped | differs}
    data = {f"data {key}": value for key, value in _flat(same)}
    for tokens in (variant["tokens"] for variant in variants):
        own = {key: value for key, value in facts_of(record.data, tokens).items() if key in differs}
        data |= {f"data of {describe(tokens, tokens)}: {key}": value for key, value in _flat(own)}
    made_with = {**dict(_flat(of_members)), **{f"versions {key}": value for key, value in _flat(record.versions)}}
    everything = {**facts, "labels": ", ".join(record.labels), **data, **made_with}
    rows = [(key.replace("_", " "), str(value)) for key, value in everything.items() if value not in (None, "")]
    return pd.DataFrame(rows, columns=["fact", "value"])


def _member_seeds(record: StudyRecord) -> str:
    """Write the range of the members' seeds. Member number i has the same seed in every trial."""
    trials = [trial for trial in (*record.trials, record.reference) if trial is not None]
    most = max((len(trial.members) for trial in trials), default=0)
    first = record.space.seed * SEEDS_PER_STUDY
    return f"{first} to {first + most - 1}" if most > 1 else str(first) if most else ""


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} ")
        else:
            yield name, value


def cells(texts: Sequence[str]) -> list[Cell]:
    """Return a row of cells with these texts."""
    return [Cell(text, text) for text in texts]


def _cell(value: Any, write: Callable[[Any], str]) -> Cell:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return Cell(write(None), "")
    return Cell(write(value), value)


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))
