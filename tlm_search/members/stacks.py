"""How many members are trained as a single model, and how long that takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tlm_search.members.spec import MemberSpec, PretrainSpec
from tlm_search.model.architecture import Architecture
from tlm_search.model.footprint import Phase, members_that_fit

MOST_STACKED = 8
# Operations of a member's forward pass per thread: above it, eight members together are no faster than one after
# another (benchmarks/stacking.py). And the memory in bytes that a stack may take.
CPU_FLOPS, CPU_BYTES = 1e9, 2e9


def phases_of(spec: MemberSpec | PretrainSpec) -> list[Phase]:
    """Return the phases of a member's training, pre-training last."""
    if isinstance(spec, PretrainSpec):
        settings = spec.settings
        return [Phase(settings.batch_size, settings.masking_probability, sampled=settings.softmax == "sampled")]
    pretrained = spec.pretrained if spec.pretrained and spec.pretrained.settings.epochs else None
    return [
        Phase.finetuning(spec.settings.batch_size, spec.settings.pooling),
        *(phases_of(pretrained) if pretrained else ()),
    ]


def stack_size(shape: Architecture, phases: Sequence[Phase], *, device: str, threads: int, share: float) -> int:
    """Return how many members are trained as a single model.

    On a GPU as many are stacked as fit the ``share`` of its memory. On a CPU members are stacked only if that is faster
    on ``threads`` threads: narrow members, whose updates spend more time in calls than in arithmetic. The last of the
    ``phases`` decides, because it takes most of the time.
    """
    if device == "cpu":
        most = MOST_STACKED if phases[-1].forward_flops(shape) < threads * CPU_FLOPS else 1
        return members_that_fit(shape, phases, memory=CPU_BYTES, most=most)
    import torch  # here, because a caller for a CPU needs no torch

    memory = share * torch.cuda.get_device_properties(0).total_memory
    return members_that_fit(shape, phases, memory=memory, most=MOST_STACKED)


def over_stacks(members: int, most: int, seconds: Callable[[int], float]) -> float:
    """Return the time of ``members`` in stacks of at most ``most``; ``seconds`` returns the time of one stack.

    ``seconds`` is called for 1 and for ``most`` members. Sizes between them are interpolated linearly.
    """
    full, rest = divmod(members, most)
    total = full * seconds(most) if full else 0.0
    if rest:
        alone, whole = seconds(1), seconds(most)
        total += alone + (whole - alone) * (rest - 1) / (most - 1)
    return total
