"""The share of a machine that each trial takes: as the space says, or as its configuration needs.

The needs are estimates. They rise if trials of the run take more. Shares come in coarse steps, so that the worker of a
trial can run the next. Everything is checked before a run starts, because Ray would wait for ever for resources that no
machine has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from tlm_search.cost.extremes import extremes
from tlm_search.cost.machine import Machine, Share
from tlm_search.cost.plan import DataSizes
from tlm_search.errors import ResourceError
from tlm_search.members.spec import settings_of_teachers
from tlm_search.members.stacks import MOST_STACKED, stack_size
from tlm_search.members.trainer import MICRO_BATCHES
from tlm_search.model.architecture import Architecture
from tlm_search.model.footprint import PROCESS_BYTES, counting_bytes, phases_of_settings, stack_bytes
from tlm_search.space.schema import Space
from tlm_search.space.settings import Value

GPU_STEPS = 8  # a share of a GPU is a multiple of an eighth
LEAST_MEMORY_GB = 0.5


class Shares:
    """The shares of machines that the trials of a study take."""

    def __init__(self, space: Space, machines: Sequence[Machine]) -> None:
        self._space, self._machines = space, machines
        self._sizes = DataSizes.of_space(space)
        self._correction = 1.0
        self._largest = 0.0

    def of(self, settings: Mapping[str, Value]) -> Share:
        """Return the share of a trial with complete ``settings``, at most a whole machine."""
        asked = self._space.resources
        gpus = self._gpus(settings) if asked.gpus_per_trial == "auto" else asked.gpus_per_trial
        if asked.memory_gb != "auto":
            return Share(asked.cpus_per_trial, gpus, asked.memory_gb or 0.0)
        if not self._space.has_weights:
            return Share(asked.cpus_per_trial, gpus)
        # The memory of a GPU holds the members, and the process takes little main memory.
        needed = self.estimated_gb(settings, members=self._stacked(settings)) if not gpus else self._host_gb(settings)
        stepped = max(LEAST_MEMORY_GB, 2.0 ** math.ceil(math.log2(needed)))
        return Share(asked.cpus_per_trial, gpus, min(stepped, self._largest_machine(gpus).memory_gb))

    def estimated_gb(self, settings: Mapping[str, Value], *, members: int = 1, micro_batches: int = 1) -> float:
        """Return the estimated memory for training ``members`` stacked members, corrected by measured peaks."""
        return self._estimate(settings, members=members, micro_batches=micro_batches) * self._correction

    def learn(self, settings: Mapping[str, Value], peak_gb: float) -> None:
        """Raise the estimates if the memory of a worker, after a trial with ``settings``, peaked above them.

        The peak of a worker covers all its trials, so it is compared with the largest estimate so far. A lower peak
        changes nothing, because the members may have come from the store.
        """
        estimate = self._estimate(settings, members=self._stacked(settings), micro_batches=1)
        self._largest = max(self._largest, estimate)
        self._correction = max(self._correction, peak_gb / self._largest)

    def least_stacked(self) -> int:
        """Return the smallest number of members that any trial of the space trains as a single model."""
        return min(self._stack(self._space.settings(params)) for params in extremes(self._space))

    def concurrent(self) -> int:
        """Return how many trials may run at once: as many of the smallest as fit, up to the limit of the space.

        Raises:
            ResourceError: a configuration of the space does not fit on any machine.
        """
        fits = 0
        trials = (self._space.settings(params) for params in extremes(self._space))
        for settings in itertools.chain(trials, self._space.reference_tries()):
            share = self.of(settings)
            self._check(share, settings)
            fits = max(fits, sum(share.fits(machine) for machine in self._machines))
        return min(fits, self._space.resources.concurrent_trials or fits)

    def _check(self, share: Share, settings: Mapping[str, Value]) -> None:
        most = self._largest_machine(share.gpus)
        if not any(share.fits(machine) for machine in self._machines):
            raise ResourceError(
                f"a trial asks for {share}; the largest machine has {most.cpus:g} CPUs, {most.gpus:g} GPUs "
                f"and {most.memory_gb:.1f} GB of memory",
                hint="lower cpus_per_trial, gpus_per_trial or memory_gb in the space's section resources",
            )
        if not self._space.has_weights or self._space.resources.memory_gb != "auto":
            return
        # Batches that are too large are split into micro-batches. Refuse only members that are too large even then.
        least = self.estimated_gb(settings, micro_batches=MICRO_BATCHES)
        where, has = ("GPU", self._gpu_memory()) if share.gpus else ("largest machine", most.memory_gb)
        if has is not None and least > has:
            shape = ", ".join(f"{name} {settings[name]}" for name in ("depth", "width", "pretrain_batch_size"))
            raise ResourceError(
                f"a member of {shape} takes about {least:.1f} GB to train; the {where} has {has:.1f} GB",
                hint="lower depth, width or batch sizes in search (or in reference), or the length of the texts; "
                "if you are sure that it fits, turn this check off with resources: {memory_gb: null}",
            )

    def _largest_machine(self, gpus: float) -> Machine:
        """Return the largest resources of the machines with the CPUs and ``gpus`` of a trial, or of all machines."""
        processors = Share(self._space.resources.cpus_per_trial, gpus)
        machines = [machine for machine in self._machines if processors.fits(machine)] or self._machines
        return Machine(*(max(getattr(m, part) for m in machines) for part in ("cpus", "gpus", "memory_gb")))

    def _gpus(self, settings: Mapping[str, Value]) -> float:
        has = self._gpu_memory()
        if has is None:
            raise ResourceError(
                "gpus_per_trial is auto, but no GPU with known memory was found",
                hint="give gpus_per_trial a number; auto is for the GPUs of the machine that runs the study",
            )
        needed = self.estimated_gb(settings, members=self._stacked(settings))
        return min(1.0, math.ceil(GPU_STEPS * needed / has) / GPU_STEPS)

    def _stacked(self, settings: Mapping[str, Value]) -> int:
        teachers = settings_of_teachers(settings)
        members = [int(of["committee_size"]) for of in (settings, teachers) if of is not None]
        return min(self._stack(settings), max(members))

    def _stack(self, settings: Mapping[str, Value]) -> int:
        resources = self._space.resources
        if resources.gpus_per_trial:
            return MOST_STACKED
        vocabulary, length = self._sizes.tokens(settings)
        shape = Architecture.of(settings, vocabulary=vocabulary, positions=length)
        threads = max(1, int(resources.cpus_per_trial))
        return stack_size(shape, phases_of_settings(settings), device="cpu", threads=threads, share=1.0)

    def _gpu_memory(self) -> float | None:
        return min((m.gpu_memory_gb for m in self._machines if m.gpu_memory_gb is not None), default=None)

    def _estimate(self, settings: Mapping[str, Value], *, members: int, micro_batches: int) -> float:
        vocabulary, length = self._sizes.tokens(settings)
        stack = stack_bytes(
            settings, vocabulary=vocabulary, positions=length, members=members, micro_batches=micro_batches
        )
        training = (PROCESS_BYTES + stack) / 1e9
        # Word vectors are computed on the CPU before training.
        return training if self._space.resources.gpus_per_trial else max(training, self._host_gb(settings))

    def _host_gb(self, settings: Mapping[str, Value]) -> float:
        """Return the main memory of a process that trains on a GPU."""
        return (PROCESS_BYTES + counting_bytes(settings, vocabulary=self._sizes.tokens(settings)[0])) / 1e9
