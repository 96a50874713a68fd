"""The committee to export: the requested one, or the best by the rules of ``best``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tlm_search.committee.candidates import candidates
from tlm_search.committee.select import select
from tlm_search.errors import ExportError
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import plural
from tlm_search.study.record import REFERENCE_NUMBER, StudentRecord, StudyRecord, TrialRecord


@dataclass(frozen=True)
class Chosen:
    """The first ``size`` members of ``trial`` with the reason; with a ``student``, a model that learned from them."""

    trial: TrialRecord
    size: int
    why: str
    student: StudentRecord | None = None

    @property
    def members(self) -> tuple[str, ...]:
        """The digests of the members, in the order of their seeds."""
        return self.trial.members[: self.size]

    @property
    def name(self) -> str:
        """The description: trial 3, the reference, a student of trial 3 with 4 members."""
        if self.student is not None:
            return f"a student of {_named(self.student.trial)} with {plural(self.student.size, 'member')}"
        return _named(self.trial.number)


def _named(number: int) -> str:
    return "the reference" if number == REFERENCE_NUMBER else f"trial {number}"


def choose(
    record: StudyRecord,
    evidence: Evidence,
    *,
    number: int | None = None,
    size: int | None = None,
) -> Chosen:
    """Return the committee of trial ``number`` with ``size`` members (by default all).

    Without ``number``, return the best on validation of the committees within the study's constraints; ``size`` then
    only limits its members. Number -1 is the reference.

    Raises:
        ExportError: the trial does not exist, has no result or fewer members; or no committee meets the constraints.
    """
    chosen = _best(record, evidence) if number is None else _asked(record, number)
    if size is None:
        return chosen
    if not 1 <= size <= len(chosen.trial.members):
        raise ExportError(
            f"--size {size}: trial {chosen.trial.number} has {plural(len(chosen.trial.members), 'member')}",
            hint=f"allowed is 1 to {len(chosen.trial.members)}",
        )
    return Chosen(chosen.trial, size, chosen.why if size == chosen.size else f"{chosen.why}; its size was asked for")


def choose_student(record: StudyRecord, *, number: int | None = None, size: int | None = None) -> Chosen:
    """Return the best student of a committee on validation.

    ``number`` and ``size`` select the students of that trial's committee.

    Raises:
        ExportError: there is no student.
    """
    asked = {"trial": number, "size": size}
    students = [
        student
        for student in record.students
        if all(value is None or getattr(student, name) == value for name, value in asked.items())
    ]
    if not students:
        given = " ".join(f"--{name} {value}" for name, value in asked.items() if value is not None)
        there = sorted({f"--trial {student.trial} --size {student.size}" for student in record.students})
        known = f"; there are those of {', '.join(there)}" if there else ""
        raise ExportError(
            f"the study {record.name} has no student{f' of {given}' if given else ''}",
            hint=" ".join(["tlm-search distil", record.name, given]).strip() + f" trains one{known}",
        )
    best = max(students, key=lambda student: candidates(student.result)[0].validation_metric)
    return Chosen(best.result, 1, f"the best on validation of {plural(len(best.result.members), 'seed')}", best)


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
            f"no committee of the study {record.name} keeps to its constraints "
            f"({', '.join(map(str, record.space.constraints))})",
            hint="--trial N takes that of trial N all the same",
        )
    raise ExportError(
        f"the study {record.name} has no complete trial yet", hint=f"tlm-search status {record.name} says how far it is"
    )


def _asked(record: StudyRecord, number: int) -> Chosen:
    trial = record.numbered(number)
    usable = [trial.number for trial in record.in_state("complete")]
    hint = f"complete are: {', '.join(map(str, usable)) or 'none yet'}; tlm-search best {record.name} ranks them"
    if trial is None:
        raise ExportError(f"--trial {number}: the study {record.name} has no such trial", hint=hint)
    if not trial.members or not trial.frontier:
        raise ExportError(f"--trial {number}: it is {trial.state} and has no committee", hint=hint)
    chosen = Chosen(trial, len(trial.members), "")
    return replace(chosen, why=f"{chosen.name} was asked for")
