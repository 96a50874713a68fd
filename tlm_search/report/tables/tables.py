"""The tables of a report, one DataFrame for each question; the figures, the page and the CSV files are made from them.

Columns have the names of metrics and settings, with units. Rows of the reference have the trial number -1, those of the
linear baseline -3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tlm_search.committee.candidates import Candidate, candidates, configurations
from tlm_search.committee.pool import metrics_to_meet, missed
from tlm_search.digest import canonical_json
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import describe, plural
from tlm_search.report.tables.costs import COSTS, costs_of, front
from tlm_search.report.tables.ranking import best_validation, pool_of_study, ranked
from tlm_search.space.settings import SETTINGS
from tlm_search.space.task import METRICS_OF_ONE_LABEL
from tlm_search.study.record import REFERENCE_NUMBER, STATES, BaselineRecord, StudyRecord, TrialRecord

# The columns of the metric by which choices are made, its name first.
JUDGED = ("metric", "validation_metric", "test_metric", "test_metric_low", "test_metric_high")
METRICS = (
    "validation_accuracy",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "validation_cross_entropy",
    "test_cross_entropy",
    "test_macro_f1",
    "test_calibration_error",
    "latency_ms",
    "parameters",
    "training_flops",
    "training_seconds",
)
ACCURACIES = ("validation_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high")
MAX_LOSSES = 50  # configurations; reading a loss verifies the files of a member, which takes time


def configuration_words(record: StudyRecord, trial: TrialRecord, *, nuisance: bool = False) -> str:
    """Say the searched settings that matter in this trial: depth 1, 8 heads, pre-trained on 4,000.

    Nuisance settings are included only on request, or if nothing else is searched. Of the reference, the architecture
    in which it differs from all trials comes first, such as its depth.
    """
    names = searched_names(record)
    searched = record.space.searched()
    shown = names if nuisance else tuple(name for name in names if searched[name].role != "nuisance") or names
    active = [name for name in shown if record.space.is_active(name, trial.settings)]
    return describe(trial.settings, [*_of_reference_alone(record, trial), *active])


def _of_reference_alone(record: StudyRecord, trial: TrialRecord) -> list[str]:
    section, fixed, searched = record.space.reference, record.space.fixed(), record.space.searched()
    if section is None or trial.number != REFERENCE_NUMBER:
        return []
    given = {name: SETTINGS[name] for name in section.settings if name not in searched}
    return [
        name
        for name, setting in given.items()
        if setting.part == "architecture" and section.settings[name] != fixed.get(name, setting.default)
    ]


def searched_names(record: StudyRecord) -> tuple[str, ...]:
    """Return the searched settings except the committee size, scientific ones before nuisance ones."""
    searched = record.space.searched()
    names = [name for name in searched if name != "committee_size"]
    return tuple(sorted(names, key=lambda name: searched[name].role == "nuisance"))


def baseline_words(baseline: BaselineRecord) -> str:
    """Say the features and the regularisation of the linear model: TF-IDF of words, C = 10."""
    return f"TF-IDF of {baseline.features}, C = {baseline.c:g}"


def label_of(record: StudyRecord, trial: TrialRecord) -> str:
    """Name a configuration in one line."""
    if isinstance(trial, BaselineRecord):
        return f"linear model: {baseline_words(trial)}"
    if trial is record.reference:
        return f"reference: {configuration_words(record, trial)}"
    words = configuration_words(record, trial)
    return f"#{trial.number}: {words}" if words else f"#{trial.number}"


def trials_table(record: StudyRecord) -> pd.DataFrame:
    """Return every trial: its state, parameters, metrics, members, times and error."""
    names = tuple(record.space.searched())
    rows = []
    for trial in record.trials:
        known: Mapping[str, Any] = trial.params or {name: trial.settings.get(name) for name in names}
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state,
                **{name: known.get(name) for name in names},
                **_judged_trial(trial, record.space.task.metric),
                **{name: trial.metrics.get(name) for name in METRICS},
                "feasible": _feasible(record, trial),
                "members_trained": trial.trained,
                "members_reused": trial.reused,
                "seconds": trial.seconds,
                "started": trial.started,
                "finished": trial.finished,
                "interrupted": trial.interrupted,
                "retry_of": trial.retry_of,
                "error": trial.error,
            }
        )
    columns = ["trial", "state", *names, *JUDGED, *METRICS, "feasible", "members_trained", "members_reused", "seconds"]
    columns += ["started", "finished", "interrupted", "retry_of", "error"]
    return pd.DataFrame(rows, columns=columns).astype({"retry_of": "Int64"})


def frontiers_table(record: StudyRecord) -> pd.DataFrame:
    """Return the metrics of each configuration by committee size, in the order of ``ranked``.

    The reference and the baseline come last. ``eligible`` marks the committees that the answer may choose.
    """
    eligible = {(c.trial.number, c.size) for sizes in pool_of_study(record).by_trial for c in sizes}
    rows: list[dict[str, Any]] = []
    for rank, trial in enumerate([*ranked(record), *_rivals(record)]):
        facts = {
            "trial": trial.number,
            "rank": None if trial.number < 0 else rank,
            "configuration": label_of(record, trial),
        }
        facts["pretrain_size"] = _pretrain_size(trial)
        before: float | None = None
        for candidate in candidates(trial):
            gain = None if before is None else candidate.test_metric - before
            rows.append(
                {
                    **facts,
                    "size": candidate.size,
                    "subsets": candidate.scores.subsets,
                    **candidate.scores.figures,
                    **_judged(candidate),
                    **costs_of(record, candidate),
                    "eligible": (trial.number, candidate.size) in eligible,
                    "test_gain": gain,
                }
            )
            before = candidate.test_metric
    columns = [
        "trial",
        "rank",
        "configuration",
        "pretrain_size",
        "size",
        "eligible",
        *JUDGED,
        "validation_accuracy",
        "validation_accuracy_low",
        "validation_accuracy_high",
        "test_accuracy",
        "test_accuracy_low",
        "test_accuracy_high",
    ]
    columns += ["subset_low", "subset_high", "subsets", "test_gain"]
    columns += ["validation_cross_entropy", "test_cross_entropy", "test_macro_f1", "test_calibration_error"]
    columns += [f"test_{name}" for name in METRICS_OF_ONE_LABEL if record.space.task.positive is not None]
    columns += COSTS
    return pd.DataFrame(rows, columns=columns).astype(
        {"rank": "Int64", "eligible": "bool", **dict.fromkeys(COSTS, "float64")}
    )


def tradeoffs_table(record: StudyRecord) -> pd.DataFrame:
    """Return every committee of every configuration with its costs, and whether it is on a Pareto front.

    ``whole`` marks the committee of all members, ``allowed`` the committees within the constraints of the study.
    ``front_<cost>`` is true if no other allowed committee has at least its metric on validation at a lower cost. Test
    has no influence.
    """
    rows = []
    goal = metrics_to_meet(record.reference)
    for trial in [*configurations(record.trials), *_rivals(record)]:
        label = label_of(record, trial)
        for candidate in candidates(trial):
            rows.append(
                {
                    "trial": trial.number,
                    "configuration": label,
                    "size": candidate.size,
                    "whole": candidate.size == len(trial.frontier),
                    "allowed": not missed(candidate, record.space.constraints, goal),
                    **_judged(candidate),
                    **{name: candidate.scores.figures[name] for name in ACCURACIES},
                    **costs_of(record, candidate),
                }
            )
    columns = ["trial", "configuration", "size", "whole", "allowed", *JUDGED, *ACCURACIES, *COSTS]
    table = pd.DataFrame(rows, columns=columns).astype({"allowed": "bool", **dict.fromkeys(COSTS, "float64")})
    for cost in COSTS:
        table[f"front_{cost}"] = front(table, cost)
    return table


def _judged(candidate: Candidate) -> dict[str, Any]:
    values = candidate.validation_metric, candidate.test_metric, *candidate.test_interval
    return dict(zip(JUDGED, (candidate.metric, *values), strict=True))


def _judged_trial(trial: TrialRecord, metric: str) -> dict[str, Any]:
    names = (f"validation_{metric}", *(f"test_{metric}{end}" for end in ("", "_low", "_high")))
    return dict(zip(JUDGED, (metric, *(trial.metrics.get(name) for name in names)), strict=True))


def pretraining_table(record: StudyRecord, evidence: Evidence) -> pd.DataFrame:
    """Return the metrics of single members by size of pre-training, one row for each configuration.

    Single members can be compared although committees differ in size. ``pair`` is equal for configurations that differ
    only in pre-training. ``gain`` is the metric minus that of the configuration of the pair without pre-training.
    ``pretraining_loss`` is in nats per masked token, for the best configurations. The best on validation comes first.
    """
    trials = sorted(configurations(record.trials), key=lambda trial: -best_validation(trial))
    without = {_pair(trial): candidates(trial)[0].test_metric for trial in trials if not _pretrain_size(trial)}
    pairs = {key: index for index, key in enumerate(dict.fromkeys(_pair(trial) for trial in trials))}
    rows = []
    for rank, trial in enumerate(trials):
        single, size = candidates(trial)[0], _pretrain_size(trial)
        base = without.get(_pair(trial)) if size else None
        rows.append(
            {
                "trial": trial.number,
                "configuration": label_of(record, trial),
                "pair": pairs[_pair(trial)],
                "pretrain_size": size,
                **_judged(single),
                **{name: single.scores.figures[name] for name in ACCURACIES},
                "gain": None if base is None else single.test_metric - base,
                "pretraining_loss": evidence.pretraining_loss(trial) if size and rank < MAX_LOSSES else None,
            }
        )
    columns = ["trial", "configuration", "pair", "pretrain_size", *JUDGED, *ACCURACIES, "gain", "pretraining_loss"]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({"gain": "float64", "pretraining_loss": "float64"})


def overlap_table(pretraining: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Return for each size of pre-training how much of the task its text covers, and its gain.

    ``type_share`` and ``token_share`` are shares of the task's types and tokens (types weighted by frequency). ``gain``
    is the mean gain of single members on test over pairs that differ only in pre-training; it is missing without such a
    pair.
    """
    overlaps = evidence.overlaps(int(size) for size in pretraining["pretrain_size"].unique())
    rows = []
    for size, (types, tokens) in sorted(overlaps.items()):
        gains = pretraining.loc[pretraining["pretrain_size"] == size, "gain"].dropna()
        rows.append((size, types, tokens, gains.mean(), len(gains)))
    columns = ["pretrain_size", "type_share", "token_share", "gain", "pairs"]
    return pd.DataFrame(rows, columns=columns).astype({"gain": "float64"})


def outcomes_table(record: StudyRecord) -> pd.DataFrame:
    """Return the number of trials in each state, by reason: the first line of the error, or the constraints missed."""
    counts: Counter[tuple[str, str]] = Counter()
    for trial in record.trials:
        if trial.interrupted:
            counts["interrupted", "run again as a new trial"] += 1
        else:
            lines = (trial.error or "").strip().splitlines()
            reason = (lines[0] if lines else "no reason was recorded") if trial.state == "failed" else ""
            if trial.state == "pruned":
                reason = f"stopped by the {record.space.pruner.name} pruner after {_seen(trial)}"
            if missed := _missed(record, trial):
                reason = f"infeasible: misses {' and '.join(missed)}"
            counts[trial.state, reason] += 1
    order = [*STATES, "interrupted"]
    rows = sorted(counts.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0][1]))
    total = max(len(record.trials), 1)
    return pd.DataFrame(
        [(state, reason, count, count / total) for (state, reason), count in rows],
        columns=["state", "reason", "trials", "share"],
    )


def _seen(trial: TrialRecord) -> str:
    return plural(max(trial.rungs), "member") if trial.rungs else "its first members"


def _rivals(record: StudyRecord) -> Sequence[TrialRecord]:
    """Return the reference and the baseline, if they have results."""
    rivals = (record.reference, record.baseline)
    return [rival for rival in rivals if rival is not None and rival.state == "complete" and rival.frontier]


def _pretrain_size(trial: TrialRecord) -> int:
    return int(trial.settings.get("pretrain_size", 0))


def _pair(trial: TrialRecord) -> str:
    """Return a key that is equal for configurations that differ only in their pre-training."""
    return canonical_json(
        {
            name: value
            for name, value in trial.settings.items()
            if name not in ("committee_size", "masking_probability") and not name.startswith("pretrain_")
        }
    )


def _feasible(record: StudyRecord, trial: TrialRecord) -> bool | None:
    missed = _missed(record, trial)
    return None if missed is None else not missed


def _missed(record: StudyRecord, trial: TrialRecord) -> list[str] | None:
    """Return the constraints that a complete trial misses; None if that is unknown."""
    if trial.state != "complete":
        return None
    reference = metrics_to_meet(record.reference)
    try:
        return [str(c) for c in record.space.constraints if c.violation(trial.metrics, reference) > 0]
    except KeyError:  # the trial lacks the metric
        return None
