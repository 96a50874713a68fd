"""How many members are trained as one model, and how long that takes."""

from types import SimpleNamespace

import pytest
import torch

from tlm_search.members.spec import committee_specs
from tlm_search.members.stacks import CPU_BYTES, MOST_STACKED, over_stacks, phases_of, stack_size
from tlm_search.model.architecture import Architecture
from tlm_search.model.footprint import PROCESS_BYTES, Phase, phases_of_settings, training_bytes
from tlm_search.space.settings import complete

SHAPE, PHASES = Architecture(1, 4, 64, 1024, 8192, 64), [Phase(16), Phase(32, 0.15)]


def on_cpu(shape: Architecture, threads: int = 1) -> int:
    return stack_size(shape, PHASES, device="cpu", threads=threads, share=1.0)


def test_a_gpu_stacks_what_its_share_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    half = PROCESS_BYTES + training_bytes(SHAPE, texts=32, scored=0.15, members=3)
    properties = SimpleNamespace(total_memory=2 * half + 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    def size(share: float) -> int:
        return stack_size(SHAPE, PHASES, device="cuda", threads=1, share=share)

    assert [size(0.5), size(0.001)] == [3, 1]
    properties.total_memory *= 100
    assert size(1.0) == MOST_STACKED


def test_a_cpu_stacks_what_its_threads_do_in_no_time() -> None:
    assert on_cpu(SHAPE) == 1
    assert on_cpu(SHAPE, threads=6) == MOST_STACKED
    assert on_cpu(Architecture(1, 4, 16, 256, 4096, 32)) == MOST_STACKED


def test_a_stack_on_a_cpu_takes_no_more_than_its_memory() -> None:
    huge = Architecture(1, 4, 16, 256, 400_000, 2)
    phases = [Phase(16), Phase(32, 0.15)]
    size = stack_size(huge, phases, device="cpu", threads=1, share=1.0)
    assert 1 < size < MOST_STACKED
    last = phases[-1]
    assert PROCESS_BYTES + training_bytes(huge, texts=last.texts, scored=last.scored, members=size) <= CPU_BYTES


@pytest.mark.parametrize("pretrain_size", [0, 1000])
def test_a_member_is_trained_in_the_phases_of_its_settings(pretrain_size: int) -> None:
    settings = complete({"depth": 1, "heads": 2, "pretrain_size": pretrain_size})
    (spec,) = committee_specs(
        settings, vocabulary=40, positions=12, labels=3, corpus="corpus", task="task", seeds=range(1)
    )
    assert phases_of(spec) == phases_of_settings(settings)
    if spec.pretrained is not None:
        assert phases_of(spec)[-1:] == phases_of(spec.pretrained)


@pytest.mark.parametrize(("members", "expected"), [(1, 2.0), (2, 3.0), (5, 6.0), (8, 9.0), (10, 12.0), (16, 18.0)])
def test_time_grows_straight_from_one_member_to_a_full_stack(members: int, expected: float) -> None:
    assert over_stacks(members, 8, lambda stack: {1: 2.0, 8: 9.0}[stack]) == pytest.approx(expected)
    assert over_stacks(members, 1, lambda stack: 2.0 * stack) == pytest.approx(2.0 * members)
