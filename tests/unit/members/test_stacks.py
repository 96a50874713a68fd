"""How many members are trained as one model, and what many take so."""

from types import SimpleNamespace

import pytest
import torch

from tlm_search.members.stacks import GPU_STACK, over_stacks, stack_size
from tlm_search.model.architecture import Architecture
from tlm_search.model.footprint import PROCESS_BYTES, training_bytes

SHAPE, PHASES = Architecture(1, 4, 64, 1024, 8192, 64), [(16, 0.0), (32, 0.15)]


def test_a_gpu_stacks_what_its_share_holds_and_a_cpu_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    half = PROCESS_BYTES + training_bytes(SHAPE, texts=32, scored=0.15, members=3)
    properties = SimpleNamespace(total_memory=2 * half + 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    def size(device: str, share: float) -> int:
        return stack_size(SHAPE, PHASES, device=device, share=share)

    assert [size("cuda", 0.5), size("cuda", 0.001), size("cpu", 1.0)] == [3, 1, 1]
    properties.total_memory *= 100
    assert size("cuda", 1.0) == GPU_STACK


@pytest.mark.parametrize(("members", "expected"), [(1, 2.0), (2, 3.0), (5, 6.0), (8, 9.0), (10, 12.0), (16, 18.0)])
def test_time_grows_straight_from_one_member_to_a_full_stack(members: int, expected: float) -> None:
    assert over_stacks(members, 8, lambda stack: {1: 2.0, 8: 9.0}[stack]) == pytest.approx(expected)
    assert over_stacks(members, 1, lambda stack: 2.0 * stack) == pytest.approx(2.0 * members)
