"""Read the entries of a file as settings: single values, and the entries of ``search``.

Errors are pydantic's ``ValidationError`` with all problems, so that the user sees every problem of a file at once.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from tlm_search.space.parameters import Choices, Parameter, Range, Role, exact, steps_between
from tlm_search.space.section import Problem, given, is_number, problems_of, refusal, refuse, unknown
from tlm_search.space.settings import CLASS_WEIGHTS, LINE, OWN, SETTINGS, Setting, Value, setting_named, weights_text

_NAMES = (*SETTINGS, f"{OWN}NAME for a trainer of your own")


def read_value(setting: Setting, raw: Any) -> Value:
    """Return ``raw`` as a value of ``setting``: numbers get its type, a kernel becomes text such as ``16x3``.

    Raises:
        ValueError: the value is not allowed; the message has the allowed values.
    """
    if setting.name == "convolution_kernel":
        raw = _kernel(raw)
    if setting.name == CLASS_WEIGHTS and (weights := _weights(raw)) is not None:
        return weights_text(weights)
    if setting.kind is None:
        if not (isinstance(raw, bool) or is_number(raw) or (isinstance(raw, str) and re.fullmatch(LINE, raw))):
            raise ValueError(refusal(raw, _allowed(setting)))
        return raw
    if setting.kind is str:
        if setting.choices and isinstance(raw, str) and raw not in setting.choices:
            raise ValueError(unknown("value", raw, setting.choices))
        if not isinstance(raw, str) or (setting.pattern and not re.fullmatch(setting.pattern, raw)):
            raise ValueError(refusal(raw, _allowed(setting)))
        return raw
    if setting.kind is bool:
        if not isinstance(raw, bool):
            raise ValueError(refusal(raw, _allowed(setting)))
        return raw
    value = setting.kind(raw) if is_number(raw) and (setting.kind is float or raw == int(raw)) else None
    assert setting.low is not None
    assert setting.high is not None
    if value is None or isinstance(value, str) or not setting.low <= value <= setting.high:
        raise ValueError(refusal(raw, _allowed(setting)))
    return value


def read_settings(raw: Any, *, other_keys: tuple[str, ...] = ()) -> dict[str, Value]:
    """Read a mapping from settings to single values; ``other_keys`` are allowed too, and left out.

    Raises:
        ValidationError: with every problem of the mapping.
    """
    if not isinstance(raw, Mapping):
        raise refuse([Problem((), refusal(raw, "a mapping from settings to values"))])
    values: dict[str, Value] = {}
    problems: list[Problem] = []
    for name, value in raw.items():
        if name in other_keys:
            continue
        setting = setting_named(name)
        if setting is None:
            problems.append(Problem((name,), unknown("setting", name, [*_NAMES, *other_keys])))
            continue
        try:
            values[name] = read_value(setting, value)
        except ValueError as error:
            problems.append(Problem((name,), str(error)))
    if problems:
        raise refuse(problems)
    return values


def read_search(raw: Any) -> dict[str, Parameter]:
    """Read the whole ``search`` section.

    Raises:
        ValidationError: with every problem of every setting.
    """
    if not isinstance(raw, Mapping):
        raise refuse([Problem((), refusal(raw, "a mapping from settings to values, choices or ranges"))])
    search: dict[str, Parameter] = {}
    problems: list[Problem] = []
    for name, entry in raw.items():
        setting = setting_named(name)
        if setting is None:
            problems.append(Problem((name,), unknown("setting", name, _NAMES)))
            continue
        try:
            search[name] = read_parameter(setting, entry)
        except ValidationError as error:
            problems += [Problem((name, *problem.path), problem.message) for problem in problems_of(error)]
    if problems:
        raise refuse(problems)
    return search


def read_parameter(setting: Setting, raw: Any) -> Parameter:
    """Read an entry of ``search``: a value, ``{choices: ...}``, ``{low: ..., high: ...}`` or ``{value: ...}``.

    Raises:
        ValidationError: with every problem of the entry.
    """
    if isinstance(raw, Choices | Range):
        raw = raw.model_dump()
    if not isinstance(raw, Mapping) or (setting.name == CLASS_WEIGHTS and not ({"choices", "value"} & set(raw))):
        if isinstance(raw, list) and setting.kind is not str:
            raise refuse([Problem((), f"{refusal(raw, _allowed(setting))}, or {{choices: {given(raw)}}}")])
        return _entry_value(setting, raw, ())
    if "choices" in raw:
        return _choices(setting, raw)
    if "low" in raw or "high" in raw:
        return _range(setting, raw)
    if "value" in raw:
        return _fixed(setting, raw)
    keys = ("choices", "low", "high", "log", "step", "value", "role", "when")
    problems = [Problem((key,), unknown("key", key, keys)) for key in raw if key not in keys]
    raise refuse([*problems, Problem((), refusal(dict(raw), "choices; or low and high; or value"))])


def _choices(setting: Setting, raw: Mapping[str, Any]) -> Choices:
    problems = _foreign_keys(raw, ("choices", "role", "when"))
    values: list[Value] = []
    listed = raw["choices"]
    if not isinstance(listed, list | tuple) or not listed:
        problems.append(Problem(("choices",), refusal(listed, f"a list of values, each {_allowed(setting)}")))
        listed = []
    for i, item in enumerate(listed):
        try:
            value = read_value(setting, item)
        except ValueError as error:
            problems.append(Problem(("choices", i), str(error)))
            continue
        if value in values:
            problems.append(Problem(("choices", i), f"given {given(item)} twice; allowed: each value once"))
        values.append(value)
    when = _when(raw.get("when", {}), problems)
    role = _role(raw.get("role", "scientific"), problems)
    if problems:
        raise refuse(problems)
    return Choices(choices=tuple(values), role=role, when=when)


def _range(setting: Setting, raw: Mapping[str, Any]) -> Range:
    problems = _foreign_keys(raw, ("low", "high", "log", "step", "role", "when"))
    if setting.kind is None:  # without a whole step, a range from 0 to 1 includes the numbers between
        whole = all(type(raw.get(key)) is int for key in ("low", "high", "step"))
        setting = replace(setting, kind=int if whole else float, low=-math.inf, high=math.inf)
    if setting.kind in (bool, str):
        raise refuse([*problems, Problem((), f"a range is for numbers; allowed: {_allowed(setting)}")])
    if setting.part == "tokens":
        example = given({"choices": [value for key in ("low", "high") if is_number(value := raw.get(key))]})
        message = f"given a range; allowed: a value or choices, such as {example}: each has its own tokens of all texts"
        raise refuse([*problems, Problem((), message)])
    ends: dict[str, Any] = {}
    for key in ("low", "high"):
        try:
            ends[key] = read_value(setting, raw[key])
        except KeyError:
            problems.append(Problem((key,), f"is missing; allowed: {_allowed(setting)}"))
        except ValueError as error:
            problems.append(Problem((key,), str(error)))
    log, step = raw.get("log", False), raw.get("step")
    if not isinstance(log, bool):
        problems.append(Problem(("log",), refusal(log, "true or false")))
    if step is not None and not (is_number(step) and step > 0 and (setting.kind is float or step == int(step))):
        kind = "a whole number" if setting.kind is int else "a number"
        problems.append(Problem(("step",), refusal(step, f"{kind} above 0")))
        step = None
    if log is True and step is not None and not (setting.kind is int and step == 1):
        allowed = "allowed: one of the two" + (", or step: 1" if setting.kind is int else "")
        problems.append(Problem(("step",), f"given {given(step)} together with log: true; {allowed}"))
    if len(ends) == 2:
        problems += _order(ends["low"], ends["high"], log=log is True, step=step)
    when = _when(raw.get("when", {}), problems)
    role = _role(raw.get("role", "scientific"), problems)
    if problems:
        raise refuse(problems)
    if step is not None:
        step = int(step) if setting.kind is int else float(step)
    return Range(**ends, log=log, step=step, role=role, when=when)


def _order(low: float, high: float, *, log: bool, step: float | None) -> list[Problem]:
    if low > high:
        return [Problem(("high",), refusal(high, f"a number that is not below low, {low:g}"))]
    problems = []
    if log and low <= 0:
        problems.append(Problem(("low",), refusal(low, "a number above 0, for log: true")))
    if step and not log and steps_between(low, high, step).denominator != 1:
        below = exact(low) + math.floor(steps_between(low, high, step)) * exact(step)
        allowed = f"low plus whole steps of {step:g}, such as {float(below):g} or {float(below + exact(step)):g}"
        problems.append(Problem(("high",), refusal(high, allowed)))
    return problems


def _fixed(setting: Setting, raw: Mapping[str, Any]) -> Value:
    problems = _foreign_keys(raw, ("value", "role"))
    if raw.get("role", "fixed") != "fixed":
        problems.append(Problem(("role",), refusal(raw["role"], "fixed, for a single value")))
    if problems:
        raise refuse(problems)
    return _entry_value(setting, raw["value"], ("value",))


def _entry_value(setting: Setting, raw: Any, path: tuple[str, ...]) -> Value:
    try:
        return read_value(setting, raw)
    except ValueError as error:
        raise refuse([Problem(path, str(error))]) from None


def _foreign_keys(raw: Mapping[str, Any], keys: tuple[str, ...]) -> list[Problem]:
    return [Problem((key,), unknown("key", key, keys)) for key in raw if key not in keys]


def _role(raw: Any, problems: list[Problem]) -> Role:
    if raw == "nuisance":
        return "nuisance"
    if raw != "scientific":
        problems.append(Problem(("role",), refusal(raw, "scientific or nuisance, for a searched setting")))
    return "scientific"


def _when(raw: Any, problems: list[Problem]) -> dict[str, tuple[Value, ...]]:
    if not isinstance(raw, Mapping):
        problems.append(Problem(("when",), refusal(raw, "a mapping such as {pooling: [cls]}")))
        return {}
    when: dict[str, tuple[Value, ...]] = {}
    for name, listed in raw.items():
        setting = setting_named(name)
        if setting is None:
            problems.append(Problem(("when", name), unknown("setting", name, _NAMES)))
        elif not isinstance(listed, list | tuple) or not listed:
            problems.append(Problem(("when", name), refusal(listed, f"a list of values, each {_allowed(setting)}")))
        else:
            values = []
            for i, item in enumerate(listed):
                try:
                    values.append(read_value(setting, item))
                except ValueError as error:
                    problems.append(Problem(("when", name, i), str(error)))
            when[name] = tuple(values)
    return when


def _weights(raw: Any) -> Mapping[str, Any] | None:
    """Return class weights by label from a mapping or its text form, or None for any other value."""
    if isinstance(raw, str) and raw.startswith("{"):
        try:
            raw = json.loads(raw)
        except ValueError:
            return None
    return raw if isinstance(raw, Mapping) and raw else None


def _kernel(raw: Any) -> Any:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return f"{raw}x{raw}"
    if isinstance(raw, list | tuple) and len(raw) == 2 and all(type(side) is int for side in raw):
        return f"{raw[0]}x{raw[1]}"
    return raw


def _allowed(setting: Setting) -> str:
    if setting.name == "convolution_kernel":
        return "3 for 3x3, [16, 3] for 16x3 (tokens x width), each side from 1 to 99"
    return setting.allowed()
