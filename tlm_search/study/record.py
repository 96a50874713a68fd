"""A study as plain data: the trials and attributes that ``status``, ``best`` and ``report`` read. No torch, no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from tlm_search.committee.interval import widened
from tlm_search.committee.metrics import interval_keys
from tlm_search.committee.scores import CommitteeScores
from tlm_search.errors import StudyError
from tlm_search.space.schema import Space
from tlm_search.space.settings import SETTINGS, Value

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

State = Literal["complete", "pruned", "failed", "running", "waiting"]

STATES: tuple[State, ...] = ("complete", "pruned", "failed", "running", "waiting")
REFERENCE_NUMBER, STUDENT_NUMBER, BASELINE_NUMBER, CONFIRMATION_NUMBER, MIXED_NUMBER = -1, -2, -3, -4, -5
REFERENCE, REFERENCE_TRY = "reference", "reference try "  # attributes of a study; a number from 1 follows the second
BASELINE = "baseline"  # attribute with the linear baseline
# Prefixes of the attributes with students and confirmations of committees.
STUDENT, CONFIRMATION = "student", "confirmation"
_DEFAULTS = {name: setting.default for name, setting in SETTINGS.items() if setting.default is not None}
SEED_SPREAD = "seed_spread"  # attribute with the spread of single models over seeds, by metric
IMPORTED_FROM = "imported_from"  # attribute of another study's trial, which only the sampler reads


@dataclass(frozen=True)
class TrialRecord:
    """A trial, or with a ``number`` below 0 another result.

    These are the reference (-1), students (-2), the linear baseline (-3), a confirmation (-4), a mixed committee (-5).

    ``settings`` are complete, ``params`` are the searched settings. ``values`` are in the order of the objectives.
    ``metrics`` describe the whole committee. ``frontier`` has the scores of each committee size. ``members`` are
    digests in the order of their seeds; the trial ``trained`` some members and ``reused`` others from the store.
    ``rungs`` maps committee sizes to the first objective as reported to the pruner. ``error`` is the reason of a
    failure. ``interrupted`` means that the driver died; such a trial does not count as finished.
    """

    number: int
    state: State
    params: Mapping[str, Value] = field(default_factory=dict)
    settings: Mapping[str, Value] = field(default_factory=dict)
    values: tuple[float, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    frontier: tuple[CommitteeScores, ...] = ()
    members: tuple[str, ...] = ()
    trained: int = 0
    reused: int = 0
    seconds: float | None = None
    error: str | None = None
    interrupted: bool = False
    retry_of: int | None = None
    started: datetime | None = None
    finished: datetime | None = None
    rungs: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StudentRecord:
    """Students of the first ``size`` members of the trial with number ``trial``.

    ``result`` has the students, which differ in their seeds, as members (the best on validation first), and their
    committees of each size. Students also learned from the committee's answers to ``documents`` texts of the corpus.
    Students of a ``mixed`` committee have the configuration of ``trial``; ``mixed`` says ``how`` the ``members`` of the
    committee were chosen, and their ``weights``. ``flops`` and ``seconds`` are the cost of a student in addition to the
    training of its committee.
    """

    trial: int
    size: int
    documents: int
    result: TrialRecord
    mixed: Mapping[str, Any] | None = None

    @property
    def flops(self) -> float:
        """The floating-point operations of the committee's answers and of fine-tuning a student on them."""
        return self.result.metrics["distilling_flops"] / len(self.result.members)

    @property
    def seconds(self) -> float:
        """The seconds of the committee's answers and of fine-tuning a student on them."""
        return self.result.metrics["distilling_seconds"] / len(self.result.members)


@dataclass(frozen=True)
class ConfirmationRecord:
    """Committees of ``size`` members of the trial with number ``trial`` (-1: the reference), trained with fresh seeds.

    ``result`` has at least ``size`` members. No choice depended on them.
    """

    trial: int
    size: int
    result: TrialRecord


@dataclass(frozen=True)
class BaselineRecord(TrialRecord):
    """The linear model on the same rows, as a committee of one member.

    Its digest names an entry of kind ``baselines``. ``features`` is the kind of features, ``c`` the inverse of the
    regularisation that validation chose from ``tried`` fits, and ``vocabulary`` the number of features. ``seconds`` is
    the total of all fits.
    """

    features: str = ""
    c: float = 1.0
    vocabulary: int = 0
    tried: int = 0


@dataclass(frozen=True)
class StudyRecord:
    """The state of a study at a moment. ``objectives`` are names of metrics, ``directions`` their directions.

    If several trials tune the reference, ``reference_tries`` has the finished tries in order, and ``reference`` is the
    best of them, or None until all have finished. The list is empty in older studies, and for a single try.
    ``baseline`` is None if the space turns it off, if it failed, and in studies of older versions. Intervals of trials
    with a single member include the uncertainty of test texts. If the study ``counts_seeds``, they also include that of
    seeds, measured by the differences between members of its committees.
    """

    name: str
    folder: Path
    space: Space
    directions: tuple[str, ...]
    objectives: tuple[str, ...]
    trials: tuple[TrialRecord, ...]
    reference: TrialRecord | None
    labels: tuple[str, ...]
    data: Mapping[str, Any]
    versions: Mapping[str, Any]
    students: tuple[StudentRecord, ...] = ()
    reference_tries: tuple[TrialRecord, ...] = ()
    baseline: BaselineRecord | None = None
    confirmations: tuple[ConfirmationRecord, ...] = ()
    counts_seeds: bool = False

    @property
    def everything_run(self) -> tuple[TrialRecord, ...]:
        """All results with members: trials, tries of the reference, students, confirmations."""
        students = [student.result for student in self.students]
        confirmed = [confirmation.result for confirmation in self.confirmations]
        return (*self.everything_searched, *students, *confirmed)

    @property
    def everything_searched(self) -> tuple[TrialRecord, ...]:
        """The results of the search: trials and tries of the reference."""
        reference = () if self.reference is None else (self.reference,)
        return (*self.trials, *(self.reference_tries or reference))

    def confirmed(self, number: int, size: int) -> TrialRecord | None:
        """Return the confirmation of a trial's committee (-1: the reference), or None."""
        found = (entry.result for entry in self.confirmations if (entry.trial, entry.size) == (number, size))
        return next(found, None)

    def numbered(self, number: int) -> TrialRecord | None:
        """Return the trial with this number (-1: the reference), or None."""
        known = [*self.trials, *([self.reference] if self.reference is not None else [])]
        return next((trial for trial in known if trial.number == number), None)

    def in_state(self, state: State) -> tuple[TrialRecord, ...]:
        """Return the trials in ``state``, without interrupted trials that ran again."""
        return tuple(trial for trial in self.trials if trial.state == state and not trial.interrupted)


def record_of(study: Study, folder: Path) -> StudyRecord:
    """Read ``study`` once and return it as plain data.

    Raises:
        StudyError: this program did not make the study.
    """
    attributes = study.user_attrs
    if "space" not in attributes:
        raise StudyError(
            f"{folder}: the Optuna study {study.study_name!r} holds no space, so tlm-search did not make it",
            hint="give a folder that tlm-search run created",
        )
    space = Space.from_document(attributes["space"], stored=True)
    record = StudyRecord(
        name=study.study_name,
        folder=folder,
        space=space,
        directions=tuple(direction.name.lower() for direction in study.directions),
        objectives=tuple(objective.metric for objective in space.objectives),
        trials=tuple(
            trial_of(trial) for trial in study.get_trials(deepcopy=False) if IMPORTED_FROM not in trial.user_attrs
        ),
        reference=_reference(attributes.get(REFERENCE)),
        labels=tuple(attributes.get("labels", ())),
        data=attributes.get("data", {}),
        versions=attributes.get("versions", {}),
        students=_students(attributes),
        reference_tries=_reference_tries(attributes),
        baseline=None if space.baseline == "none" else _baseline(attributes.get(BASELINE)),
        confirmations=_confirmations(attributes),
    )
    return _counting_seeds(record, attributes.get(SEED_SPREAD))


def trial_of(trial: FrozenTrial) -> TrialRecord:
    """Return an Optuna trial as plain data. Missing attributes are empty."""
    attributes = trial.user_attrs
    state = trial.state.name.lower()
    return TrialRecord(
        number=trial.number,
        state=cast(State, "failed" if state == "fail" else state),
        params=dict(trial.params),
        values=tuple(trial.values or ()),
        retry_of=attributes.get("retry_of"),
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        rungs=dict(trial.intermediate_values),
        **_results(attributes),
    )


def _reference(attributes: Mapping[str, Any] | None) -> TrialRecord | None:
    if attributes is None:
        return None
    state: State = "failed" if attributes.get("error") else "complete"
    return TrialRecord(number=REFERENCE_NUMBER, state=state, **_results(attributes))


def _reference_tries(attributes: Mapping[str, Any]) -> tuple[TrialRecord, ...]:
    noted = {
        int(name.removeprefix(REFERENCE_TRY)): value
        for name, value in attributes.items()
        if name.startswith(REFERENCE_TRY)
    }
    tries = (_reference(noted[number]) for number in sorted(noted))
    return tuple(record for record in tries if record is not None)


def _baseline(attributes: Mapping[str, Any] | None) -> BaselineRecord | None:
    if attributes is None:
        return None
    facts = {name: attributes[name] for name in ("features", "c", "vocabulary", "tried", "seconds", "metrics")}
    return BaselineRecord(
        number=BASELINE_NUMBER,
        state="complete",
        frontier=tuple(map(CommitteeScores.from_stored, attributes["frontier"])),
        members=(attributes["digest"],),
        **facts,
    )


def _students(attributes: Mapping[str, Any]) -> tuple[StudentRecord, ...]:
    kept = [value for name, value in attributes.items() if name.startswith(f"{STUDENT} ")]
    students = (
        StudentRecord(
            trial=value["trial"],
            size=value["size"],
            documents=value["documents"],
            result=TrialRecord(number=STUDENT_NUMBER, state="complete", **_results(value)),
            mixed=value.get("mixed"),
        )
        for value in kept
    )
    return tuple(sorted(students, key=lambda student: (student.trial, student.size, student.documents)))


def _confirmations(attributes: Mapping[str, Any]) -> tuple[ConfirmationRecord, ...]:
    return tuple(
        ConfirmationRecord(
            value["trial"],
            value["size"],
            TrialRecord(number=CONFIRMATION_NUMBER, state="complete", **_results(value)),
        )
        for name, value in attributes.items()
        if name.startswith(f"{CONFIRMATION} ")
    )


def _counting_seeds(record: StudyRecord, spread: Mapping[str, Any] | None) -> StudyRecord:
    """Widen the intervals of single models by the spread over seeds, for each metric."""
    if spread is None:
        return record
    half_widths = {name: value for name, value in spread.items() if name != "of"}

    def of(trial: TrialRecord) -> TrialRecord:
        if len(trial.members) != 1 or len(trial.frontier) != 1:
            return trial
        [single] = trial.frontier
        wider: dict[str, float] = {}
        for split, (name, half_width) in product(("validation", "test"), half_widths.items()):
            if single.has_interval(split, name):
                bounds = widened(single.mean(split, name), *single.interval(split, name), half_width=half_width)
                wider |= zip(interval_keys(split, name), bounds, strict=True)
        on_test = {name: value for name, value in wider.items() if name.startswith("test_")}
        return replace(trial, frontier=(single.having(wider),), metrics={**trial.metrics, **on_test})

    return replace(
        record,
        trials=tuple(map(of, record.trials)),
        reference=None if record.reference is None else of(record.reference),
        reference_tries=tuple(map(of, record.reference_tries)),
        confirmations=tuple(replace(entry, result=of(entry.result)) for entry in record.confirmations),
        counts_seeds=True,
    )


def _results(attributes: Mapping[str, Any]) -> dict[str, Any]:
    settings = attributes.get("settings", {})
    return {
        # Earlier versions lacked some settings.
        "settings": {**_DEFAULTS, **settings} if settings else {},
        "metrics": attributes.get("metrics", {}),
        "frontier": tuple(map(CommitteeScores.from_stored, attributes.get("frontier", ()))),
        "members": tuple(attributes.get("members", ())),
        "trained": attributes.get("trained", 0),
        "reused": attributes.get("reused", 0),
        "seconds": attributes.get("seconds"),
        "error": attributes.get("error"),
        "interrupted": attributes.get("interrupted", False),
    }
