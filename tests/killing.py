"""Processes of `tlm-search` for tests that kill them: started, watched, killed by their id, and their study checked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from tlm_search.space.schema import Space
from tlm_search.store.local import Store
from tlm_search.study.location import read_study, store_root
from tlm_search.study.record import TrialRecord

COMMAND = [sys.executable, "-c", "from tlm_search.cli.main import main; main()"]

# Ray's names for the process of a trial: between two steps, and during one.
WORKER = ("ray::CommitteeTrial", "ray::ResourceTrainable")

Process = subprocess.Popen[str]
Start = Callable[..., Process]


def start_command(folder: Path, *arguments: str) -> Process:
    """Start `tlm-search` in ``folder`` as the leader of its own process group."""
    pipe = subprocess.PIPE
    command = [*COMMAND, *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def finish(process: Process) -> tuple[int, str, str]:
    """Wait for the process to end; return exit code, standard output and error."""
    with process:
        out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def lines_until(process: Process, words: str) -> str:
    """Read and return standard error up to the line with these words; fail if no line has them."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return "".join(seen)
    raise AssertionError("".join(seen))


def kill_worker(driver: int) -> bool:
    """Kill a process that runs trials of ``driver``; return whether one was found."""
    return kill_child(driver, *WORKER)


def kill_child(driver: int, *words: str) -> bool:
    """Kill a descendant of ``driver`` whose program contains one of the words; return whether one was found."""
    for pid, command in descendants(driver):
        if any(word in command[0] for word in words):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def descendants(driver: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the descendants of ``driver``, each with the words of its command."""
    family = {driver}
    for pid in sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if parent in family:
            family.add(pid)
            yield pid, command.split("\0")


def listening(pids: Iterable[int]) -> set[IPv4Address | IPv6Address]:
    """Return the addresses on which any of the processes accepts TCP connections."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(str(descriptor.readlink()))
    found: set[IPv4Address | IPv6Address] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                words = bytes.fromhex(fields[1].partition(":")[0])
                address = ip_address(b"".join(words[first : first + 4][::-1] for first in range(0, len(words), 4)))
                found.add(getattr(address, "ipv4_mapped", None) or address)
    return found


def faults_of(folder: Path, trials: int) -> list[str]:
    """Return the faults of a study that should have ``trials`` finished trials; an empty list if it has none."""
    record, store = read_study(folder), Store(store_root(folder.parent))
    finished = [trial for trial in record.trials if trial.state in ("complete", "pruned", "failed")]
    counted = [trial for trial in finished if not trial.interrupted]
    faults = [] if len(counted) == trials else [f"{len(counted)} finished trials instead of {trials}"]
    faults += [f"trial {trial.number} is running" for trial in record.in_state("running")]
    faults += [f"trial {trial.number} failed: {trial.error}" for trial in counted if trial.state == "failed"]
    faults += [f"{problem.kind} {problem.digest}: {problem.reason}" for problem in store.verify()]
    everything = [*record.trials, *([record.reference] if record.reference else [])]
    trained = sum(trial.trained for trial in everything)
    entries = len(list(store.entries("members")))
    faults += [f"{trained} members trained, {entries} in the store"] if trained > entries else []
    retried = {trial.retry_of for trial in record.trials}
    interrupted = [trial for trial in record.trials if trial.interrupted and _is_drawn(trial, record.space)]
    left = [trial.number for trial in interrupted if trial.number not in retried]
    faults += [f"trial {number} was not tried again" for number in left]
    return faults


def _is_drawn(trial: TrialRecord, space: Space) -> bool:
    """Return whether the driver lived long enough to draw all parameters. Otherwise no trial has to be tried again."""
    return all(name in trial.params for name in space.searched() if space.is_active(name, trial.params))


def results_of(folder: Path) -> list[tuple[object, ...]]:
    """Return state, parameters, values and rungs of the finished trials, in order."""
    trials = [trial for trial in read_study(folder).trials if not trial.interrupted]
    return [(trial.state, dict(trial.params), trial.values, dict(trial.rungs)) for trial in trials]
