"""The Ray seam for real: `run` on this machine, again, with a dead worker, and after Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from killing import Process, Start, descendants, finish, kill_child, kill_worker, lines_until, listening, start_command
from nodes import wait_until

from tlm_search.store.local import Store
from tlm_search.study.location import read_study

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

SPACE = """
trainer: simulated
search:
  depth: {low: 1, high: 3}
  heads: {choices: [1, 2, 4]}
  head_size: 8
  committee_size: {low: 1, high: 4}
reference: {depth: 6, heads: 8}
objectives: [validation_accuracy, latency_ms]
pruner: {name: asha, reduction_factor: 2}
"""


ONE = ("--set", "resources.concurrent_trials=1")  # for tests in which a second worker would show nothing more


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    (tmp_path / "space.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)  # for commands that run in this process
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(start_command(tmp_path, *arguments))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def trials(folder: Path) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, dict(t.params), t.values, t.rungs) for t in read_study(folder).trials]


def test_a_run_loses_a_worker_and_is_run_again(tmp_path: Path, start: Start, call: Any) -> None:
    """A killed worker costs no trial. A finished study runs again without Ray, and refuses another space."""
    process = start("run", "space.yaml", "--trials", "60")  # enough trials that the study is still running
    begun = lines_until(process, "[4/60]")
    family = dict(descendants(process.pid))
    commands = [" ".join(command) for command in family.values()]
    assert any("/raylet" in command for command in commands)
    idle = ("dashboard/dashboard.py", "_private/monitor.py", "_private/log_monitor.py")
    assert not [command for command in commands if any(server in command for server in idle)]
    assert listening([process.pid, *family]) == {IPv4Address("127.0.0.1")}
    assert kill_worker(process.pid)
    code, out, err = finish(process)
    assert code == 0, err
    folder = tmp_path / "studies" / "space"
    record = read_study(folder)
    counted = [trial for trial in record.trials if not trial.interrupted]
    assert len(counted) == 60
    assert {trial.state for trial in counted} <= {"complete", "pruned"}
    assert not record.in_state("failed")
    interrupted = [trial for trial in record.trials if trial.interrupted]
    assert {trial.error for trial in interrupted} <= {"its worker died"}
    for trial in interrupted:
        assert [other.params for other in record.trials if other.retry_of == trial.number] == [trial.params]
    assert record.reference is not None
    assert record.reference.metrics["validation_accuracy"] > 0
    assert "[60/60]" in err
    assert str(folder / "report.html") in out
    assert "ray" not in (out + begun + err).lower().replace("starting ray", "")
    before = trials(folder)

    started = time.monotonic()
    code, out, err = call("run", "space.yaml", "--trials", "60")
    assert (code, err) == (0, "")
    assert time.monotonic() - started < 60
    assert trials(folder) == before

    code, out, _ = call("status", "space", "--json")
    status = json.loads(out)
    assert code == 0
    assert sum(status["trials"].values()) == 60
    assert status["reference"]["validation_accuracy"] == record.reference.metrics["validation_accuracy"]

    code, out, err = call("run", "space.yaml", "--trials", "60", "--set", "search.depth=2")
    assert code == 2
    assert "search.depth" in err
    assert "--fresh" in err
    assert trials(folder) == before


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_stops_and_the_study_goes_on(tmp_path: Path, start: Start, go_on: Any, times: int) -> None:
    process = start("run", "space.yaml", "--trials", "400", *ONE)
    lines_until(process, "[3/400]")
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)  # like Ctrl-C in a terminal, which Ray's processes receive too
        time.sleep(0.01)
    code, _, err = finish(process)
    assert "Traceback" not in err
    assert code == 130
    assert "tlm-search run space.yaml --trials 400" in err
    assert "a second Ctrl-C stops at once" in err
    folder = tmp_path / "studies" / "space"
    finished = len([trial for trial in read_study(folder).trials if trial.state in ("complete", "pruned")])
    assert not read_study(folder).in_state("running")
    code, _, err = go_on("run", "space.yaml", "--trials", str(finished + 2), *ONE)
    assert code == 0, err
    states = [trial.state for trial in read_study(folder).trials if not trial.interrupted]
    assert len(states) == finished + 2
    assert set(states) <= {"complete", "pruned"}


@pytest.mark.parametrize("moment", ["reading", "starting Ray", "[3/400]", "[4/4]"])
def test_sigterm_ends_a_run_as_ctrl_c_does(start: Start, moment: str) -> None:
    """SLURM, Kubernetes and systemd end a job in this way. Ray's own handler would print a native stack and abort."""
    trials = "4" if moment == "[4/4]" else "400"
    process = start(
        "run", "space.yaml", "--trials", trials, *ONE, *(["--set", "trainer=bert"] if moment == "reading" else [])
    )
    lines_until(process, moment)
    family = {pid for pid, _ in descendants(process.pid)}
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert "SIGTERM received" not in err
    assert "Traceback" not in err
    if moment == "[4/4]" and code == 0:
        return  # the signal came after its last line
    assert code == 130, err
    assert f"tlm-search run space.yaml --trials {trials}" in err
    wait_until(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()])


def test_ctrl_c_while_ray_starts_ends_with_the_command_that_continues(start: Start) -> None:
    process = start("run", "space.yaml", "--trials", "400")
    lines_until(process, "starting Ray")
    wait_until(lambda: any("/gcs_server" in command[0] for _, command in descendants(process.pid)))
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
    code, _, err = finish(process)
    assert code == 130
    assert "tlm-search run space.yaml --trials 400" in err
    assert "Traceback" not in err


def test_a_killed_raylet_a_second_driver_and_a_killed_driver(
    tmp_path: Path, start: Start, call: Any, go_on: Any
) -> None:
    process = start("run", "space.yaml", "--trials", "4000", *ONE)
    lines_until(process, "[2/4000]")
    assert kill_child(process.pid, "/raylet")
    code, out, err = finish(process)
    assert (code, out) == (1, "")
    assert "raylet of this machine" in err
    assert re.search("continue with: tlm-search run space.yaml --trials 4000|run the same command again", err)
    assert "Traceback" not in err

    process = start("run", "space.yaml", "--trials", "4000", *ONE)
    lines_until(process, "/4000]")
    code, _, err = call("run", "space.yaml")
    assert code == 2
    assert f"is being run by process {process.pid}" in err
    process.kill()
    finish(process)
    folder = tmp_path / "studies" / "space"
    done = {t.number: t.values for t in read_study(folder).trials if t.state in ("complete", "pruned")}
    code, _, err = go_on("run", "space.yaml", "--trials", str(len(done) + 2), *ONE)
    assert code == 0, err
    record = read_study(folder)
    assert {number: record.trials[number].values for number in done} == done
    assert len([t for t in record.trials if t.state in ("complete", "pruned")]) == len(done) + 2
    assert not record.in_state("running")
    assert Store(tmp_path / "studies" / ".store").verify() == []
