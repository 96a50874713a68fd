"""Conditions under which searched settings matter, and dependencies between settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tlm_search.space.parameters import Choices, Parameter, Range, Searched
from tlm_search.space.section import Problem, given
from tlm_search.space.settings import ONLY_UNLESS_OTHER, ONLY_WITH, Value


def when_of(parameter: Parameter) -> Mapping[str, tuple[Value, ...]]:
    """Return the conditions of a parameter; for a fixed value they are empty."""
    return parameter.when if isinstance(parameter, Choices | Range) else {}


def with_implied(search: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return ``search`` with the implied conditions of ``ONLY_WITH`` and ``ONLY_UNLESS_OTHER``.

    No condition is added if ``search`` lacks the other setting. Then a searched setting of ``ONLY_WITH`` never matters.
    """
    full = dict(search)
    for name, (other, value) in {**ONLY_WITH, **ONLY_UNLESS_OTHER}.items():
        parameter = full.get(name)
        if isinstance(parameter, Choices | Range) and other in full and other not in parameter.when:
            full[name] = parameter.model_copy(update={"when": {**parameter.when, other: (value,)}})
    return full


def searched_in_order(search: Mapping[str, Parameter]) -> dict[str, Searched]:
    """Return the searched settings that can matter, each after the settings that it depends on."""
    order: dict[str, Searched] = {}

    def place(name: str) -> None:
        parameter = search[name]
        if isinstance(parameter, Choices | Range) and name not in order and _can_be_active(search, name):
            for parent in parameter.when:
                place(parent)
            order[name] = parameter

    for name in search:
        place(name)
    return order


def active(search: Mapping[str, Parameter], name: str, params: Mapping[str, Value]) -> bool:
    """Return whether ``name`` matters: each setting that it depends on is active and has a listed value.

    Raises:
        KeyError: ``params`` lack a setting that ``name`` depends on.
    """
    for parent, listed in when_of(search[name]).items():
        if not active(search, parent, params):
            return False
        parameter = search[parent]
        if (params[parent] if isinstance(parameter, Choices | Range) else parameter) not in listed:
            return False
    return True


def condition_problems(search: Mapping[str, Parameter]) -> list[Problem]:
    """Find conditions on settings that are not in ``search``, conditions on impossible values, and cycles."""
    problems = []
    for name, parameter in search.items():
        for parent, listed in when_of(parameter).items():
            path = (name, "when", parent)
            if parent not in search:
                allowed = ", ".join(other for other in search if other != name) or "none"
                problems.append(Problem(path, f"{parent} is not in search; allowed: {allowed}"))
            elif _depends_on(search, parent, name):
                problems.append(Problem(path, f"{name} depends on {parent}, and {parent} on {name}; allowed: no cycle"))
            else:
                problems += [Problem((*path, i), text) for i, text in _never(search[parent], parent, listed)]
    return problems


def _never(parent: Parameter, name: str, listed: tuple[Value, ...]) -> Iterator[tuple[int, str]]:
    # A fixed parent may have any value, so that a file stays valid when `--set` fixes a searched setting.
    if isinstance(parent, Choices | Range):
        for i, value in enumerate(listed):
            if not parent.contains(value):
                yield i, f"given {given(value)}; allowed: a value that {name} has, {parent.words()}"


def _can_be_active(search: Mapping[str, Parameter], name: str) -> bool:
    return all(
        _can_be_active(search, parent) if isinstance(search[parent], Choices | Range) else search[parent] in listed
        for parent, listed in when_of(search[name]).items()
    )


def _depends_on(search: Mapping[str, Parameter], name: str, other: str) -> bool:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current == other:
            return True
        if current in search and current not in seen:
            seen.add(current)
            waiting.extend(when_of(search[current]))
    return False
