"""Name things by their content: the sha256 of canonical JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

DIGEST_LENGTH = 32  # of 64 hexadecimal digits; 128 bits do not collide for any number of members


def canonical_json(value: Any) -> str:
    """Write ``value`` as JSON that is equal for equal values: sorted keys, no spaces, shortest floats.

    Whole floats become integers (``4.0`` and ``4`` name the same setting), tuples become lists.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: a value has no JSON form.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the name of ``value``: the first 32 hexadecimal digits of the sha256 of its canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_LENGTH]


def without_defaults(document: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``document`` without the keys that have their default value.

    So a setting that is added later leaves existing names as they are.
    """
    return {name: value for name, value in document.items() if name not in defaults or value != defaults[name]}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
