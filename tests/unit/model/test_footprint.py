"""The estimate of memory against the measured memory of training."""

from typing import Any

import pytest

from tlm_search.model.architecture import Architecture
from tlm_search.model.footprint import (
    PROCESS_BYTES,
    STATE_FLOATS,
    Phase,
    counting_bytes,
    members_that_fit,
    stack_bytes,
    training_bytes,
)
from tlm_search.space.settings import complete

# Depth, width, vocabulary, length, texts, members; peak MB of a process that pre-trained them with 30% of tokens
# masked.
MEASURED = [
    (1, 64, 4096, 64, 32, 1, 379),
    (1, 64, 4096, 32, 16, 4, 398),
    (1, 768, 30_522, 128, 32, 1, 1709),
    (6, 256, 30_522, 128, 32, 1, 1585),
    (6, 256, 8192, 128, 32, 1, 1140),
    (1, 128, 30_522, 128, 32, 8, 2249),
    (6, 128, 4096, 128, 64, 1, 1159),
]


@pytest.mark.parametrize("case", MEASURED)
def test_the_estimate_is_near_what_was_measured(case: tuple[int, ...]) -> None:
    depth, width, vocabulary, length, texts, members, peak_mb = case
    shape = Architecture(depth, width // 64, 64, 4 * width, vocabulary, length)
    estimate = PROCESS_BYTES + training_bytes(shape, texts=texts, scored=0.3, members=members)
    assert 0.95 * peak_mb < estimate / 1e6 < 1.55 * peak_mb


def test_more_of_anything_takes_more_and_pieces_take_less() -> None:
    base: dict[str, Any] = {"depth": 2, "heads": 2, "head_size": 32, "pretrain_size": 100}

    def estimate(members: int = 1, micro_batches: int = 1, **changed: Any) -> float:
        settings = complete({**base, **changed})
        return stack_bytes(settings, vocabulary=1000, positions=64, members=members, micro_batches=micro_batches)

    assert estimate(micro_batches=4) < estimate() < estimate(members=2)
    for changed in ({"depth": 3}, {"heads": 4}, {"pretrain_batch_size": 256}, {"finetune_batch_size": 512}):
        assert estimate(**changed) > estimate()
    assert estimate(pretrain_size=0) < estimate()
    pooler = 5 * 64 * 64  # additional weights
    assert estimate(pretrain_size=0, pooling="spans") - estimate(pretrain_size=0) == STATE_FLOATS * pooler * 4


def test_as_many_members_are_stacked_as_fit() -> None:
    shape, phases = Architecture(1, 4, 64, 1024, 8192, 64), [Phase(16), Phase(32, 0.15)]

    def fitting(memory: float) -> int:
        return members_that_fit(shape, phases, memory=memory, most=8)

    three = PROCESS_BYTES + training_bytes(shape, texts=32, scored=0.15, members=3)
    assert [fitting(three - 1), fitting(three), fitting(1e12), fitting(0)] == [2, 3, 8, 1]


def test_the_batches_of_students_count_where_there_are_students() -> None:
    sizes = {"vocabulary": 100, "positions": 64}
    given = {"finetune_batch_size": 8, "student_batch_size": 512}
    plain, students = (stack_bytes(complete({**given, "self_training": kind}), **sizes) for kind in (0, 1))
    assert plain == stack_bytes(complete({"finetune_batch_size": 8}), **sizes)
    assert students == stack_bytes(complete({"finetune_batch_size": 512}), **sizes)


def test_counting_takes_memory_by_the_vocabulary_up_to_a_limit() -> None:
    def estimate(vocabulary: int, **changed: Any) -> float:
        settings = complete({"pretrain_size": 100, "initial_embeddings": "cooccurrence", **changed})
        return counting_bytes(settings, vocabulary=vocabulary)

    assert estimate(4096, pretrain_size=0) == estimate(4096, initial_embeddings="random") == 0
    assert 4 * 4096**2 < estimate(4096) < estimate(30_522) < 1.3e9
    assert 2**30 < estimate(1_000_000) < 3e9
    assert estimate(4096, width=512) > estimate(4096)


def test_without_updates_there_is_no_pre_training_to_find_room_for() -> None:
    settings = {"initial_embeddings": "cooccurrence", "pretrain_batch_size": 1024}
    sizes = {"vocabulary": 1000, "positions": 64}
    counts = stack_bytes(complete({**settings, "pretrain_size": 100, "pretrain_epochs": 0}), **sizes)
    assert counts == stack_bytes(complete(settings), **sizes)
