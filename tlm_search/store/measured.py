"""Measurements of a machine, made once for each kind of machine and kept in the store. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tlm_search.digest import digest
from tlm_search.store.local import Store

_LOCK = "latency"  # the name under which all that is measured waits
_ENGINE = 7  # raised when training or answering takes another time than before: then all is measured anew


def measured(
    kind: str,
    key: Mapping[str, Any],
    measure: Callable[[], Mapping[str, Any]],
    *,
    machine: Mapping[str, Any],
    store: Store,
) -> Mapping[str, Any]:
    """Return the document of ``measure`` for ``key``, from the store or from a measurement made now.

    Only one process measures at a time on a machine, because two would disturb each other. ``measure`` must not call
    ``measured``: it would wait for itself.
    """
    name = _name(key)
    entry = store.read(kind, name)
    if entry is None:
        # Two measurements on one machine spoil both.
        with store.lock(_LOCK, digest(machine)):
            entry = store.read(kind, name) or store.write(kind, name, {"key": dict(key), **measure()}, {})
    return entry.document


def is_measured(kind: str, key: Mapping[str, Any], *, store: Store) -> bool:
    """Return whether the store holds the measurement for ``key``."""
    return store.read(kind, _name(key)) is not None


def _name(key: Mapping[str, Any]) -> str:
    return digest({**key, "engine": _ENGINE})
