import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven import Bench, space_of

from tlm_search.search.interrupts import Interrupts
from tlm_search.search.machine import Machine
from tlm_search.search.shares import Shares
from tlm_search.search.storages import Journal


@pytest.mark.parametrize("when", ["suggest", "deliver", "lose"])
def test_a_full_disk_ends_the_run_in_our_words(bench: Callable[..., Bench], when: str, tmp_path: Path) -> None:
    """Ray would swallow what a hook raises, or raise an error of its own with a traceback."""
    from tlm_search.search.tune_searcher import Hooks

    driver = bench().driver(5)
    hooks = Hooks(
        driver, Interrupts(driver.stop), tmp_path / "logs", Shares(space_of(), [Machine(cpus=2, gpus=0, memory_gb=8)])
    )
    assert hooks.suggest("a") is not None

    def full(self: Journal, logs: list[dict[str, Any]]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append_logs", full)
        if when == "suggest":
            hooks.suggest("b")
        elif when == "deliver":
            assert not hooks.deliver("a", {"failure": '{"reason": "no luck", "hint": null, "of_user": false}'})
        else:
            hooks.lose("a", "")
    assert isinstance(hooks.problem, OSError)
    assert hooks.problem.errno == errno.ENOSPC
    assert driver.ended
    assert hooks.suggest("c") == "FINISHED"
