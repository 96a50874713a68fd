"""The choice of a precision is measured, and is quick if the machine only emulates bf16."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tlm_search.model.architecture import Architecture
from tlm_search.training import clock as clocks
from tlm_search.training import speed
from tlm_search.training.clock import GpuClock, UpdateClock
from tlm_search.training.settings import Finetuning, Pretraining
from tlm_search.training.speed import Load, can_gain, faster_precision

WIDE = Architecture(depth=1, heads=8, head_size=64, feed_forward=2048, vocabulary=4096, positions=64)
SMALL = Architecture(depth=1, heads=1, head_size=16, feed_forward=32, vocabulary=100, positions=8)

PRETRAINING, FINETUNING = Load("pretraining", 16, 0.15), Load("finetuning", 16)


def take(monkeypatch: pytest.MonkeyPatch, *, product: float, update: float) -> list[str]:
    """Let bf16 take this many times as long as fp32; return the precisions whose updates were timed."""
    timed: list[str] = []

    def updates(architecture: Architecture, load: Load, *, precision: str, **rest: Any) -> float:
        timed.append(precision)
        return update if precision == "bfloat16" else 1.0

    monkeypatch.setattr(speed, "seconds_per_product", lambda p: product if p == "bfloat16" else 1.0)
    monkeypatch.setattr(speed, "seconds_per_update", updates)
    return timed


@pytest.mark.parametrize(("update", "chosen"), [(0.5, "bfloat16"), (0.95, "float32"), (2.0, "float32")])
def test_the_faster_precision_is_taken_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, update: float, chosen: str
) -> None:
    timed = take(monkeypatch, product=1.2, update=update)
    threads = torch.get_num_threads()
    assert faster_precision(WIDE, PRETRAINING) == chosen
    assert set(timed) == {"float32", "bfloat16"}
    assert torch.get_num_threads() == threads


def test_no_update_is_timed_where_bf16_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single update would take most of a minute."""
    timed = take(monkeypatch, product=25.0, update=0.1)
    threads = torch.get_num_threads()
    assert faster_precision(WIDE, PRETRAINING) == "float32"
    assert timed == []
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("room", [8, 3, 1])
def test_a_gpu_times_as_many_stacked_members_as_it_holds(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """A single member waits for the host in either precision."""
    tried: list[int] = []

    def updates(architecture: Architecture, load: Load, *, members: int, precision: str, **rest: Any) -> None:
        tried.append(members)
        if members > room:
            raise torch.OutOfMemoryError
        rest["clock"].ends += [0.0, 1.0 if precision == "bfloat16" or members == 1 else 2.0]

    monkeypatch.setattr(speed, "GpuClock", lambda warmup: UpdateClock())
    monkeypatch.setattr(speed, "time_updates", updates)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert faster_precision(WIDE, PRETRAINING, "cuda") == ("float32" if room == 1 else "bfloat16")
    assert sorted(set(tried), reverse=True) == {8: [8], 3: [8, 4, 2], 1: [8, 4, 2, 1]}[room]


def test_a_gpu_that_does_not_hold_one_member_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def updates(*arguments: Any, **rest: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(speed, "time_updates", updates)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    with pytest.raises(torch.OutOfMemoryError):
        faster_precision(WIDE, PRETRAINING, "cuda")


def test_small_members_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = take(monkeypatch, product=0.1, update=0.1)
    assert not can_gain(SMALL, FINETUNING)
    assert faster_precision(SMALL, FINETUNING) == "float32"
    assert timed == []


def test_a_stack_of_small_members_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    stacked: list[int] = []

    def updates(*arguments: Any, members: int, precision: str, **rest: Any) -> float:
        stacked.append(members)
        return 1.0 if precision == "bfloat16" else 1.0 + 0.1 * members

    monkeypatch.setattr(speed, "seconds_per_product", lambda p: 1.0)
    monkeypatch.setattr(speed, "seconds_per_update", updates)
    narrow = replace(SMALL, vocabulary=30_000)  # a single one has updates that are too short to measure
    assert not can_gain(narrow, PRETRAINING)
    assert can_gain(narrow, PRETRAINING, members=8)
    assert faster_precision(narrow, PRETRAINING, members=8) == "bfloat16"
    assert set(stacked) == {8}
    assert faster_precision(WIDE, PRETRAINING) == "float32"


def test_a_product_takes_time_in_both_precisions() -> None:
    assert speed.seconds_per_product("float32") > 0
    assert speed.seconds_per_product("bfloat16") > 0


def test_settings_that_differ_little_are_measured_once() -> None:
    plain = Pretraining(1, 32, 1e-3, 0.0, 0.0, 0.0, 0.15)
    load = Load.of(WIDE, plain)
    assert load == Load("pretraining", 32, 0.15)
    others = (
        replace(plain, batch_size=40, learning_rate=1.0, masking_probability=0.16),
        replace(plain, batch_size=500),
    )
    assert [Load.of(WIDE, other) for other in others] == [load, load]
    assert Load.of(WIDE, replace(plain, masking_probability=0.4)) != load
    mean = Finetuning("mean", 1, 8, 1e-3, 0.0, 0.0, 0.0)
    assert Load.of(replace(WIDE, positions=4096), mean) == Load("finetuning", 1, pooling="mean")


def test_updates_of_spans_are_timed_too() -> None:
    clock = UpdateClock()
    narrow = Architecture(1, 1, 8, 8, 32, 8)
    speed.time_updates(narrow, Load("finetuning", 2, pooling="spans"), updates=2, clock=clock)
    assert len(clock.ends) == 2


CONVOLVED = replace(WIDE, convolution_layers=2, channels=64)


def test_an_update_with_many_operations_is_timed_with_few_texts() -> None:
    """With 32 texts the choice would take minutes."""
    settings = Pretraining(1, 32, 1e-3, 0.0, 0.0, 0.0, 0.15)
    load = Load.of(CONVOLVED, settings)
    assert 1 < load.texts < 32
    assert load.flops(CONVOLVED) <= speed.MOST_FLOPS
    assert 2 * load.flops(CONVOLVED) > speed.MOST_FLOPS
    assert Load.of(replace(CONVOLVED, channels=4096), settings).texts == 1


def test_members_with_convolutions_may_gain() -> None:
    assert can_gain(CONVOLVED, PRETRAINING)
    assert can_gain(CONVOLVED, FINETUNING)


def test_a_gpu_may_gain_unless_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, gains in (((9, 0), True), ((7, 5), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        assert can_gain(CONVOLVED, PRETRAINING, "cuda") == gains
        assert not can_gain(SMALL, FINETUNING, "cuda")


def test_a_clock_counts_what_comes_after_its_warm_up() -> None:
    times = iter([0.0, 5.0, 6.0, 8.0])
    clock = UpdateClock(lambda: next(times), warmup=1)
    assert [clock.is_due() for _ in range(4)] == [False] * 4
    assert (clock.updates, clock.seconds) == (2, 3.0)


def test_the_time_of_a_gpus_updates_is_without_recordings_and_the_start_is_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([100.0, 105.0, 106.0, 107.0, 110.0, 111.0, 112.0, 113.0])  # the first and the fourth update record
    monkeypatch.setattr(clocks, "_now", lambda: next(times))
    monkeypatch.setattr(clocks, "_seconds", lambda one, other: other - one)
    clock = GpuClock(warmup=1)
    clock.restore(None)
    assert not any(clock.is_due() for _ in range(7))
    assert (clock.updates, clock.seconds) == (5, 7.0)
    assert clock.seconds_per_update() == 1.0
    assert clock.start_seconds() == 13.0 - 7
    assert UpdateClock().start_seconds() == 0.0
