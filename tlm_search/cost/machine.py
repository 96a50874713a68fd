"""The resources of a machine, and how many trials fit. A run checks them first, because Ray would wait for ever."""

from __future__ import annotations

import math
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from tlm_search.errors import StudyError

_ANSWER_SECONDS = 10
_QUOTA, _MEMORY_LIMIT = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Machine:
    """CPUs, GPUs and main memory of a machine. ``gpu_memory_gb`` is the memory of its smallest GPU; None if unknown."""

    cpus: float
    gpus: float
    memory_gb: float
    gpu_memory_gb: float | None = None


@dataclass(frozen=True)
class Share:
    """The resources of a machine that a trial takes."""

    cpus: float
    gpus: float = 0.0
    memory_gb: float = 0.0

    def __str__(self) -> str:
        words = [f"{self.cpus:g} CPUs"]
        if self.gpus:
            words.append(f"{self.gpus:g} GPUs")
        if self.memory_gb:
            words.append(f"{self.memory_gb:g} GB of memory")
        return " and ".join(words)

    def fits(self, machine: Machine) -> int:
        """Return how many such trials ``machine`` can run at once."""
        parts = ((machine.cpus, self.cpus), (machine.gpus, self.gpus), (machine.memory_gb, self.memory_gb))
        # The small excess absorbs the rounding of 0.1 + 0.1 + ...; Ray counts in ten-thousandths.
        return min((int(has / asks + 1e-9) for has, asks in parts if asks), default=0)


def this_machine(*, with_gpus: bool) -> Machine:
    """Return the resources of this machine. GPUs are counted only on request, because counting them loads torch."""
    gpus: list[int] = []
    if with_gpus:
        import torch

        gpus = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
    return Machine(available_cpus(), len(gpus), available_memory() / 1e9, min(gpus) / 1e9 if gpus else None)


def check_reachable(address: str) -> None:
    """Refuse the ``HOST:PORT`` of a cluster that does not answer. Ray itself would try for minutes.

    Raises:
        StudyError: no server answers at the address.
    """
    if address.startswith("ray://"):
        raise StudyError(
            f"{address} is Ray's client protocol, which cannot drive a study",
            hint="run on a machine of the cluster, and give the address of its head as HOST:PORT, or auto",
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", which Ray resolves later
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise no_cluster(address, error) from error


def no_cluster(address: str, why: object) -> StudyError:
    """Return the error for an address without a cluster."""
    return StudyError(
        f"no Ray cluster answers at {address}: {why}",
        hint="start one with `ray start --head`, and give its address as HOST:PORT or auto",
    )


def available_memory() -> int:
    """Return the bytes of main memory that this process may use: the machine's memory, or its container's limit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(memory, int(_MEMORY_LIMIT.read_text()))
    except (OSError, ValueError):  # "max", or the file does not exist
        return memory


def available_cpus() -> int:
    """Return the CPUs that this process may use: its affinity and its container's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))
