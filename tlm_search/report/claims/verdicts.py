"""A row of the table of claims: effect, interval over seeds and test rows, verdict."""

from __future__ import annotations

from dataclasses import dataclass

from tlm_search.committee.effect import Effect
from tlm_search.committee.verdict import UNSURE, Difference, verdict_of
from tlm_search.report.formatting import points

NOT_MEASURED = "not measured"
LEAST_SEEDS = 3  # fewer say hardly anything about other seeds


@dataclass(frozen=True)
class Row:
    """A row of the table of claims. ``measured_on`` names what was measured, or what is missing."""

    claim: str
    effect: float | None
    low: float | None
    high: float | None
    seeds: int | None
    verdict: str
    measured_on: str


def judged(claim: str, found: Effect, measured_on: str, *, margin: float = 0.0) -> Row:
    """Return the row of an effect over seeds. With fewer than ``LEAST_SEEDS`` the verdict is always "cannot tell"."""
    verdict = verdict_of(found.low, found.high, margin=margin) if found.seeds >= LEAST_SEEDS else UNSURE
    return Row(claim, found.mean, found.low, found.high, found.seeds, verdict, measured_on)


def of_these_models(claim: str, found: Difference, measured_on: str, *, margin: float = 0.0) -> Row:
    """Return the row of a difference between models of the answer, with its verdict. It counts no seeds."""
    if (first := found.exported) is not None:
        measured_on += f"; its first members, which are exported, {points(first.mean)}, from {points(first.low)}"
    return Row(claim, found.mean, found.low, found.high, None, found.verdict(margin=margin), measured_on)


def missing(claim: str, what: str) -> Row:
    """Return the row of a claim that the study cannot test, because of ``what``."""
    return Row(claim, None, None, None, None, NOT_MEASURED, what)
