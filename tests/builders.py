"""Synthetic studies for tests: members with made-up logits, and the records that a real study would hold of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.frontier import frontier
from tlm_search.committee.scores import CommitteeScores
from tlm_search.data.prepared import PreparedData
from tlm_search.space.schema import Space
from tlm_search.space.settings import complete
from tlm_search.study.record import BASELINE_NUMBER, REFERENCE_NUMBER, BaselineRecord, StudyRecord, TrialRecord

CLASSES = 5
START = datetime(2026, 1, 1, 12)
SEARCH: dict[str, Any] = {
    "depth": {"choices": [1, 2]},
    "heads": {"choices": [2, 4, 8]},
    "pretrain_size": {"choices": [0, 1000, 4000]},
    "finetune_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "role": "nuisance"},
    "committee_size": {"choices": [1, 2, 4, 8]},
}
REFERENCE = {"depth": 6, "heads": 8, "pretrain_size": 4000, "finetune_learning_rate": 1e-3}


def prepared_data(root: Path, **facts: Any) -> PreparedData:
    """The data of a study in folders directly below ``root``; ``facts`` are the values that matter to a test."""
    plain: dict[str, Any] = {
        "tokenizer": "tokenizer",
        "corpus": None,
        "train": "train",
        "validation": "validation",
        "test": "test",
        "documents": 0,
        "rows": {},
        "tokens": {},
        "special": {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
        "task_fingerprint": "task",
        "tokenizer_fingerprint": "tokenizer",
        "corpus_fingerprint": "corpus",
        "corpus_name": "made-up texts",
        "task_name": "made-up task",
    }
    return PreparedData(root=root, **{**plain, **facts})


def labels_of(rows: int) -> NDArray[np.int64]:
    return np.arange(rows) % CLASSES


def logits_of(skill: float, *, members: int, rows: int, seed: int = 0) -> NDArray[np.float32]:
    """Logits of members that are better where ``skill`` is higher. All members find the same rows difficult."""
    labels = labels_of(rows)
    shared = np.random.default_rng(rows).normal(size=(rows, CLASSES))
    own = np.stack([np.random.default_rng((seed, i)).normal(size=(rows, CLASSES)) for i in range(members)])
    logits = shared + own * 1.2
    logits[:, np.arange(rows), labels] += skill
    return logits.astype(np.float32)


def frontier_of(skill: float, *, members: int, rows: int = 200, seed: int = 0) -> tuple[CommitteeScores, ...]:
    return _frontier(skill, members, rows, seed)


@functools.cache
def _frontier(skill: float, members: int, rows: int, seed: int) -> tuple[CommitteeScores, ...]:
    return frontier(
        logits_of(skill, members=members, rows=rows, seed=seed),
        logits_of(skill, members=members, rows=rows + 1, seed=seed),
        labels_of(rows),
        labels_of(rows + 1),
    )


def skill_of(settings: Mapping[str, Any]) -> float:
    rate = abs(np.log10(float(settings["finetune_learning_rate"])) + 3)
    skill = (
        0.9
        + 0.35 * np.log2(float(settings["heads"]))
        + 0.25 * np.log2(float(settings["depth"]))
        + 0.12 * np.log10(1 + float(settings["pretrain_size"]))
        - 0.4 * rate
    )
    return round(float(skill), 1)  # few different values, because each frontier is computed once per value


def seed_of(number: int) -> int:
    return number % 3


def trial(number: int = 0, *, rows: int = 200, state: str = "complete", **params: Any) -> TrialRecord:
    """A trial whose numbers follow from its parameters."""
    given = {"depth": 1, "heads": 4, "pretrain_size": 0, "finetune_learning_rate": 1e-3, "committee_size": 2, **params}
    settings = complete(given)
    members = int(settings["committee_size"])
    width, depth = int(settings["width"]), int(settings["depth"])
    records = frontier_of(skill_of(settings), members=members, rows=rows, seed=seed_of(number))
    reached = records[-1].figures
    flops = members * 1e9 * depth * width * (1 + int(settings["pretrain_size"]) / 1000)
    metrics = {
        "validation_accuracy": reached["validation_accuracy"],
        "test_accuracy": reached["test_accuracy"],
        "validation_cross_entropy": reached["validation_cross_entropy"],
        "test_cross_entropy": reached["test_cross_entropy"],
        "test_macro_f1": reached["test_macro_f1"],
        "test_calibration_error": reached["test_calibration_error"],
        "test_accuracy_low": reached["test_accuracy_low"],
        "test_accuracy_high": reached["test_accuracy_high"],
        "latency_ms": 0.2 + 0.002 * depth * width * (0.6 + 0.4 * members),
        "parameters": float(members * (4096 * width + depth * 12 * width * width)),
        "training_flops": flops,
        "training_seconds": flops / 2e10,
    }
    started = START + timedelta(seconds=20 * max(number, 0))
    done = state in ("complete", "pruned", "failed")
    return TrialRecord(
        number=number,
        state=state,  # type: ignore[arg-type]
        params=given,
        settings=settings,
        values=(reached["validation_accuracy"],) if state == "complete" else (),
        metrics=metrics if state in ("complete", "pruned") else {},
        frontier=records if state in ("complete", "pruned") else (),
        members=tuple(f"{number + 2:016x}{i:016x}" for i in range(members)),
        trained=members - members // 2,
        reused=members // 2,
        seconds=metrics["training_seconds"] * 0.6,
        error="DivergedError: the loss is not a number" if state == "failed" else None,
        started=started if state != "waiting" else None,
        finished=started + timedelta(seconds=15) if done else None,
        rungs={size: records[size - 1].figures["validation_accuracy"] for size in (1, 2, 4, 8) if size <= members},
    )


def reference(*, rows: int = 200, **params: Any) -> TrialRecord:
    return trial(REFERENCE_NUMBER, rows=rows, **{**REFERENCE, "committee_size": 1, **params})


def space(**changes: Any) -> Space:
    document: dict[str, Any] = {
        "name": "tiny-committees",
        "description": "Which committee of shallow models does the work of a deep one?",
        "search": SEARCH,
        "reference": REFERENCE,
        "budget": {"trials": 24},
        **changes,
    }
    return Space.from_document(document)


def baseline(skill: float = 0.6, *, rows: int = 200) -> BaselineRecord:
    """A linear model; the higher its ``skill``, the better."""
    record = frontier_of(skill, members=1, rows=rows, seed=9)[0]
    names = ("validation_accuracy", "test_accuracy", "validation_cross_entropy", "test_cross_entropy", "test_macro_f1")
    return BaselineRecord(
        number=BASELINE_NUMBER,
        state="complete",
        metrics={**{name: record.figures[name] for name in names}, "parameters": 5005.0, "training_seconds": 0.4},
        frontier=(record,),
        members=("linear",),
        seconds=0.4,
        features="words",
        c=10.0,
        vocabulary=1000,
        tried=6,
    )


def study(
    trials: Sequence[TrialRecord] | None = None,
    *,
    reference_trial: TrialRecord | None = None,
    linear: BaselineRecord | None = None,
    name: str = "tiny-committees",
    folder: Path = Path("studies/tiny-committees"),
    labels: Sequence[str] = ("numpy", "pandas", "torch", "ray", "optuna"),
    **changes: Any,
) -> StudyRecord:
    resolved = space(**changes)
    return StudyRecord(
        name=name,
        folder=folder,
        space=resolved,
        directions=tuple(objective.direction for objective in resolved.objectives),
        objectives=tuple(objective.metric for objective in resolved.objectives),
        trials=tuple(grid(24) if trials is None else trials),
        reference=reference_trial,
        labels=tuple(labels),
        data={
            "corpus_name": "pydocs",
            "task_name": "pydocs",
            "documents": 4000,
            "rows": {"train": 500},
            "vocabulary": 4096,
            "length": 64,
        },
        versions={"python": "3.11.7", "torch": "2.12.0", "tlm-search": "0.1.0"},
        baseline=linear,
    )


@functools.cache
def grid(count: int, *, rows: int = 200, members: tuple[int, ...] = (1, 2, 4, 8)) -> tuple[TrialRecord, ...]:
    """``count`` trials over the space. A few of them are pruned or failed, as in a real search."""
    points = itertools.product((1, 2), (2, 4, 8), (0, 1000, 4000), (1e-3, 3e-3, 4e-4), members)
    shuffled = np.random.default_rng(0).permutation(np.array(list(points)))
    records = []
    for number in range(count):
        depth, heads, size, rate, committee = shuffled[number % len(shuffled)]
        state = "failed" if number % 23 == 11 else "pruned" if number % 9 == 7 else "complete"
        records.append(
            trial(
                number,
                rows=rows,
                state=state,
                depth=int(depth),
                heads=int(heads),
                pretrain_size=int(size),
                finetune_learning_rate=float(rate) * (1 + (number // len(shuffled)) * 1e-3),
                committee_size=int(committee),
            )
        )
    return tuple(records)
