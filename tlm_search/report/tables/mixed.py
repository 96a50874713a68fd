"""Mixed committees: members of several configurations, chosen on validation, or named one by one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.candidates import Candidate, candidates
from tlm_search.committee.combine import fit_weights, greedy, weighted_vote
from tlm_search.committee.frontier import frontier
from tlm_search.committee.logits import SPLITS, MemberLogits, Split
from tlm_search.committee.metrics import metric_words
from tlm_search.committee.vote import SMALLEST_PROBABILITY
from tlm_search.digest import canonical_json
from tlm_search.errors import ExportError
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import interval, percent, plural
from tlm_search.report.tables.ranking import eligible
from tlm_search.space.settings import tokens_of
from tlm_search.study.record import MIXED_NUMBER, REFERENCE_NUMBER, StudyRecord, TrialRecord

MOST_CONFIGURATIONS = 8  # whose members are in the pool: the best on validation
SMALLEST_WEIGHT = 1e-3  # members with less are left out
GREEDY, WEIGHTED = "greedy", "weighted"
POOLED = {GREEDY: "greedily, with replacement", WEIGHTED: "by fitted weights"}  # the ways to choose from the pool

_COSTS = ("parameters", "training_flops", "training_seconds")


@dataclass(frozen=True)
class MemberPool:
    """Members of the best configurations: for each the number of its trial and its digest, and the logits of all."""

    trials: tuple[int, ...]
    members: tuple[str, ...]
    votes: MemberLogits

    @property
    def words(self) -> str:
        """The numbers of members and configurations in words."""
        return f"{plural(len(self.members), 'member')} of {plural(len(set(self.trials)), 'configuration')}"


@dataclass(frozen=True)
class MixedCommittee:
    """Different ``members``, the number of the trial of each, and their ``weights``, whose sum is 1.

    ``chosen`` says in words how they were chosen. ``how`` is a key of ``POOLED``, or empty if the members were named.
    ``trial`` has the figures of the committee as those of one model, and ``votes`` its answers as the logits of one.
    """

    members: tuple[str, ...]
    trials: tuple[int, ...]
    weights: tuple[float, ...]
    how: str
    chosen: str
    trial: TrialRecord
    votes: MemberLogits

    @property
    def candidate(self) -> Candidate:
        """The committee as a candidate, with its figures on validation and test."""
        return candidates(self.trial)[0]

    @property
    def name(self) -> str:
        """The number of members and their trials in words."""
        numbers = sorted(set(self.trials))
        names = ["the reference" if number == REFERENCE_NUMBER else str(number) for number in numbers]
        words = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        return f"{plural(len(self.members), 'member')} of {'trial' if len(names) == 1 else 'trials'} {words}"


def member_pool(record: StudyRecord, evidence: Evidence) -> MemberPool | None:
    """Return the members of the best eligible configurations; None if the store lacks their logits."""
    trials = eligible(record)[:MOST_CONFIGURATIONS]
    found = [(trial, votes) for trial in trials if (votes := evidence.logits_of(trial)) is not None]
    if not found:
        return None
    return MemberPool(
        tuple(trial.number for trial, _ in found for _ in trial.members),
        tuple(digest for trial, _ in found for digest in trial.members),
        joined([votes for _, votes in found]),
    )


def joined(votes: Sequence[MemberLogits]) -> MemberLogits:
    """Return the logits of all members of several configurations."""
    first = votes[0]
    validation, test = (np.concatenate([getattr(own, split) for own in votes]) for split in SPLITS)
    return MemberLogits(validation, test, first.validation_labels, first.test_labels, first.metric)


def mixed_committees(record: StudyRecord, evidence: Evidence) -> dict[str, MixedCommittee]:
    """Return the selection in each way of ``POOLED``; none if the pool has fewer than two configurations."""
    pool = member_pool(record, evidence)
    if pool is None or len(set(pool.trials)) < 2:
        return {}
    return {how: choose_from_pool(record, pool, how) for how in POOLED}


def choose_from_pool(record: StudyRecord, pool: MemberPool, how: str) -> MixedCommittee:
    """Choose members on validation from ``pool`` in the way ``how``, and leave out those with hardly a weight."""
    logits, labels = pool.votes.of("validation")
    weights = greedy(logits, labels) if how == GREEDY else fit_weights(logits, labels)
    chosen = f"chosen {POOLED[how]}, on validation from {pool.words}"
    wanted = [(index, float(weight)) for index, weight in enumerate(weights) if weight > SMALLEST_WEIGHT]
    return _mixed(record, pool, wanted, how=how, chosen=chosen)


def named_members(record: StudyRecord, evidence: Evidence, members: Sequence[str | tuple[int, int]]) -> MixedCommittee:
    """Return the committee of these members of the study, by digest or by (trial, member), where 1 is the first.

    A member that is named twice has twice the weight. Trial -1 is the reference.

    Raises:
        ExportError: the study has no such member, or the store lacks its logits.
    """
    if not members:
        raise ExportError("members is empty", hint="name at least one member, by its digest or as (trial, member)")
    return _named(record, evidence, members, [1 / len(members)] * len(members), how="", chosen="each was asked for")


def _named(
    record: StudyRecord,
    evidence: Evidence,
    members: Sequence[str | tuple[int, int]],
    weights: Sequence[float],
    *,
    how: str,
    chosen: str,
) -> MixedCommittee:
    trials = [trial for trial in record.everything_run if trial.members]
    found = [_find(record, trials, member) for member in members]
    pool: list[MemberLogits] = []
    for trial, index in found:
        votes = evidence.logits_of(trial)
        if votes is None:
            raise ExportError(
                f"the logits of trial {trial.number} are not in the store",
                hint="take members of another trial; tlm-search store verify lists damaged entries",
            )
        pool.append(replace(votes, validation=votes.validation[[index]], test=votes.test[[index]]))
    whole = MemberPool(
        tuple(trial.number for trial, _ in found), tuple(trial.members[index] for trial, index in found), joined(pool)
    )
    return _mixed(record, whole, list(enumerate(weights)), how=how, chosen=chosen)


def remembered(record: StudyRecord, evidence: Evidence, mixed: Mapping[str, Any]) -> MixedCommittee | None:
    """Return the mixed committee that a study recorded with its students; None if a member is missing."""
    try:
        return _named(record, evidence, mixed["members"], mixed["weights"], how=mixed["how"], chosen="")
    except ExportError:
        return None


def _find(record: StudyRecord, trials: Sequence[TrialRecord], member: str | tuple[int, int]) -> tuple[TrialRecord, int]:
    if isinstance(member, str):
        for trial in trials:
            if member in trial.members:
                return trial, trial.members.index(member)
        raise ExportError(
            f"the study {record.name} has no member {member}",
            hint="members_dataframe() lists the digests of its members",
        )
    if not (isinstance(member, tuple | list) and len(member) == 2):
        raise ExportError(
            f"{member!r} does not name a member",
            hint="name a member by its digest, or as (trial, member), where 1 is the first",
        )
    number, place = member
    of = record.numbered(number)
    there = () if of is None else of.members
    if of is None or not 1 <= place <= len(there):
        why = f"the trial has {plural(len(there), 'member')}, and 1 is the first"
        if of is None:
            why = "the study has no such trial"
        raise ExportError(f"no member {place} of trial {number}: {why}", hint="members_dataframe() lists all members")
    return of, place - 1


def _mixed(
    record: StudyRecord, pool: MemberPool, wanted: Sequence[tuple[int, float]], *, how: str, chosen: str
) -> MixedCommittee:
    """Build the committee of the members at these places of the pool; a member that comes twice has both weights."""
    weights: dict[str, float] = {}
    places: dict[str, int] = {}
    for place, weight in wanted:
        digest = pool.members[place]
        weights[digest] = weights.get(digest, 0.0) + weight
        places.setdefault(digest, place)
    # Configurations can share a member. It then belongs to the first one.
    order = list(places.values())
    shares = np.array(list(weights.values())) / sum(weights.values())
    votes = _as_one(pool.votes, order, shares)
    trials = tuple(pool.trials[place] for place in order)
    scores = frontier(votes.validation, votes.test, votes.validation_labels, votes.test_labels, metric=votes.metric)
    trial = TrialRecord(
        number=MIXED_NUMBER,
        state="complete",
        metrics=_costs(record, trials),
        frontier=scores,
        members=tuple(places),
    )
    biases = {1: scores[0].bias} if scores[0].bias else {}
    shares_of = tuple(map(float, shares))
    return MixedCommittee(tuple(places), trials, shares_of, how, chosen, trial, replace(votes, biases=biases))


def _as_one(votes: MemberLogits, order: Sequence[int], weights: NDArray[np.float64]) -> MemberLogits:
    """Return the logarithms of the weighted vote of these members, as the logits of one model."""

    def log_vote(split: Split) -> NDArray[np.float64]:
        probabilities = weighted_vote(votes.of(split)[0][list(order)], weights)
        return np.asarray(np.log(np.maximum(probabilities, SMALLEST_PROBABILITY)))[None]

    return MemberLogits(
        log_vote("validation"), log_vote("test"), votes.validation_labels, votes.test_labels, votes.metric
    )


def _costs(record: StudyRecord, trials: Sequence[int]) -> dict[str, float]:
    """Return the costs of the members: for each trial those of a committee of as many of its members.

    A linear model that members of several trials share is counted for each.
    """
    parts = []
    for number in sorted(set(trials)):
        trial = record.numbered(number)
        if trial is None or len(trial.frontier) < trials.count(number):
            return {}  # students and confirmations are no trials, so their costs are unknown
        parts.append(candidates(trial)[trials.count(number) - 1])
    return {
        name: float(sum(costs)) for name in _COSTS if None not in (costs := [getattr(part, name) for part in parts])
    }


def export_words(record: StudyRecord, mixed: Mapping[str, MixedCommittee], best: Candidate | None) -> str | None:
    """Say that the greedy committee is above the ``best`` on validation, and how to export it; None if it is not."""
    found = mixed.get(GREEDY)
    if found is None or best is None or not record.space.has_weights:
        return None
    chosen_from = [record.numbered(number) for number in found.trials]
    if len({canonical_json(tokens_of(trial.settings)) for trial in chosen_from if trial is not None}) > 1:
        return None  # an export has one tokenizer
    ours = found.candidate
    if not ours.validation_metric > best.validation_metric:
        return None
    name = metric_words(ours.metric)
    command = shlex.join(["tlm-search", "export", record.name, "--from", GREEDY, "--out", f"{record.name}-{GREEDY}"])
    return (
        f"A mixed committee ({found.name}, {found.chosen}) has {percent(ours.validation_metric)} {name} on validation, "
        f"against {percent(best.validation_metric)} of the best committee; its figure is too high, because validation "
        f"chose its members. On test it has {percent(ours.test_metric)} ({interval(*ours.test_interval)}), against "
        f"{percent(best.test_metric)}. To export it: {command}"
    )
