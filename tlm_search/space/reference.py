"""The section ``reference`` of a space: the deep model, and the tries that tune its nuisance settings.

The sampler tunes the settings of ``search`` with ``role: nuisance`` (learning rates, dropout) for committees. With
``trials`` they are tuned for the reference as well: the first try has the values of the section, further tries draw
values from the domains in ``search``, and the best try on validation becomes the reference.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError, model_serializer

from tlm_search.digest import canonical_json
from tlm_search.space.checks import SHAPE, limit_failure
from tlm_search.space.conditions import searched_in_order, when_of
from tlm_search.space.entries import read_settings
from tlm_search.space.parameters import Choices, Parameter, Range, Searched
from tlm_search.space.section import Problem, Section, Whole, problems_of, refusal, refuse
from tlm_search.space.settings import Value, complete

TRIALS = "trials"
MOST_TRIALS = 1_000
_DRAWS = 10  # draws per try; after them the points of a small domain are listed
_PLACES = 32  # binary digits of a drawn share; larger bases have fewer digits for the same precision

Search = Mapping[str, Parameter]


class ReferenceSection(Section):
    """The deep model: its given ``settings``, and the number of ``trials`` that tune its nuisance settings."""

    settings: Mapping[str, Value]
    trials: Whole = Field(
        default=1, ge=1, le=MOST_TRIALS, description="number of tries; the best on validation is the reference"
    )

    @model_serializer
    def _as_written(self) -> dict[str, Value]:
        # A single trial is not written, so that older spaces keep their identity.
        return {**self.settings, **({TRIALS: self.trials} if self.trials > 1 else {})}


def read_reference(raw: Any) -> ReferenceSection | None:
    """Read the section ``reference``: settings with their values, and ``trials``. ``none`` means no reference.

    Raises:
        ValidationError: with every problem of the section.
    """
    if raw is None or raw == "none" or isinstance(raw, ReferenceSection):
        return None if raw == "none" else raw
    trials = raw.get(TRIALS, 1) if isinstance(raw, Mapping) else 1
    settings: dict[str, Value] = {}
    problems: list[Problem] = []
    try:
        settings = read_settings(raw, other_keys=(TRIALS,))
    except ValidationError as error:
        problems += problems_of(error)
    try:
        section = ReferenceSection(settings=settings, trials=trials)
    except ValidationError as error:
        problems += problems_of(error)
    if problems:
        raise refuse(problems)
    return section


def reference_problems(search: Search, reference: ReferenceSection, *, seed: int) -> list[Problem]:
    """Find settings that the reference lacks, impossible shapes, and trials without nuisance settings to draw."""
    missing = _missing(search, reference)
    if missing:
        allowed = "each searched setting that is not committee_size needs a value here"
        return [Problem((), f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; allowed: {allowed}")]
    if reference.trials > 1 and not nuisance_names(search, reference):
        allowed = "1, because search has no setting with role: nuisance that matters in the reference"
        example = "finetune_learning_rate: {low: 5e-4, high: 4e-3, log: true, role: nuisance}"
        advice = f"leave trials out, or give this role to a setting that is only tuned, such as {example}"
        return [Problem((TRIALS,), f"{refusal(reference.trials, allowed)}; {advice}")]
    try:
        failures = (limit_failure(settings) for settings in reference_tries(search, reference, seed=seed))
        failure = next((text for text in failures if text), None)
    except ValueError as error:
        failure = str(error)
    return [Problem((), f"impossible: {failure}; allowed: width = heads x head_size")] if failure else []


def reference_tries(search: Search, reference: ReferenceSection, *, seed: int) -> Iterator[dict[str, Value]]:
    """Yield the complete settings of each try. All tries differ, so a small domain can have fewer than ``trials``.

    The first try has the values of the section. The others fill the domains of the nuisance settings evenly, with the
    points of a Halton sequence whose digits are permuted by ``seed`` (Owen 2017, "A randomized Halton algorithm in R").
    More trials add tries and do not change the earlier tries.

    Raises:
        ValueError: width, heads and head size contradict each other.
    """
    names = nuisance_names(search, reference)
    draws = [_Halton(name, base, seed) for name, base in zip(names, _primes(), strict=False)]

    others = {name: value for name, value in reference.settings.items() if name not in names}

    def points() -> Iterator[dict[str, Value]]:
        for place in range(_DRAWS * reference.trials):
            shares = {name: draw.at(place) for name, draw in zip(names, draws, strict=True)}
            yield _point(search, others if place else reference.settings, shares)
        yield from _listed(search, others, names)

    seen: set[str] = set()
    for point in points():
        settings = _completed(search, point)
        name = canonical_json(settings)
        if name not in seen:
            seen.add(name)
            yield settings
        if len(seen) == reference.trials:
            return


def nuisance_names(search: Search, reference: ReferenceSection) -> tuple[str, ...]:
    """Return the settings that the trials of the reference draw, each after the settings that it depends on.

    If the reference gives two of width, heads and head size, its shape is fixed in all tries.
    """
    if reference.trials == 1:
        return ()
    shape = _given_shape(reference.settings)
    drawn = [
        name
        for name, parameter in searched_in_order(search).items()
        if parameter.role == "nuisance" and name != "committee_size" and name not in shape
    ]
    others = {name: value for name, value in reference.settings.items() if name not in drawn}
    return tuple(name for name in drawn if _matters_in(search, name, others))


def _missing(search: Search, reference: ReferenceSection) -> list[str]:
    """Return the searched settings that the reference must give but lacks."""
    shape, drawn = _given_shape(reference.settings), nuisance_names(search, reference)
    known = {name: value for name, value in reference.settings.items() if name not in drawn}
    return [
        name
        for name in searched_in_order(search)
        if name not in reference.settings
        and name not in shape
        and name not in drawn
        and name != "committee_size"
        and _matters_in(search, name, known)
    ]


def _completed(search: Search, given: Mapping[str, Value]) -> dict[str, Value]:
    """Return all settings of a try: the ``given`` settings, the fixed settings of the search, and defaults.

    Raises:
        ValueError: width, heads and head size contradict each other.
    """
    shape = _given_shape(given)
    inherited = {
        name: value for name, value in search.items() if not isinstance(value, Choices | Range) and name not in shape
    }
    return complete({**inherited, "committee_size": inherited.get("committee_size", 1), **given})


def _given_shape(given: Mapping[str, Value]) -> set[str]:
    """Return width, heads and head size if two of them are given, since they determine the third."""
    return set(SHAPE) if sum(name in given for name in SHAPE) >= 2 else set()


def _matters_in(search: Search, name: str, given: Mapping[str, Value]) -> bool:
    for parent, listed in when_of(search[name]).items():
        parameter = search[parent]
        value = given.get(parent, None if isinstance(parameter, Choices | Range) else parameter)
        known = value is not None  # else a try draws the parent, or it is reported as missing
        if (known and value not in listed) or not _matters_in(search, parent, given):
            return False
    return True


def _point(search: Search, given: Mapping[str, Value], shares: Mapping[str, float]) -> dict[str, Value]:
    """Return the ``given`` values, and draw each other setting of ``shares`` that then matters."""
    point = dict(given)
    for name, share in shares.items():
        if name not in point and _matters_in(search, name, point):
            point[name] = _searched(search, name).at(share)
    return point


def _listed(search: Search, given: Mapping[str, Value], names: Sequence[str]) -> Iterator[dict[str, Value]]:
    """Yield every point over ``names``, without points that need a continuous domain."""
    if not names:
        yield dict(given)
    elif not _matters_in(search, names[0], given):
        yield from _listed(search, given, names[1:])
    elif (domain := _searched(search, names[0])).size() is not None:
        for value in domain.values():
            yield from _listed(search, {**given, names[0]: value}, names[1:])


def _searched(search: Search, name: str) -> Searched:
    parameter = search[name]
    assert isinstance(parameter, Choices | Range)
    return parameter


class _Halton:
    """A dimension of the sequence: the permuted digits of an index in ``base``, reversed after the radix point."""

    def __init__(self, name: str, base: int, seed: int) -> None:
        generator = random.Random(f"{seed} {name}")
        self._base = base
        self._digits = [generator.sample(range(base), base) for _ in range(math.ceil(_PLACES / math.log2(base)))]

    def at(self, place: int) -> float:
        """Return the share in [0, 1) at index ``place``, counted from 0."""
        share, unit = 0.0, 1.0
        for digits in self._digits:
            unit /= self._base
            share += unit * digits[place % self._base]
            place //= self._base
        return share


def _primes() -> Iterator[int]:
    for number in itertools.count(2):
        if all(number % divisor for divisor in range(2, math.isqrt(number) + 1)):
            yield number
