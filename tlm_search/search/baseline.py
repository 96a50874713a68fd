"""The linear baseline of a study: fitted once, stored, and noted in the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tlm_search.committee.calibration import BIASED
from tlm_search.committee.frontier import alone_on_validation, frontier
from tlm_search.committee.metrics import ACCURACY, Metric, metric_of, metric_words
from tlm_search.committee.scores import CommitteeScores
from tlm_search.data.prepare import read_task
from tlm_search.data.prepared import LABELS, PreparedData
from tlm_search.data.rows import Task
from tlm_search.digest import digest
from tlm_search.errors import DataError, StoreError, UserError
from tlm_search.members.baseline import KIND, UNWEIGHTED, baseline_digest, fit_baseline
from tlm_search.members.simulated import simulated_baseline
from tlm_search.search.ledger import Ledger
from tlm_search.space.parameters import Choices, Range
from tlm_search.space.schema import Space
from tlm_search.space.settings import CLASS_WEIGHTS, weights_of_labels
from tlm_search.store.local import Entry, Store
from tlm_search.study.record import BASELINE

Announce = Callable[[str], None]


def note_baseline(ledger: Ledger, data: PreparedData, store: Store, task: Task | None, announce: Announce) -> bool:
    """Note the linear baseline in the study, unless it has one or the space turns it off; return whether it was noted.

    Pass the ``task`` if it was just read; otherwise it is read again. A failure is announced in one line and does not
    stop the run, because a study can do without a baseline.
    """
    space, noted = ledger.space, ledger.noted(BASELINE)
    if space.baseline == "none":
        return False
    try:
        if noted is not None and store.read(KIND, noted["digest"]) is not None:
            return False
        _check_same_task(ledger.noted("data"), data)
        metric = metric_of(space.task, data.labels)
        if not space.reads_data:
            entry = _simulated(data, store, metric)
        else:
            task = task or read_task(space, store.root, progress=announce)
            _check_same_rows(task, data)
            weights = class_weights_of(space, data.labels)
            entry = obtain_baseline(task, store=store, metric=metric, class_weights=weights, announce=announce)
        attributes = _attributes(entry)
    except Exception as error:  # memory, missing sources, errors of scikit-learn on strange texts
        why = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        announce(f"no linear baseline: {' '.join(why.split())}")
        return False
    if noted == attributes:
        return False
    ledger.note(BASELINE, attributes)
    reached = attributes["metrics"][f"validation_{metric.name}"]
    how = f"{attributes['features']}, C = {attributes['c']:g}, {attributes['seconds']:.1f} s"
    announce(f"linear baseline: validation {metric_words(metric.name)} {reached:.4f} ({how})")
    return True


def obtain_baseline(
    task: Task,
    *,
    store: Store,
    metric: Metric = ACCURACY,
    class_weights: Sequence[str] = UNWEIGHTED,
    announce: Announce = lambda line: None,
) -> Entry:
    """Return the baseline of ``task`` that is best by ``metric``, from the store or fitted and stored now.

    Each of the ``class_weights`` is tried. The document says what was chosen and what it reaches. ``logits`` holds the
    log-probabilities of the validation and test texts, float32 (rows, labels), and ``model`` the model.

    Raises:
        ValueError: the training texts have only one label, or no features.
        StoreError: the store cannot be read or written.
    """
    judged_by = None if metric == ACCURACY else _judged_by(metric)
    name = baseline_digest(task, judged_by=judged_by, class_weights=class_weights)
    with store.lock(KIND, name):
        entry = store.read(KIND, name)
        if entry is None:
            announce(f"fitting the linear baseline to {len(task.train.texts):,} texts")
            fit = fit_baseline(task, score=partial(alone_on_validation, metric=metric), class_weights=class_weights)
            logits = {part: fit.model.log_probabilities(getattr(task, part).texts) for part in ("validation", "test")}
            facts = {
                "features": fit.model.features,
                "c": fit.strength,
                "vocabulary": len(fit.model.vocabulary),
                "parameters": fit.model.weights.size + fit.model.intercepts.size,
                "tried": fit.tried,
                "seconds": round(fit.seconds, 3),
                "task": task.name,
            }
            labels = {part: np.asarray(getattr(task, part).labels) for part in logits}
            document = {**facts, "frontier": _frontier(logits, labels, metric)}
            entry = store.write(KIND, name, document, {"logits": logits, "model": fit.model.arrays()})
    return entry


def _attributes(entry: Entry) -> dict[str, Any]:
    """Return what a study stores of its baseline, as JSON."""
    document = entry.document
    [stored] = document["frontier"]
    metrics = {**CommitteeScores.from_stored(stored).metrics(), "training_seconds": document["seconds"]}
    if "parameters" in document:
        metrics["parameters"] = document["parameters"]
    facts = {name: document[name] for name in ("features", "c", "vocabulary", "tried", "seconds", "frontier")}
    return {"digest": entry.digest, **facts, "metrics": metrics}


def _simulated(data: PreparedData, store: Store, metric: Metric) -> Entry:
    judged_by = [] if metric == ACCURACY else [_judged_by(metric)]
    name = digest(["simulated baseline", len(data.labels), *judged_by])
    entry = store.read(KIND, name)
    if entry is None:
        logits = simulated_baseline(data)
        labels = {split: data.true_labels(split) for split in logits}
        facts = {"features": "simulated words", "c": 1.0, "vocabulary": 0, "tried": 1, "seconds": 0.0}
        entry = store.write(KIND, name, {**facts, "frontier": _frontier(logits, labels, metric)}, {"logits": logits})
    return entry


def class_weights_of(space: Space, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the class weights that a member of the study may have, for these ``labels``.

    Raises:
        DataError: weights lack a label, or have a label that the data lack.
    """
    given = space.search.get(CLASS_WEIGHTS, "none")
    values = given.choices if isinstance(given, Choices) else (given,)
    of_reference = (space.reference_settings() or {}).get(CLASS_WEIGHTS, "none")
    try:
        weights_of_labels(of_reference, labels)
        return tuple(weights_of_labels(value, labels) for value in values if not isinstance(value, Range))
    except ValueError as error:
        raise DataError(
            f"search.class_weights: {error}", hint=f"the labels of the data are: {', '.join(labels)}"
        ) from error


def _judged_by(metric: Metric) -> list[Any]:
    return [metric.name, metric.positive, *(["bias"] if metric.name in BIASED else [])]


def _frontier(logits: Mapping[str, Any], labels: Mapping[str, Any], metric: Metric) -> list[dict[str, Any]]:
    """Return the stored frontier of a committee of one, computed as for all committees."""
    validation, test = (logits[part][None] for part in ("validation", "test"))
    scores = frontier(validation, test, labels["validation"], labels["test"], metric=metric)
    return [of_one.stored() for of_one in scores]


def _check_same_task(noted: Mapping[str, Any], data: PreparedData) -> None:
    if noted["task_fingerprint"] != data.task_fingerprint:
        raise StoreError("the texts of the task have changed since the study began")


def _check_same_rows(task: Task, data: PreparedData) -> None:
    """Refuse texts that differ from the prepared data, because rows could not be compared."""
    for part in ("validation", "test"):
        if list(getattr(task, part).labels) != np.load(data.folder(part) / LABELS).tolist():
            raise StoreError("the texts of the task have changed since they were prepared")
