"""The base of all sections of a space: unknown keys and wrong values become messages with a path.

A wrong section raises pydantic's ``ValidationError``, whose entries are ``Problem``s: the path, the given value, the
allowed values. Pydantic joins the problems of nested sections and puts the outer keys before the path.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Strict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

Path = tuple[str | int, ...]
_KIND = "space"
_LONGEST_ECHO = 60


@dataclass(frozen=True)
class Problem:
    """A problem: the path of keys to it, the message, and its line if the path does not determine the line."""

    path: Path
    message: str
    line: int | None = None


def given(value: Any) -> str:
    """Write a value as the user would, shortened to a line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _LONGEST_ECHO else text[: _LONGEST_ECHO - 3] + "..."


def is_number(value: object) -> TypeGuard[float]:
    """Return whether ``value`` is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def refusal(value: Any, allowed: str) -> str:
    """Say that ``value`` is not ``allowed``."""
    return f"given {given(value)}; allowed: {allowed}"


def unknown(word: str, value: Any, valid: Iterable[str]) -> str:
    """Say that ``value`` is not a ``valid`` name of a ``word``, and suggest the most similar name."""
    names = list(valid)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    return f"unknown {word} {given(value)}{f'; did you mean {near[0]}?' if near else ''}; allowed: {', '.join(names)}"


def refuse(problems: Iterable[Problem]) -> ValidationError:
    """Return an error with these ``problems``. Raise it inside a validator to join the problems of other sections."""
    details: list[InitErrorDetails] = [
        InitErrorDetails(
            type=PydanticCustomError(_KIND, "{message}", {"message": problem.message}), loc=problem.path, input=None
        )
        for problem in problems
    ]
    return ValidationError.from_exception_data("space", details)


def problems_of(error: ValidationError) -> list[Problem]:
    """Return the problems of an error of ``refuse``."""
    return [Problem(entry["loc"], entry["msg"]) for entry in error.errors(include_url=False, include_context=False)]


class Section(BaseModel):
    """A part of a space: frozen and complete."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _in_plain_words(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        if isinstance(data, cls):
            return data
        if not isinstance(data, Mapping):
            raise refuse([Problem((), refusal(data, f"a mapping with the keys {', '.join(cls.model_fields)}"))])
        problems = [
            Problem((key,), unknown("key", key, cls.model_fields)) for key in data if key not in cls.model_fields
        ]
        section: Self | None = None
        try:
            section = handler({key: value for key, value in data.items() if key in cls.model_fields})
        except ValidationError as error:
            for entry in error.errors(include_url=False, include_context=False):
                problems.append(Problem(entry["loc"], cls._words(entry["type"], entry["loc"], entry)))
        if section is None or problems:
            raise refuse(problems)
        return section

    @classmethod
    def _words(cls, kind: str, path: Path, entry: Mapping[str, Any]) -> str:
        if kind == _KIND:
            return str(entry["msg"])
        allowed = allowed_in(cls.model_fields[str(path[0])])
        return f"is missing; allowed: {allowed}" if kind == "missing" else refusal(entry["input"], allowed)


def allowed_in(field: FieldInfo) -> str:
    """Say in words which values a field takes."""
    return _words(field.annotation, tuple(field.metadata))


def _words(annotation: Any, metadata: tuple[Any, ...]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0], (*metadata, *arguments[1:]))
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_words(argument, metadata) for argument in arguments)
    not_empty = any(getattr(item, "min_length", 0) for item in metadata)
    names = {NoneType: "null", bool: "true or false", str: "text that is not empty" if not_empty else "text"}
    if annotation in names:
        return names[annotation]
    if annotation in (int, float):
        return ("a whole number" if annotation is int else "a number") + _limits(metadata)
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return f"a mapping with the keys {', '.join(annotation.model_fields)}"
    return "a list"


def _limits(metadata: tuple[Any, ...]) -> str:
    words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    limits = {name: getattr(item, name) for item in metadata for name in words if hasattr(item, name)}
    if "ge" in limits and "le" in limits:
        return f" from {limits['ge']} to {limits['le']}"
    return "".join(f"{' and' if i else ''} {words[name]} {limit}" for i, (name, limit) in enumerate(limits.items()))


Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]
