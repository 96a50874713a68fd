"""Tables as the page shows them: every cell a text to read and a value to sort by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tlm_search.report.words import compact, duration, interval, milliseconds, number, percent, points
from tlm_search.search.record import StudyRecord

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
    """Show a table as it is; columns in ``percents`` are shares."""
    formats: dict[str, Callable[[Any], str]] = dict.fromkeys(percents, percent)
    columns = [Column(str(name).replace("_", " "), _is_numeric(table[name])) for name in table.columns]
    rows = [
        [_cell(value, formats.get(str(name), number)) for name, value in zip(table.columns, row, strict=True)]
        for row in table.itertuples(index=False)
    ]
    return Frame(columns, rows)


def configurations_frame(record: StudyRecord, trials: pd.DataFrame) -> tuple[Frame, str]:
    """Return the complete trials, best on validation first, and a caption that says how many there are."""
    complete = trials[(trials["state"] == "complete") & trials["validation_accuracy"].notna()]
    shown = complete.sort_values("validation_accuracy", ascending=False, kind="stable").head(MAX_ROWS)
    names = sorted(record.space.searched(), key=lambda name: name != "committee_size")
    bar = None if record.reference is None else record.reference.metrics.get("test_accuracy")
    titles = ["trial", "validation", "test", "95% interval", "to reference", "latency", "parameters"]
    columns = [Column(title, True) for title in titles]
    columns += [Column(name.replace("_", " "), _is_numeric(shown[name])) for name in names]
    columns += [Column("training FLOPs", True), Column("training time", True)]
    rows = []
    for row in shown.to_dict("records"):
        gap = None if bar is None else row["test_accuracy"] - bar
        rows.append(
            [
                _cell(row["trial"], number),
                _cell(row["validation_accuracy"], percent),
                _cell(row["test_accuracy"], percent),
                Cell(interval(row["test_accuracy_low"], row["test_accuracy_high"]), row["test_accuracy_low"]),
                _cell(gap, points),
                _cell(row["latency_ms"], milliseconds),
                _cell(row["parameters"], compact),
                *(_cell(row[name], number) for name in names),
                _cell(row["training_flops"], compact),
                _cell(row["training_seconds"], duration),
            ]
        )
    caption = "Complete trials, best on validation first; accuracies of the whole committee"
    if len(complete) > len(shown):
        caption += f". The best {len(shown)} of {len(complete):,}; all are in tables/trials.csv"
    return Frame(columns, rows), caption


def pairs_frame(pretraining: pd.DataFrame) -> Frame:
    """Return the configurations that have a twin without pre-training, the largest gain first."""
    paired = (
        pretraining[pretraining["gain"].notna()].sort_values("gain", ascending=False, kind="stable").head(MAX_PAIRS)
    )
    columns = [Column("configuration", False)]
    columns += [Column(title, True) for title in ("without", "with", "gain in points")]
    rows = [
        [
            Cell(row["configuration"], row["configuration"]),
            _cell(row["test_accuracy"] - row["gain"], percent),
            _cell(row["test_accuracy"], percent),
            _cell(row["gain"], points),
        ]
        for row in paired.to_dict("records")
    ]
    return Frame(columns, rows)


def provenance_table(record: StudyRecord, of_members: Mapping[str, Any]) -> pd.DataFrame:
    """Return what the study was made of: space, data, seeds, versions, machine, times."""
    space = record.space
    started = [trial.started for trial in record.trials if trial.started is not None]
    finished = [trial.finished for trial in record.trials if trial.finished is not None]
    facts: dict[str, Any] = {
        "space digest": space.digest,
        "trainer": space.trainer,
        "seed": space.seed,
        "objectives": ", ".join(
            f"{direction} {name}" for direction, name in zip(record.directions, record.objectives, strict=True)
        ),
        "constraints": ", ".join(str(constraint) for constraint in space.constraints) or "none",
        "sampler": space.sampler.name,
        "pruner": space.pruner.name,
        "first trial started": min(started).isoformat(" ", "seconds") if started else "",
        "last trial finished": max(finished).isoformat(" ", "seconds") if finished else "",
    }
    skipped = ("labels", "special")
    data = {f"data {key}": value for key, value in _flat(record.data) if key.split(" ")[0] not in skipped}
    made_with = {**dict(_flat(of_members)), **{f"versions {key}": value for key, value in _flat(record.versions)}}
    everything = {**facts, "labels": ", ".join(record.labels), **data, **made_with}
    rows = [(key.replace("_", " "), str(value)) for key, value in everything.items() if value not in (None, "")]
    return pd.DataFrame(rows, columns=["fact", "value"])


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} ")
        else:
            yield name, value


def _cell(value: Any, write: Callable[[Any], str]) -> Cell:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return Cell(write(None), "")
    return Cell(write(value), value)


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))
