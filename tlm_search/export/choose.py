"""Choose the committee to export: the requested one, or the best on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tlm_search.committee.candidates import Candidate, candidates
from tlm_search.committee.select import select
from tlm_search.errors import ExportError
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import plural
from tlm_search.report.tables.mixed import POOLED, MixedCommittee, choose_from_pool, member_pool, named_members
from tlm_search.study.record import REFERENCE_NUMBER, StudentRecord, StudyRecord, TrialRecord

if TYPE_CHECKING:
    from tlm_search.search.distil import Teachers


@dataclass(frozen=True)
class Chosen:
    """The first ``size`` members of ``trial`` with the reason; with a ``student``, a model that learned from them.

    For a ``mixed`` committee ``trial`` has its figures as those of one model, and ``size`` counts its members.
    """

    trial: TrialRecord
    size: int
    why: str
    student: StudentRecord | None = None
    mixed: MixedCommittee | None = None

    @property
    def members(self) -> tuple[str, ...]:
        """The digests of the members, in the order of their seeds, or of the trials of a mixed committee."""
        return self.trial.members[: self.size]

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The weights of the members' votes; None if all are equal."""
        return None if self.mixed is None else self.mixed.weights

    @property
    def candidate(self) -> Candidate:
        """The committee with its figures on validation and test."""
        return candidates(self.trial)[self.size - 1] if self.mixed is None else self.mixed.candidate

    @property
    def name(self) -> str:
        """The description: trial 3, the reference, a student of trial 3 with 4 members, 3 members of trials 1 and 2."""
        if self.student is not None:
            return f"a student of {taught_by(self.student)} with {plural(self.student.size, 'member')}"
        if self.mixed is not None:
            return self.mixed.name
        return trial_words(self.trial.number)


def taught_by(student: StudentRecord) -> str:
    """Name the committee that taught a student: trial 3, or the greedy committee."""
    return trial_words(student.trial) if student.mixed is None else f"the {student.mixed['how']} committee"


def trial_words(number: int) -> str:
    """Name a trial by its number, which is -1 for the reference."""
    return "the reference" if number == REFERENCE_NUMBER else f"trial {number}"


def choose(
    record: StudyRecord,
    evidence: Evidence,
    *,
    number: int | None = None,
    size: int | None = None,
    pool: str | None = None,
    members: Sequence[str | tuple[int, int]] | None = None,
) -> Chosen:
    """Return the committee of trial ``number`` with ``size`` members (by default all).

    Without ``number``, return the committee within the study's constraints that is best on validation; ``size`` then
    takes only its first members. Number -1 is the reference. With ``pool``, a key of ``POOLED``, return the mixed
    committee that is chosen in this way from the members of the best configurations. With ``members``, return the
    committee of these members, named by digest or as (trial, member), where 1 is the first.

    Raises:
        ExportError: the trial or member does not exist, the trial has no result or fewer members, no committee meets
            the constraints, or the arguments name a committee in two ways.
    """
    ways = {"--from": pool, "members": members, "--trial or --size": size if number is None else number}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ExportError(f"{' and '.join(given)} both choose a committee", hint="give only one of them")
    if members is not None:
        return _mixed(named_members(record, evidence, members))
    if pool is not None:
        return _mixed(_from_pool(record, evidence, pool))
    chosen = _best(record, evidence) if number is None else _asked(record, number)
    if size is None:
        return chosen
    if not 1 <= size <= len(chosen.trial.members):
        raise ExportError(
            f"--size {size}: trial {chosen.trial.number} has {plural(len(chosen.trial.members), 'member')}",
            hint=f"allowed: 1 to {len(chosen.trial.members)}",
        )
    return Chosen(chosen.trial, size, chosen.why if size == chosen.size else f"{chosen.why}; its size was asked for")


def teachers_of(record: StudyRecord, evidence: Evidence, chosen: Chosen) -> Teachers:
    """Return the ``chosen`` committee as teachers. Students of a mixed committee have the best configuration."""
    from tlm_search.search.distil import Teachers  # slow to import

    if chosen.mixed is None:
        return Teachers(chosen.trial, chosen.members)
    equal = max(chosen.mixed.weights) - min(chosen.mixed.weights) < 1e-12
    weights = () if equal else chosen.mixed.weights
    mixed = {"how": chosen.mixed.how, "members": list(chosen.members), "weights": list(chosen.mixed.weights)}
    return Teachers(_best(record, evidence).trial, chosen.members, weights, mixed)


def _mixed(mixed: MixedCommittee) -> Chosen:
    return Chosen(mixed.trial, len(mixed.members), mixed.chosen, mixed=mixed)


def _from_pool(record: StudyRecord, evidence: Evidence, how: str) -> MixedCommittee:
    if how not in POOLED:
        raise ExportError(f"--from {how} is unknown", hint=f"allowed: {' or '.join(POOLED)}")
    pool = member_pool(record, evidence)
    if pool is None:
        raise ExportError(
            f"the study {record.name} has no members to choose from",
            hint="--from needs a complete trial within the constraints whose members are in the store",
        )
    return choose_from_pool(record, pool, how)


def choose_student(
    record: StudyRecord, *, number: int | None = None, size: int | None = None, pool: str | None = None
) -> Chosen:
    """Return the best student of a committee on validation.

    ``number`` and ``size`` select the students of that trial's committee, ``pool`` those of that mixed one.

    Raises:
        ExportError: the study has no such student.
    """
    asked = {"trial": number, "size": size, "from": pool}
    students = [
        student
        for student in record.students
        if all(value is None or _asked_by(student)[name] == value for name, value in asked.items())
    ]
    if not students:
        given = " ".join(f"--{name} {value}" for name, value in asked.items() if value is not None)
        there = sorted(
            {
                " ".join(f"--{name} {value}" for name, value in _asked_by(student).items() if value is not None)
                for student in record.students
            }
        )
        known = f"; the study has students of {', '.join(there)}" if there else ""
        raise ExportError(
            f"the study {record.name} has no student{f' of {given}' if given else ''}",
            hint=" ".join(["tlm-search distil", record.name, given]).strip() + f" trains one{known}",
        )
    best = max(students, key=lambda student: candidates(student.result)[0].validation_metric)
    return Chosen(best.result, 1, f"the best on validation of {plural(len(best.result.members), 'seed')}", best)


def _asked_by(student: StudentRecord) -> dict[str, int | str | None]:
    """Return the options of the command that asks for a student's committee."""
    if student.mixed is not None:
        return {"trial": None, "size": None, "from": student.mixed["how"]}
    return {"trial": student.trial, "size": student.size, "from": None}


def _best(record: StudyRecord, evidence: Evidence) -> Chosen:
    choices = select(
        record.trials,
        record.reference,
        constraints=record.space.constraints,
        top=1,
        logits_of=evidence.logits_of,
    ).choices
    if choices:
        trial = choices[0].candidate.trial
        assert isinstance(trial, TrialRecord)
        return Chosen(trial, choices[0].candidate.size, "the best on validation")
    if record.in_state("complete"):
        raise ExportError(
            f"no committee of the study {record.name} meets its constraints "
            f"({', '.join(map(str, record.space.constraints))})",
            hint="--trial N exports that of trial N anyway",
        )
    raise ExportError(
        f"the study {record.name} has no complete trial yet", hint=f"tlm-search status {record.name} shows its progress"
    )


def _asked(record: StudyRecord, number: int) -> Chosen:
    trial = record.numbered(number)
    usable = [trial.number for trial in record.in_state("complete")]
    hint = f"complete trials: {', '.join(map(str, usable)) or 'none yet'}; tlm-search best {record.name} ranks them"
    if trial is None:
        raise ExportError(f"--trial {number}: the study {record.name} has no such trial", hint=hint)
    if not trial.members or not trial.frontier:
        raise ExportError(f"--trial {number}: the trial is {trial.state} and has no committee", hint=hint)
    chosen = Chosen(trial, len(trial.members), "")
    return replace(chosen, why=f"{chosen.name} was asked for")
