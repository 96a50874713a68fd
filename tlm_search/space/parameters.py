"""The domain of a setting in ``search`` (a value, a list of choices, or a range), and its conditions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Literal

from pydantic import Field

from tlm_search.space.section import Flag, Section, given
from tlm_search.space.settings import Value

Role = Literal["scientific", "nuisance"]
When = Mapping[str, tuple[Value, ...]]


class Choices(Section):
    """A searched setting with a list of values. It matters only if other settings have their values in ``when``."""

    choices: tuple[Value, ...]
    role: Role = "scientific"
    when: When = Field(default={})

    def contains(self, value: Value) -> bool:
        """Return whether the domain contains ``value``."""
        return value in self.choices

    def size(self) -> int:
        """Count the values."""
        return len(self.choices)

    def values(self) -> Iterator[Value]:
        """Yield the values in their order."""
        yield from self.choices

    def at(self, share: float) -> Value:
        """Return the value at a ``share`` of the list; 0 <= share < 1."""
        return self.choices[int(share * len(self.choices))]

    def words(self) -> str:
        """Say the domain in a few words."""
        words = (given(choice) if isinstance(choice, bool) else str(choice) for choice in self.choices)
        return "one of " + ", ".join(words)


class Range(Section):
    """A searched number from ``low`` to ``high``, both included; a whole number if both are ``int``."""

    low: int | float
    high: int | float
    log: Flag = False
    step: int | float | None = None
    role: Role = "scientific"
    when: When = Field(default={})

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def contains(self, value: Value) -> bool:
        """Return whether a trial may have this value."""
        if isinstance(value, str | bool) or not self.low <= value <= self.high:
            return False
        if self.whole and not isinstance(value, int):
            return False
        return self.step is None or steps_between(self.low, value, self.step).denominator == 1

    def size(self) -> int | None:
        """Count the values; None if they are continuous."""
        if self.low == self.high:
            return 1
        if self.step is None and not self.whole:
            return None
        return int(steps_between(self.low, self.high, self.step or 1)) + 1

    def values(self) -> Iterator[Value]:
        """Yield the values in rising order.

        Raises:
            ValueError: the range is continuous.
        """
        size = self.size()
        if size is None:
            raise ValueError(f"the range {self.words()} has no list of values")
        for i in range(size):
            yield self.value(i)

    def value(self, steps: int) -> Value:
        """Return the value that is this number of steps above ``low``; the default step is 1."""
        if self.whole:
            return int(self.low) + steps * int(self.step or 1)
        return float(exact(self.low) + steps * exact(self.step or 1))

    def at(self, share: float) -> Value:
        """Return the value at a ``share`` of the range, or with ``log`` of its logarithm; 0 <= share < 1."""
        size = self.size()
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            value = min(max(math.exp(low + share * (high - low)), self.low), self.high)
            return round(value) if self.whole else value
        return self.low + share * (self.high - self.low) if size is None else self.value(int(share * size))

    def exactly(self, value: float) -> Value:
        """Return the exact value of the range nearest to ``value``, which may be a rounded sum of steps."""
        return value if self.step is None else self.value(round(steps_between(self.low, value, self.step)))

    def words(self) -> str:
        """Say the domain in a few words."""
        kind = "a whole number" if self.whole else "a number"
        step = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{kind} from {self.low:g} to {self.high:g}{step}"


Searched = Choices | Range
Parameter = Choices | Range | Value


def exact(number: float) -> Fraction:
    """Return a float as the decimal number with its shortest digits."""
    # 0.1 means one tenth, not the nearest binary number, so that 0.3 is three steps of 0.1.
    return Fraction(str(number))


def steps_between(low: float, value: float, step: float) -> Fraction:
    """Return how many times ``step`` fits between ``low`` and ``value``."""
    return (exact(value) - exact(low)) / exact(step)
