"""Remove the folders of this machine, and with them the user's name, from a report that others will read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any, TypeVar

from tlm_search.study.record import StudyRecord, TrialRecord

# A path between quotes may contain spaces. After a letter or a slash it is part of a URL, a fraction or a unit.
_QUOTED = re.compile(r"""(?P<quote>['"])(?P<path>(?:~|/)[^'"\n]*/[^'"\n]+)(?P=quote)""")
_PLAIN = re.compile(r"(?<![\w/:.~-])(?:~|/[\w.~+-]+)(?:/[\w.~+@-]+)+/?")

_Trial = TypeVar("_Trial", bound=TrialRecord)


def source_name(source: str) -> str:
    """Return the name of a source in a report: the last part of a local path; ids of the hub and URLs as they are."""
    path = PurePath(source)
    local = path.is_absolute() or source.startswith(("~", ".")) or bool(path.suffix) or len(path.parts) > 2
    return (path.name or source) if local and "://" not in source else source


def without_paths(text: str) -> str:
    """Replace each absolute path in a message by its last part."""
    text = _QUOTED.sub(lambda found: f"{found['quote']}{_last(found['path'])}{found['quote']}", text)
    return _PLAIN.sub(lambda found: _last(found[0]), text)


def public(record: StudyRecord) -> StudyRecord:
    """Return the record with short names of its sources, and with errors that name no folder of this machine."""
    data: dict[str, Any] = {
        name: source_name(value) if name.endswith("_name") and isinstance(value, str) else value
        for name, value in record.data.items()
    }
    if "sources" in data:
        data["sources"] = {source_name(source): digest for source, digest in data["sources"].items()}
    return replace(
        record,
        data=data,
        trials=tuple(map(_public, record.trials)),
        reference=None if record.reference is None else _public(record.reference),
        reference_tries=tuple(map(_public, record.reference_tries)),
    )


def public_space(record: StudyRecord) -> dict[str, Any]:
    """Return the study's space as a document with short names of its sources."""
    return {key: _named(value) for key, value in record.space.to_document().items()}


def _named(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _named(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_named(part) for part in value]
    is_path = isinstance(value, str) and (PurePath(value).is_absolute() or value.startswith("~"))
    return source_name(value) if is_path else value


def _public(trial: _Trial) -> _Trial:
    return trial if trial.error is None else replace(trial, error=without_paths(trial.error))


def _last(path: str) -> str:
    parts = PurePath(path).parts
    at_home = (len(parts) == 3 and parts[1] in ("home", "Users")) or (parts[:1] == ("~",) and len(parts) == 1)
    return "~" if at_home else parts[-1]
