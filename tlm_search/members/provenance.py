"""The provenance of a member: names of the data, versions, revision and machine. No digest depends on it."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tlm_search.data.prepared import PreparedData
from tlm_search.model.latency import machine


def provenance(data: PreparedData, device: str) -> dict[str, Any]:
    """Return the names of the data, versions, revision and machine."""
    packages = ("tlm-search", "torch", "transformers", "tokenizers", "numpy")
    return {
        "corpus": data.corpus_name,
        "task": data.task_name,
        "versions": {name: _version(name) for name in packages},
        "revision": _revision(),
        "machine": machine(device),
    }


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


@cache
def _revision() -> str | None:
    """Return the git revision of this package, or None outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
