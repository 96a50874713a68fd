from collections.abc import Callable
from pathlib import Path

import pytest
from driven import Bench, space_of


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda **sections: Bench(tmp_path, space_of(**sections))
