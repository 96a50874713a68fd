"""The table that `tabulated.py` wrote, and trials that read it instead of training."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tlm_search.model.architecture import Architecture
from tlm_search.search.trial import Rung, rungs
from tlm_search.space.parameters import Choices
from tlm_search.space.schema import Space, load_space
from tlm_search.space.settings import Value

RATE = "finetune_learning_rate"
VOCABULARY, LABELS = 2048, 5  # of `tabulated.yaml`
Key = tuple[Value | None, ...]


@dataclass(frozen=True)
class Row:
    """The results of one configuration by committee size; seconds are those of one member."""

    validation: Mapping[int, float]
    test: Mapping[int, float]
    pretraining_seconds: float
    finetuning_seconds: float


@dataclass(frozen=True)
class Table:
    """The configurations of ``space``. A key has a value for each searched setting, None if it is not active."""

    space: Space
    rows: Mapping[Key, Row]

    @property
    def sizes(self) -> Sequence[int]:
        """The committee sizes."""
        return sorted(next(iter(self.rows.values())).validation)

    @functools.cached_property
    def levels(self) -> Mapping[str, Sequence[Value]]:
        """The values of each searched setting."""
        searched = self.space.searched()
        return {name: entry.choices for name, entry in searched.items() if isinstance(entry, Choices)}

    def key(self, settings: Mapping[str, Value]) -> Key:
        """Return the configuration that is nearest to a trial's settings."""
        active: dict[str, Value] = {}
        for name, levels in self.levels.items():
            if self.space.is_active(name, active):
                active[name] = _nearest(settings[name], levels, log=name == RATE)
        return tuple(active.get(name) for name in self.levels)

    def params(self, key: Key) -> dict[str, Value]:
        """Return the parameters of a configuration."""
        return {name: value for name, value in zip(self.levels, key, strict=True) if value is not None}

    def part(self, **fixed: Value) -> Table:
        """Return the configurations with these settings."""
        kept = {
            key: row for key, row in self.rows.items() if fixed.items() <= self.space.settings(self.params(key)).items()
        }
        return replace(self, rows=kept)

    def metrics(self, key: Key, size: int) -> dict[str, float]:
        """Return the results of a committee, and its number of parameters."""
        row = self.rows[key]
        return {
            "validation_accuracy": row.validation[size],
            "test_accuracy": row.test[size],
            "parameters": float(size * self._parameters[key]),
        }

    @functools.cached_property
    def _parameters(self) -> Mapping[Key, int]:
        space, length = self.space, self.space.tokenizer.length
        shapes = {
            key: Architecture.of(space.settings(self.params(key)), vocabulary=VOCABULARY, positions=length)
            for key in self.rows
        }
        return {key: shape.classifier_parameters(LABELS) for key, shape in shapes.items()}


def read_table(file: Path, space: Path) -> Table:
    """Read the results that `tabulated.py` wrote for a space."""
    table = Table(load_space(space), {})
    found: dict[Key, list[Mapping[str, str]]] = {}
    with file.open(newline="", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            key = tuple(_value(line[name], levels) for name, levels in table.levels.items())
            found.setdefault(key, []).append(line)
    return replace(table, rows={key: _row(lines) for key, lines in found.items()})


def _value(text: str, levels: Sequence[Value]) -> Value | None:
    return type(levels[0])(text) if text else None


def _row(lines: Sequence[Mapping[str, str]]) -> Row:
    last = max(lines, key=lambda line: int(line["members"]))
    return Row(
        validation={int(line["members"]): float(line["validation_accuracy"]) for line in lines},
        test={int(line["members"]): float(line["test_accuracy"]) for line in lines},
        pretraining_seconds=float(last["pretraining_seconds"]),
        finetuning_seconds=float(last["finetuning_seconds"]),
    )


def _nearest(value: Value, levels: Sequence[Value], *, log: bool) -> Value:
    if isinstance(value, str):
        return value
    return min(levels, key=lambda level: abs(math.log(float(level) / value) if log else float(level) - value))


@dataclass
class Replay:
    """The members of one study on the table: how many were ``trained``, and in how many ``seconds``."""

    table: Table
    stored: set[Any] = field(default_factory=set)
    trained: int = 0
    seconds: float = 0.0

    def rungs(self, settings: Mapping[str, Value]) -> Iterator[Rung]:
        """Yield what `run_trial` would yield for a trial."""
        key = self.table.key(settings)
        before, members = self.trained, int(settings["committee_size"])
        for size in rungs(members):
            for member in range(size):
                self._obtain(key, member)
            trained = self.trained - before
            yield Rung(
                size=size,
                done=size == members,
                metrics=self.table.metrics(key, size),
                frontier=(),
                members=[],
                trained=trained,
                reused=size - trained,
                tokens=0,
                seconds=0.0,
            )

    def _obtain(self, key: Key, member: int) -> None:
        if (key, member) in self.stored:
            return
        row, params = self.table.rows[key], self.table.params(key)
        encoder = tuple(params[name] for name in ("depth", "width", "pretrain_size"))
        if (encoder, member) not in self.stored:
            self.seconds += row.pretraining_seconds
        self.stored |= {(key, member), (encoder, member)}
        self.trained += 1
        self.seconds += row.finetuning_seconds
