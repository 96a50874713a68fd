"""A study as plain data: what it keeps of a trial, and what ``status``, ``best`` and ``report`` read of it.

Neither torch nor Ray here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from tlm_search.errors import StudyError
from tlm_search.space.schema import Space
from tlm_search.space.sections import METRICS_OF_ALL_LABELS, METRICS_OF_ONE_LABEL
from tlm_search.space.settings import SETTINGS, Value

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from tlm_search.search.trial import Rung

State = Literal["complete", "pruned", "failed", "running", "waiting"]

STATES: tuple[State, ...] = ("complete", "pruned", "failed", "running", "waiting")
REFERENCE_NUMBER, STUDENT_NUMBER, BASELINE_NUMBER = -1, -2, -3
REFERENCE, REFERENCE_TRY = "reference", "reference try "  # attributes of a study; a number from 1 ends the second
BASELINE = "baseline"  # the attribute in which a study keeps its linear baseline
STUDENT = "student"  # begins the name of the attribute in which a study keeps the students of a committee
_DEFAULTS = {name: setting.default for name, setting in SETTINGS.items() if setting.default is not None}
IMPORTED_FROM = "imported_from"  # on a trial of another study, which only the sampler looks at


@dataclass(frozen=True)
class TrialRecord:
    """One trial, the reference (``number`` -1), students of a committee (-2), or the linear baseline (-3).

    ``settings`` are complete, ``params`` only what was searched. ``values`` follow the study's objectives. ``metrics``
    are those of the whole committee; ``frontier`` holds one record per committee size. ``members`` are digests in the
    order of their seeds, of which ``trained`` were trained by this trial and ``reused`` found in the store. ``rungs``
    maps committee sizes to the first objective as it was reported to the pruner. ``error`` is why it failed;
    ``interrupted`` means that the driver died, and such a trial does not count as finished.
    """

    number: int
    state: State
    params: Mapping[str, Value] = field(default_factory=dict)
    settings: Mapping[str, Value] = field(default_factory=dict)
    values: tuple[float, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    frontier: tuple[Mapping[str, Any], ...] = ()
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
    """What was distilled from the first ``size`` members of the trial with number ``trial``.

    The students differ in their seeds; ``result`` has them as its members, the best on validation first, and their
    committees of each size. They also learned from the committee's answers to ``documents`` texts of the corpus.
    ``flops`` and ``seconds`` are what one student takes on top of its committee's training.
    """

    trial: int
    size: int
    documents: int
    result: TrialRecord

    @property
    def flops(self) -> float:
        """Floating-point operations of the committee's answers and of one student's fine-tuning on them."""
        return self.result.metrics["distilling_flops"] / len(self.result.members)

    @property
    def seconds(self) -> float:
        """Seconds of the same."""
        return self.result.metrics["distilling_seconds"] / len(self.result.members)


@dataclass(frozen=True)
class BaselineRecord(TrialRecord):
    """The linear model on the same rows, as a committee of one member; its digest names an entry of kind ``baselines``.

    ``features`` is the kind of features and ``c`` the inverse of the regularisation that validation chose out of
    ``tried`` fits, ``vocabulary`` the number of features. ``seconds`` are those of all fits.
    """

    features: str = ""
    c: float = 1.0
    vocabulary: int = 0
    tried: int = 0


@dataclass(frozen=True)
class StudyRecord:
    """A study as it stands now. ``objectives`` are names of metrics, ``directions`` their directions.

    Where several trials choose the reference, ``reference_tries`` are those that have ended, in their order, and
    ``reference`` is the best of them, None until all have ended. In older studies, and with one trial, they are empty.
    ``baseline`` is None where the space leaves it out, in studies of versions without it, and where it failed.
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

    @property
    def everything_run(self) -> tuple[TrialRecord, ...]:
        """All results that name members: trials, every try of the reference, students."""
        reference = () if self.reference is None else (self.reference,)
        return (*self.trials, *(self.reference_tries or reference), *(student.result for student in self.students))

    def numbered(self, number: int) -> TrialRecord | None:
        """Return the trial with this number, -1 for the reference; None where there is none."""
        known = [*self.trials, *([self.reference] if self.reference is not None else [])]
        return next((trial for trial in known if trial.number == number), None)

    def in_state(self, state: State) -> tuple[TrialRecord, ...]:
        """Return the trials in ``state``; those that were interrupted and run again are left out."""
        return tuple(trial for trial in self.trials if trial.state == state and not trial.interrupted)


def record_of(study: Study, folder: Path) -> StudyRecord:
    """Read ``study`` once and return it as plain data.

    Raises:
        StudyError: the study was not made by this program.
    """
    attributes = study.user_attrs
    if "space" not in attributes:
        raise StudyError(
            f"{folder}: the Optuna study {study.study_name!r} holds no space, so tlm-search did not make it",
            hint="Name a folder that `tlm-search run` wrote.",
        )
    space = Space.from_document(attributes["space"])
    return StudyRecord(
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
    )


def trial_of(trial: FrozenTrial) -> TrialRecord:
    """Return an Optuna trial as plain data; attributes that are not there yet stay empty."""
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


def attributes_of(settings: Mapping[str, Value], rung: Rung | None) -> dict[str, Any]:
    """Return what a study keeps of a trial that reached ``rung`` (None: not even the first), as JSON."""
    if rung is None:
        return {"settings": dict(settings)}
    return {
        "settings": dict(settings),
        "members": list(rung.members),
        "trained": rung.trained,
        "reused": rung.reused,
        "seconds": round(rung.seconds, 3),
        "metrics": {name: value for name, value in rung.metrics.items() if math.isfinite(value)},
        # Six digits are more than the test sets can tell; storages have limits, and journals grow.
        "frontier": [
            {key: value if key in _EXACT else _rounded(value) for key, value in record.items()}
            for record in rung.frontier
        ],
    }


_EXACT = tuple(
    f"test_{name}" for name in METRICS_OF_ALL_LABELS + METRICS_OF_ONE_LABEL
)  # equal to what `predict --label` counts, to the last digit


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else None  # JSON has no NaN


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
        frontier=tuple(attributes["frontier"]),
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
        )
        for value in kept
    )
    return tuple(sorted(students, key=lambda student: (student.trial, student.size, student.documents)))


def _results(attributes: Mapping[str, Any]) -> dict[str, Any]:
    settings = attributes.get("settings", {})
    return {
        # What an earlier version had no choice of, it did not note.
        "settings": {**_DEFAULTS, **settings} if settings else {},
        "metrics": attributes.get("metrics", {}),
        "frontier": tuple(attributes.get("frontier", ())),
        "members": tuple(attributes.get("members", ())),
        "trained": attributes.get("trained", 0),
        "reused": attributes.get("reused", 0),
        "seconds": attributes.get("seconds"),
        "error": attributes.get("error"),
        "interrupted": attributes.get("interrupted", False),
    }
