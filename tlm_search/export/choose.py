"""Which committee of a study is exported: the one that was asked for, or the best by the rules of ``best``."""

from __future__ import annotations

from dataclasses import dataclass

from tlm_search.committee.select import select
from tlm_search.errors import ExportError
from tlm_search.report.evidence import Evidence
from tlm_search.report.words import plural
from tlm_search.search.record import REFERENCE_NUMBER, StudyRecord, TrialRecord


@dataclass(frozen=True)
class Chosen:
    """The first ``size`` members of ``trial``, and why these."""

    trial: TrialRecord
    size: int
    why: str

    @property
    def members(self) -> tuple[str, ...]:
        """The digests of the members, in the order of their seeds."""
        return self.trial.members[: self.size]


def choose(record: StudyRecord, evidence: Evidence, *, number: int | None = None, size: int | None = None) -> Chosen:
    """Return the committee of trial ``number`` with ``size`` members (all, when not given).

    Without ``number``: the cheapest committee that matches the reference, else the best on validation; ``size`` then
    only changes how many of its members are taken. Number -1 is the reference.

    Raises:
        ExportError: there is no such trial, it has no result, or fewer members.
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


def _best(record: StudyRecord, evidence: Evidence) -> Chosen:
    for match in (True, False):
        choices = select(
            record.trials, record.reference, match_reference=match, top=1, votes_of=evidence.votes_of
        ).choices
        if choices:
            trial = choices[0].candidate.trial
            assert isinstance(trial, TrialRecord)
            why = "the cheapest that matches the reference on validation" if match else "the best on validation"
            return Chosen(trial, choices[0].candidate.size, why)
    raise ExportError(
        f"the study {record.name} has no complete trial yet", hint=f"tlm-search status {record.name} says how far it is"
    )


def _asked(record: StudyRecord, number: int) -> Chosen:
    known = [*record.trials, *([record.reference] if record.reference is not None else [])]
    trial = next((trial for trial in known if trial.number == number), None)
    usable = [trial.number for trial in record.in_state("complete")]
    hint = f"complete are: {', '.join(map(str, usable)) or 'none yet'}; tlm-search best {record.name} ranks them"
    if trial is None:
        raise ExportError(f"--trial {number}: the study {record.name} has no such trial", hint=hint)
    if not trial.members or not trial.frontier:
        raise ExportError(f"--trial {number}: it is {trial.state} and has no committee", hint=hint)
    name = "the reference" if number == REFERENCE_NUMBER else f"trial {number}"
    return Chosen(trial, len(trial.members), f"{name} was asked for")
