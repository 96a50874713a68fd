import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven import Bench, space_of

from tlm_search.cost.machine import Machine
from tlm_search.cost.shares import Shares
from tlm_search.errors import UserError
from tlm_search.search.driver import Driver
from tlm_search.search.ray_tune.interrupts import Interrupts
from tlm_search.study.storages import Journal


def hooks_of(driver: Driver, logs: Path) -> Any:
    """The hooks by which Ray calls a driver, on a machine of two processors."""
    from tlm_search.search.ray_tune.searcher import Hooks

    shares = Shares(space_of(), [Machine(cpus=2, gpus=0, memory_gb=8)])
    return Hooks(driver, Interrupts(driver.stop), logs, shares)


@pytest.mark.parametrize("when", ["suggest", "deliver", "lose"])
def test_a_full_disk_ends_the_run_in_our_words(bench: Callable[..., Bench], when: str, tmp_path: Path) -> None:
    """Ray would ignore an error of a hook, or raise another error with a traceback."""
    driver = bench().driver(5)
    hooks = hooks_of(driver, tmp_path / "logs")
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


DIED = "The actor died unexpectedly before finishing this task.\n\tclass_name: CommitteeTrial\n\tpid: 9\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{DIED}The actor died because its node has died. Node Id: 1f\n\t(1) lost", "its node died"),
        (f"{DIED}The actor is dead because its worker process has died. Worker exit type: SYSTEM", "its worker died"),
        (
            "The actor 5c is unavailable: The actor is temporarily unavailable: RpcError: Socket closed rpc_code: 14.",
            "its worker or its node could not be reached",
        ),
        (
            f"{DIED}2 worker(s) were killed due to the node running low on memory. Memory on the node was 15GB used",
            "its worker was killed because the memory was full",
        ),
        ("", "its worker died"),
        (
            "The actor died because of an error raised in its creation task\nray.exceptions.OwnerDiedError: Failed to",
            "its worker died: ray.exceptions.OwnerDiedError: Failed to",
        ),
        ("No such thing\nthe last line", "its worker died: the last line"),
    ],
)
def test_what_ray_says_of_a_lost_worker_is_told_in_a_few_words(
    bench: Callable[..., Bench], text: str, reason: str, tmp_path: Path
) -> None:
    place = bench()
    hooks = hooks_of(place.driver(5), tmp_path / "logs")
    hooks.suggest("a")
    hooks.lose("a", f"Failure # 1 (occurred at noon)\n{text}\n" if text else "")
    assert f"{reason}; it is tried again" in place.lines[-1]


CREATION = "The actor died because of an error raised in its creation task, ray::ResourceTrainable.__init__() (pid=9)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f'{CREATION}\n  File "/venv/pyarrow/__init__.py", line 59\n  File "/home/me/numpy.py", line 1\n'
            "RuntimeError: my own numpy",
            "workers cannot start: RuntimeError: my own numpy (in /home/me/numpy.py)",
        ),
        (
            "RuntimeError: The actor with name CommitteeTrial failed to import on the worker. This may be because\n"
            "ModuleNotFoundError: No module named 'tlm_search'",
            "workers cannot start: ModuleNotFoundError: No module named 'tlm_search'",
        ),
    ],
)
def test_a_worker_that_cannot_begin_ends_the_run_and_costs_no_trial(
    bench: Callable[..., Bench], text: str, reason: str, tmp_path: Path
) -> None:
    driver = bench().driver(5)
    hooks = hooks_of(driver, tmp_path / "logs")
    hooks.suggest("a")
    hooks.suggest("b")
    hooks.lose("a", text)
    hooks.lose("b", text)
    hooks.lose("c", text)  # it had ended already
    assert driver.ended
    assert driver.progress.finished == 0
    with pytest.raises(UserError, match="workers cannot start") as raised:
        driver.check_result(continue_with="tlm-search run x")
    assert raised.value.message == reason
    assert "then continue with: tlm-search run x" in str(raised.value.hint)
