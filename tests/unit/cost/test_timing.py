"""Seconds are measured once for each kind of training, and add up to those of a study."""

from dataclasses import replace

import numpy as np
import pytest

from tlm_search.cost import timing as pace
from tlm_search.cost.plan import DataSizes, plan
from tlm_search.cost.timing import STEP_TIMES, StepTimes, interpolated, sample
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.members import precision
from tlm_search.space.schema import Space
from tlm_search.store.local import Store

SEARCH = {
    "depth": {"choices": [1, 2]},
    "heads": 1,
    "head_size": 8,
    "committee_size": 2,
    "pretrain_size": 30,
    "pretrain_epochs": 1,
    "finetune_learning_rate": {"low": 1e-4, "high": 1e-3},
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_SECONDS", 0.01)


def planned(data: PreparedData, clock: StepTimes, **sections: object):
    space = Space.from_document({"search": SEARCH, "budget": {"trials": 6}, **sections})
    return plan(space, DataSizes.of_data(data), clock)


def test_each_kind_is_measured_once(data: PreparedData) -> None:
    store = Store(data.root)
    first = planned(data, StepTimes(data, store, threads=1, device="cpu"))
    kinds = [(entry.document["key"]["objective"], *entry.document["seconds"]) for entry in store.entries(STEP_TIMES)]
    # Two depths; for each, a single member and a full stack.
    assert sorted(kinds) == 4 * [("finetuning", "text", "update")] + 4 * [("pretraining", "update")]
    again = planned(data, StepTimes(data, store, threads=1, device="cpu"))
    assert again == first  # read from the store, not measured again
    assert 0 < first.at_least.seconds <= first.expected.seconds <= first.at_most.seconds


def test_the_precision_is_measured_before_the_pace_that_needs_it(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one measurement runs at a time: one that is asked for during another would wait for itself."""
    monkeypatch.setattr(precision, "can_gain", lambda *_, **__: True)
    monkeypatch.setattr(precision, "faster_precision", lambda *_, **__: "bfloat16")
    store = Store(data.root)
    assert planned(data, StepTimes(data, store, threads=1, device="cpu")).expected.seconds > 0
    assert {entry.document["precision"] for entry in store.entries(precision.PRECISION)} == {"bfloat16"}


def test_once_time_is_up_the_rest_is_estimated(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MEASURING_SECONDS", -1)
    store = Store(data.root)
    costs = planned(data, StepTimes(data, store, threads=1, device="cpu"))
    assert len(list(store.entries(STEP_TIMES))) == 4  # one for each objective, for a single member and for a stack
    assert costs.expected.seconds > 0


def test_an_answer_is_not_estimated_by_the_size_of_training_batches(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "MEASURING_SECONDS", -1)
    monkeypatch.setattr(StepTimes, "_updates", lambda *_: {"update": 1.0})
    monkeypatch.setattr(StepTimes, "_seconds_per_answer", lambda *_: 1.0)
    search = {"depth": 1, "heads": 1, "head_size": 8, "finetune_epochs": 1}
    costs = planned(
        data,
        StepTimes(data, Store(data.root), threads=1, device="cpu"),
        search={**search, "finetune_batch_size": {"choices": [2, 4]}},
        points=[{"finetune_batch_size": 2}, {"finetune_batch_size": 4}],
        budget={"trials": 2},
    )
    updates = {batch: -(-data.rows["train"] // batch) for batch in (2, 4)}
    answers = data.rows["validation"] + data.rows["test"]
    # The second one is estimated: an update with twice the texts takes twice as long, an answer takes the same time.
    latency = costs.expected.seconds - updates[2] - 2 * updates[4] - 2 * answers
    assert latency == pytest.approx(StepTimes(data, Store(data.root), threads=1, device="cpu").latencies(1))


def test_counts_alone_take_no_updates(data: PreparedData) -> None:
    counts = {"depth": 1, "pretrain_epochs": 0, "initial_embeddings": "cooccurrence"}
    store = Store(data.root)
    costs = planned(data, StepTimes(data, store, threads=1, device="cpu"), search={**SEARCH, **counts})
    assert {entry.document["key"]["objective"] for entry in store.entries(STEP_TIMES)} == {"finetuning"}
    assert costs.expected.seconds > 0


def test_stacks_are_timed_alone_and_full(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU each training has a start-up time too."""
    monkeypatch.setattr(pace, "stack_size", lambda *_, **__: 3)
    store = Store(data.root)
    one_shape = {"search": {**SEARCH, "depth": 1}}
    costs = planned(data, StepTimes(data, store, threads=1, device="cpu"), **one_shape)
    keys = [entry.document["key"] for entry in store.entries(STEP_TIMES)]
    assert sorted((key["objective"], key["stack"]) for key in keys) == [
        ("finetuning", 1), ("finetuning", 3), ("pretraining", 1), ("pretraining", 3),
    ]  # fmt: skip
    known = StepTimes._known_seconds
    monkeypatch.setattr(StepTimes, "_known_seconds", lambda *given: {**known(*given), "start": 10.0})
    later = planned(data, StepTimes(data, store, threads=1, device="cpu"), **one_shape)
    # One stack of two members is pre-trained; each of six trials fine-tunes it with another learning rate.
    assert later.expected.seconds - costs.expected.seconds == pytest.approx(70.0)
    one_by_one = planned(
        data, StepTimes(data, store, threads=1, device="cpu", chunk_sizes=lambda members: [1] * members), **one_shape
    )
    assert one_by_one.expected.seconds > later.expected.seconds + 60


def test_estimates_lie_between_what_was_measured() -> None:
    points = {1e6: 1e-3, 1e8: 1e-2}
    assert interpolated(points, 1e7) == pytest.approx(10**-2.5)
    assert interpolated(points, 1e6) == pytest.approx(1e-3)
    assert interpolated(points, 2e8) == pytest.approx(2e-2)
    assert interpolated(points, 5e5) == pytest.approx(5e-4)
    assert interpolated({1e6: 0.0, 1e8: 2.0}, 1e7) == 2.0


@pytest.mark.parametrize(("count", "expected"), [(2, [0, 2]), (4, [0, 1, 2, 3]), (6, [0, 1, 2, 3, 0, 1])])
def test_a_sample_is_spread_or_repeated(count: int, expected: list[int]) -> None:
    texts = TokenArray(np.arange(10, dtype=np.uint16), np.array([0, 1, 3, 6, 10]))
    chosen, numbers = sample(texts, count)
    assert numbers.tolist() == expected
    assert [chosen[i].tolist() for i in range(count)] == [texts[i].tolist() for i in expected]


def test_students_are_timed_on_their_own_texts_with_the_answers_of_their_teachers(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepTimes, "_updates", lambda *_: {"update": 1.0})
    monkeypatch.setattr(StepTimes, "_seconds_per_answer", lambda *_: 0.1)
    folder = data.folder("train")
    more = replace(data, unlabelled=folder.name, unlabelled_texts={"used": 30}, unlabelled_fingerprint="texts")
    search = {"committee_size": 2, "teachers": 3, "finetune_epochs": 1, "finetune_batch_size": 15}
    search |= {"self_training": 1, "student_epochs": 2, "student_batch_size": 20}
    clock = StepTimes(more, Store(data.root), threads=1, device="cpu", chunk_sizes=lambda members: [1] * members)
    costs = planned(more, clock, search=search, task={"unlabelled": "x.csv"}, budget={"trials": 1})
    answers, latencies = 0.1 * (12 + 18), 3 * pace.LATENCY_SECONDS
    assert costs.expected.seconds == pytest.approx(3 * (2 + answers) + 2 * (2 * 3 + answers) + 3 * 60 * 0.1 + latencies)
    texts = [entry.document["key"].get("unlabelled") for entry in Store(data.root).entries(STEP_TIMES)]
    assert sorted(texts, key=str) == [None, None, "texts", "texts"], "alone and stacked"


def test_what_students_are_timed_on_is_what_they_learn(data: PreparedData) -> None:
    folder = data.folder("train")
    more = replace(data, unlabelled=folder.name, unlabelled_texts={"used": 30}, unlabelled_fingerprint="texts")
    search = {**SEARCH, "depth": 1, "finetune_learning_rate": 1e-3, "self_training": 1}
    costs = planned(
        more, StepTimes(more, Store(data.root), threads=1, device="cpu"), search=search, task={"unlabelled": "x"}
    )
    assert costs.expected.seconds > 0
