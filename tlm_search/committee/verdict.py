"""The verdict on a difference, by its 95% interval: one rule, by which every command, page and card speaks."""

from __future__ import annotations

from typing import Final, Literal

Verdict = Literal["holds", "does not hold", "cannot tell"]
HOLDS: Final = "holds"
FAILS: Final = "does not hold"
UNSURE: Final = "cannot tell"
_FROM_WORST: Final = (FAILS, UNSURE, HOLDS)

IN_A_WORD: Final = {HOLDS: "yes", UNSURE: "unsure", FAILS: "no"}
# What each verdict says of a committee, before the name of what it is compared with.
DOES_THE_WORK: Final = {
    HOLDS: "does the work of",
    UNSURE: "is not shown to do the work of",
    FAILS: "does not do the work of",
}
IS_ABOVE: Final = {HOLDS: "is above", UNSURE: "is not shown to be above", FAILS: "is below"}


def verdict_of(low: float, high: float, *, margin: float = 0.0) -> Verdict:
    """Tell from its interval whether a difference is above 0; with a ``margin``, whether it is not below -``margin``.

    Without a margin 0 is no difference, however sure it is.
    """
    if low > 0 if margin == 0 else low >= -margin:
        return HOLDS
    return FAILS if high < -margin else UNSURE


def weaker(first: Verdict, second: Verdict) -> Verdict:
    """Return the one of two verdicts that promises less."""
    return min(first, second, key=_FROM_WORST.index)
