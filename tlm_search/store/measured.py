"""Measure once for each kind of machine, and keep the results in the store. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tlm_search.digest import digest
from tlm_search.store.local import Store

_LOCK = "latency"  # the lock of all kinds of measurements
_ENGINE = 7  # increase it when a change of code changes the speed, to measure everything again


def measured(
    kind: str,
    key: Mapping[str, Any],
    measure: Callable[[], Mapping[str, Any]],
    *,
    machine: Mapping[str, Any],
    store: Store,
) -> Mapping[str, Any]:
    """Return the document of ``measure`` for ``key``, from the store or from a measurement made now.

    Only one process on a machine measures at a time, because two would disturb each other. ``measure`` must not call
    ``measured``: that would be a deadlock.
    """
    name = _name(key)
    entry = store.read(kind, name)
    if entry is None:
        # Two measurements at the same time on a machine would both be wrong.
        with store.lock(_LOCK, digest(machine)):
            entry = store.read(kind, name) or store.write(kind, name, {"key": dict(key), **measure()}, {})
    return entry.document


def is_measured(kind: str, key: Mapping[str, Any], *, store: Store) -> bool:
    """Return whether the store holds the measurement for ``key``."""
    return store.read(kind, _name(key)) is not None


def _name(key: Mapping[str, Any]) -> str:
    return digest({**key, "engine": _ENGINE})
