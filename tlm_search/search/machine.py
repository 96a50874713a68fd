"""What a machine has, and how many trials fit: asked before anything is queued, because Ray would wait for ever."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlm_search.errors import ResourceError, StudyError
from tlm_search.space.sections import ResourcesSection

_ANSWER_SECONDS = 10
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Machine:
    """CPUs, GPUs and main memory of one machine."""

    cpus: float
    gpus: float
    memory_gb: float


def concurrent_trials(resources: ResourcesSection, machines: Sequence[Machine]) -> int:
    """Return how many trials run at once: as many as fit, and at most ``resources.concurrent_trials``.

    Raises:
        ResourceError: not even one fits on any machine.
    """
    fits = sum(_fits(resources, machine) for machine in machines)
    if not fits:
        most = Machine(*(max(getattr(m, part) for m in machines) for part in ("cpus", "gpus", "memory_gb")))
        raise ResourceError(
            f"a trial asks for {_words(resources)}; the largest machine has {most.cpus:g} CPUs, {most.gpus:g} GPUs "
            f"and {most.memory_gb:.1f} GB of memory",
            hint="lower cpus_per_trial, gpus_per_trial or memory_gb in the space's section resources",
        )
    return min(fits, resources.concurrent_trials or fits)


def this_machine(*, with_gpus: bool) -> Machine:
    """Return what this machine has; GPUs are counted only when asked for, because that loads torch."""
    gpus = 0
    if with_gpus:
        import torch

        gpus = torch.cuda.device_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(cpus=available_cpus(), gpus=gpus, memory_gb=memory / 1e9)


def check_reachable(address: str) -> None:
    """Refuse a cluster's ``HOST:PORT`` where nobody listens; Ray itself would try for minutes.

    Raises:
        StudyError: nobody answers.
    """
    if address.startswith("ray://"):
        raise StudyError(
            f"{address} is Ray's client protocol, which cannot drive a study",
            hint="run on a machine of the cluster, and give the address of its head as HOST:PORT, or auto",
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", which is looked up later
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise no_cluster(address, error) from error


def no_cluster(address: str, why: object) -> StudyError:
    """Return the error for an address where no cluster is."""
    return StudyError(
        f"no Ray cluster answers at {address}: {why}",
        hint="start one with `ray start --head`, and give its address as HOST:PORT or auto",
    )


def available_cpus() -> int:
    """Return the CPUs this process may use: its affinity, and the quota of its container."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))


def _fits(resources: ResourcesSection, machine: Machine) -> int:
    shares = [(machine.cpus, resources.cpus_per_trial), (machine.gpus, resources.gpus_per_trial)]
    shares.append((machine.memory_gb, resources.memory_gb or 0))
    # The small excess forgives 0.1 + 0.1 + ... ; Ray counts in ten-thousandths.
    return min((int(has / asks + 1e-9) for has, asks in shares if asks), default=0)


def _words(resources: ResourcesSection) -> str:
    words = [f"{resources.cpus_per_trial:g} CPUs"]
    if resources.gpus_per_trial:
        words.append(f"{resources.gpus_per_trial:g} GPUs")
    if resources.memory_gb:
        words.append(f"{resources.memory_gb:g} GB of memory")
    return " and ".join(words)
