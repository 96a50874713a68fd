"""How many members are trained as one model, and how long many take so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tlm_search.model.architecture import Architecture
from tlm_search.model.footprint import members_that_fit

# Members trained as one model on a GPU. On a CPU, where narrow ones would gain too (benchmarks/stacking.py), a member's
# last bits would depend on which others were missing.
GPU_STACK = 8


def stack_size(shape: Architecture, phases: Sequence[tuple[int, float]], *, device: str, share: float) -> int:
    """Return how many members are trained as one model: on a GPU as many as the ``share`` of its memory holds.

    ``phases`` are as in ``members_that_fit``.
    """
    if device == "cpu":
        return 1
    import torch  # which plans and shares, that only want GPU_STACK, do without

    memory = share * torch.cuda.get_device_properties(0).total_memory
    return members_that_fit(shape, phases, memory=memory, most=GPU_STACK)


def over_stacks(members: int, most: int, seconds: Callable[[int], float]) -> float:
    """Return the time of ``members`` in stacks of at most ``most``, of which ``seconds`` tells what one takes.

    It is asked for one member and for ``most``; between them time is taken to grow straight.
    """
    full, rest = divmod(members, most)
    total = full * seconds(most) if full else 0.0
    if rest:
        alone, whole = seconds(1), seconds(most)
        total += alone + (whole - alone) * (rest - 1) / (most - 1)
    return total
