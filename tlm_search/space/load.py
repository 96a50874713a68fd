"""Read a YAML file as a space, or raise a single error with all problems in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tlm_search.errors import SpaceError
from tlm_search.space.document import Document, parse, read_document
from tlm_search.space.section import Problem, given, problems_of
from tlm_search.space.variants import KEY, take_variants

Model = TypeVar("Model", bound=BaseModel)
NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})


def load(model: type[Model], path: Path, *, overrides: Mapping[str, str] = NO_OVERRIDES) -> Model:
    """Read and check a space file as ``model``; see ``load_space``."""
    document = read_document(path)
    problems = list(document.problems)
    variants = document.data.get(KEY)
    words = [KEY, *(variants if isinstance(variants, Mapping) else ())]
    choosing = {key: text for key, text in overrides.items() if key.partition(".")[0] in words}
    taken = take_variants(_overridden(document.data, choosing), problems, taken=model.model_fields)
    data = _overridden(taken.data, {key: text for key, text in overrides.items() if key not in choosing})
    data.setdefault("name", "-".join([path.stem, *taken.suffixes()]))
    try:
        space = model.model_validate(data)
    except ValidationError as error:
        for problem in problems_of(error):
            said = problem.path if _override(problem, overrides) else taken.origin(problem.path)
            problems.append(replace(problem, path=said))
    if problems:
        raise _error(problems, document=document, file=path, overrides=overrides)
    return space


def _overridden(data: Any, overrides: Mapping[str, str]) -> Any:
    for key, text in overrides.items():
        document = parse(text, place=_place(key))
        for problem in document.problems:
            raise SpaceError(problem.message, file=_place(key), key=_key(problem))
        data = _with(data, tuple(key.split(".")), document.data, _place(key))
    return data


def _with(data: Any, keys: tuple[str, ...], value: Any, place: str) -> Any:
    """Return ``data`` with ``value`` at ``keys``; missing sections are created."""
    if not keys:
        return value
    if data is not None and not isinstance(data, dict):
        raise SpaceError(f"given a key below {given(data)}; allowed: keys of a mapping", file=place)
    inner = data or {}
    return {**inner, keys[0]: _with(inner.get(keys[0]), keys[1:], value, place)}


def _place(key: str) -> str:
    return f"--set {key}"


def _error(problems: list[Problem], *, document: Document, file: Path, overrides: Mapping[str, str]) -> SpaceError:
    places = [(_file_and_line(problem, document, file, overrides), problem) for problem in problems]
    # Values from the command line have no line and come last.
    places.sort(key=lambda entry: (entry[0][1] is None, entry[0][1] or 0))
    errors = [
        SpaceError(problem.message, file=where, line=line, key=_key(problem)) for (where, line), problem in places
    ]
    (where, line), problem = places[0]
    message = "\n".join([problem.message, *(error.message for error in errors[1:])])
    hint = f"{len(errors)} problems; nothing was started" if len(errors) > 1 else None
    return SpaceError(message, file=where, line=line, key=_key(problem), hint=hint)


def _file_and_line(
    problem: Problem, document: Document, file: Path, overrides: Mapping[str, str]
) -> tuple[str | Path, int | None]:
    key = _override(problem, overrides)
    return (_place(key), None) if key else (file, problem.line or document.line(problem.path))


def _override(problem: Problem, overrides: Mapping[str, str]) -> str | None:
    """Return the override that caused the problem."""
    parts = {key: tuple(key.split(".")) for key in overrides}
    return next((key for key, keys in parts.items() if problem.path[: len(keys)] == keys), None)


def _key(problem: Problem) -> str:
    return ".".join(str(step) for step in problem.path)
