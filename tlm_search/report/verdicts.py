"""A claim and what a study says of it: effect, interval over seeds and test rows, verdict."""

from __future__ import annotations

from dataclasses import dataclass

from tlm_search.committee.effect import Effect

HOLDS, FAILS, UNSURE = "holds", "does not hold", "cannot tell at this scale"
LEAST_SEEDS = 3  # fewer say next to nothing about others


@dataclass(frozen=True)
class Row:
    """A row of the table of claims; ``measured_on`` says what was measured, or what is missing."""

    claim: str
    effect: float | None
    low: float | None
    high: float | None
    seeds: int | None
    verdict: str
    measured_on: str


def judged(claim: str, found: Effect, measured_on: str, *, margin: float = 0.0) -> Row:
    """Return the row of an effect that was measured; it holds where its interval lies above ``-margin``."""
    verdict = UNSURE
    if found.seeds >= LEAST_SEEDS:
        # Zero is no effect, however sure it is.
        above = found.low > 0 if margin == 0 else found.low >= -margin
        below = found.high < -margin
        verdict = HOLDS if above else FAILS if below else UNSURE
    return Row(claim, found.mean, found.low, found.high, found.seeds, verdict, measured_on)


def missing(claim: str, what: str) -> Row:
    """Return the row of a claim to which the study has nothing to say, because of ``what``."""
    return Row(claim, None, None, None, None, UNSURE, f"not measured: {what}")
