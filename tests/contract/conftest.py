from collections.abc import Callable
from pathlib import Path

import pytest
from driven import run_without_ray

from tlm_search.search.session import Session


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    return run_without_ray(tmp_path, monkeypatch)
