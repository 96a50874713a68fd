"""Two nodes of a real Ray cluster on this machine: one is killed in the middle of a run, one does not see the store."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import Process, Start, faults_of, finish, lines_until, start_command
from nodes import Node, signal_to, start_node, wait_until

from tlm_search.study.location import read_study

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

TRIALS = 120  # enough that some are left when the node has died
# The search is over the learning rate: each trial has its own members, so none waits for one that a stopped process is
# training.
SPACE = """
trainer: simulated
search:
  depth: 2
  heads: 2
  head_size: 8
  committee_size: 2
  finetune_learning_rate: {low: 1e-4, high: 1e-2, log: true}
sampler: random
pruner: none
"""
# Ray reports one or the other, depending on what it knows when the driver asks.
REASONS = {"its node died", "its worker died", "its worker or its node could not be reached"}
Join = Callable[..., Node]


@pytest.fixture(scope="module")
def head() -> Iterator[Node]:
    folder = Path(tempfile.mkdtemp(prefix="tlm-", dir="/tmp"))  # short: sockets have paths of at most 107 characters
    node = start_node(folder, 2)
    yield node
    node.end()
    shutil.rmtree(folder)


@pytest.fixture
def join(head: Node, tmp_path: Path) -> Iterator[Join]:
    joined: list[Node] = []

    def join(number: int, **options: Any) -> Node:
        joined.append(start_node(tmp_path, number, head=head.address, **options))
        return joined[-1]

    yield join
    for node in joined:
        node.end()


@pytest.fixture
def run(head: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "studies").mkdir()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    started: list[Process] = []

    def run(trials: int, *options: str) -> Process:
        arguments = ["run", "space.yaml", "--trials", str(trials), "--address", head.address, "--studies-dir"]
        started.append(start_command(tmp_path, *arguments, str(tmp_path / "studies"), *options))
        return started[-1]

    yield run
    for process in started:
        with process:
            process.kill()


def test_a_node_killed_in_the_middle_costs_no_trial(head: Node, join: Join, run: Start, tmp_path: Path) -> None:
    second, folder = join(3), tmp_path / "studies" / "space"
    process = run(TRIALS)

    def second_is_at_work() -> bool:
        for pid in head.workers():
            signal_to(pid, signal.SIGSTOP)
        return bool(second.workers())

    lines_until(process, "[1/")
    # Otherwise the head's worker could finish all trials before the other worker has started.
    wait_until(second_is_at_work)
    before = len(read_study(folder).in_state("complete"))
    # some of these trials ran on the second node: only one could be on its way from the head
    lines_until(process, f"[{before + 4}/{TRIALS}]")
    second.end()
    for pid in head.workers():
        signal_to(pid, signal.SIGCONT)
    code, _, err = finish(process)
    assert code == 0, err
    assert "Traceback" not in err
    assert faults_of(folder, TRIALS) == []
    record = read_study(folder)
    assert len(record.in_state("complete")) == TRIALS
    interrupted = [trial for trial in record.trials if trial.interrupted]
    assert interrupted
    assert {trial.error for trial in interrupted} <= REASONS
    for trial in interrupted:
        assert [other.params for other in record.trials if other.retry_of == trial.number] == [trial.params]


def test_a_node_that_does_not_see_the_store_is_said(
    head: Node, join: Join, run: Start, go_on: Any, tmp_path: Path
) -> None:
    if subprocess.run(["unshare", "--map-root-user", "--mount", "true"], check=False).returncode:
        pytest.skip("no node can be made here that sees other folders than the rest")
    studies = tmp_path / "studies"
    join(4, cpus=2, hidden=studies)
    code, _, err = finish(run(TRIALS, "--set", "resources.cpus_per_trial=2"))  # only that node can run such trials
    assert code == 2, err
    assert err.count("error: ") == 1
    assert f"the store {studies}/.store is not on the node {socket.gethostname()}" in err
    assert "put --studies-dir on a folder that all nodes share" in err
    assert "Traceback" not in err
    assert not list((studies / ".store").glob("members/*"))
    record = read_study(studies / "space")
    assert {trial.state for trial in record.trials if not trial.interrupted} == {"waiting"}
    code, _, err = go_on("run", str(tmp_path / "space.yaml"), "--trials", "5", "--studies-dir", str(studies))
    assert code == 0, err
    assert faults_of(studies / "space", 5) == []
