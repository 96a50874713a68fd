"""Machines that share studies at a URL: each is a cache folder of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from tlm_search.remote import lease
from tlm_search.remote.mount import CACHE_VARIABLE, mount

On = Callable[[str], Path]


@pytest.fixture
def url() -> str:
    """An empty place in memory."""
    return f"memory://{uuid.uuid4().hex}/studies"


@pytest.fixture
def on(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> On:
    """Switch to a machine: ``on("a")`` returns its folder of the studies at ``url``."""

    def on(machine: str) -> Path:
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / machine))
        return mount(url)

    return on


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that expire within a moment."""
    monkeypatch.setattr(lease, "TIMING", lease.Timing(lease=0.3, renew=0.02, look=0.01))


def objects(url: str) -> dict[str, bytes]:
    """Return all objects at ``url``."""
    fs, root = fsspec.url_to_fs(url)
    return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}
