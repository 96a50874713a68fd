"""Nodes of a Ray cluster on this machine, made by `ray start`, each with an address of its own on the loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from killing import WORKER

_RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
_SIZE = ["--object-store-memory=80000000", "--include-log-monitor=false"]
_STARTED = "Ray runtime started"
WAIT_SECONDS = 180


@dataclass(frozen=True)
class Node:
    """A node. All its processes are in one session, the session of its `ray start`."""

    process: subprocess.Popen[Any]
    address: str

    def workers(self) -> list[int]:
        """Return the processes that run trials."""
        return [pid for pid, name in self.processes().items() if name.startswith(WORKER)]

    def end(self) -> None:
        """Kill all processes of the node, as a power cut does."""

        def gone() -> bool:
            for pid in self.processes():
                signal_to(pid, signal.SIGKILL)
            return not self.processes()

        with self.process:
            wait_until(gone)

    def processes(self) -> dict[int, str]:
        """Return its processes and their programs."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    state, _, _, session = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:4]
                    if int(session) == self.process.pid and state != "Z":
                        found[int(folder.name)] = (folder / "cmdline").read_text().split("\0", 1)[0]
                except OSError:
                    continue
        return found


def start_node(
    folder: Path, number: int, *, cpus: int = 1, head: str | None = None, hidden: Path | None = None
) -> Node:
    """Start a node at 127.0.0.NUMBER, the head or one of the cluster at ``head``; logs go to ``folder``.

    The node has no rights to the folder ``hidden`` and does not see its files.
    """
    host = f"127.0.0.{number}"
    of_head = ["--head", "--port=0", f"--temp-dir={folder / 'ray'}", "--include-dashboard=false"]
    place = [f"--node-ip-address={host}", *(of_head if head is None else [f"--address={head}"])]
    command = [*_RAY, *_SIZE, f"--num-cpus={cpus}", *place]
    if hidden is not None:
        inside = f"mount -t tmpfs tmpfs '{hidden}' && exec \"$@\""
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", inside, "sh", *command]
    log = folder / f"node-{number}.txt"
    # If this user has a Ray token, Ray would ask every node for it.
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or _STARTED in log.read_text())
        assert process.poll() is None, log.read_text()
    except BaseException:
        Node(process, "").end()
        raise
    return Node(process, head or re.findall(rf"{re.escape(host)}:\d+", log.read_text())[0])


def wait_until(true: Callable[[], object]) -> None:
    """Check again and again until the condition is true."""
    end = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def signal_to(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, which may have ended already."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
