"""Verdicts on a difference, from its 95% interval. Every command, page and card follows this one rule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["holds", "does not hold", "cannot tell"]
HOLDS: Final = "holds"
FAILS: Final = "does not hold"
UNSURE: Final = "cannot tell"
_FROM_WORST: Final = (FAILS, UNSURE, HOLDS)

MARGIN = 0.02  # of the metric: a committee that loses no more than this matches the reference

IN_A_WORD: Final = {HOLDS: "yes", UNSURE: "unsure", FAILS: "no"}
# What each verdict says of a committee, before the name of what it is compared with.
DOES_THE_WORK: Final = {
    HOLDS: "does the work of",
    UNSURE: "is not shown to do the work of",
    FAILS: "does not do the work of",
}
IS_ABOVE: Final = {HOLDS: "is above", UNSURE: "is not shown to be above", FAILS: "is below"}


def verdict_of(low: float, high: float, *, margin: float = 0.0) -> Verdict:
    """Return the verdict on a difference with the interval ``low`` to ``high``.

    Without a ``margin`` it is ``HOLDS`` if the interval lies above 0. With one it is ``HOLDS`` if the interval does not
    go below -``margin``. It is ``FAILS`` if the interval lies below -``margin``, and otherwise ``UNSURE``.
    """
    if low > 0 if margin == 0 else low >= -margin:
        return HOLDS
    return FAILS if high < -margin else UNSURE


def weaker(first: Verdict, second: Verdict) -> Verdict:
    """Return the one of two verdicts that promises less."""
    return min(first, second, key=_FROM_WORST.index)


@dataclass(frozen=True)
class Difference:
    """The metric of a committee minus that of its rival, with the 95% interval.

    ``paired`` says whether the two were compared row by row. If the committee has fewer members than were trained, the
    difference is that of the mean over such committees. ``exported`` is then the difference of the first members,
    which ``export`` takes (None without logits).
    """

    mean: float
    low: float
    high: float
    paired: bool
    exported: Difference | None = None

    def verdict(self, *, margin: float = 0.0) -> Verdict:
        """Return the verdict on the committee, or on the exported one if that is weaker."""
        own = verdict_of(self.low, self.high, margin=margin)
        return own if self.exported is None else weaker(own, self.exported.verdict(margin=margin))


def unpaired(ours: tuple[float, float, float], theirs: tuple[float, float, float]) -> Difference:
    """Return the difference of two metrics, each given as mean, low and high.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions".
    """
    (a, a_low, a_high), (b, b_low, b_high) = ours, theirs
    below, above = math.hypot(a - a_low, b_high - b), math.hypot(a_high - a, b - b_low)
    return Difference(a - b, a - b - below, a - b + above, paired=False)
