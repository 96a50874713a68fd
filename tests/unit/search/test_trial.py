import json

import numpy as np
import pytest
from driven import SEARCH, Bench, Stacking

from tlm_search.search.trial import Rung, chunk_sizes, run_trial, rungs, trial_specs


@pytest.mark.parametrize(
    ("members", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])]
)
def test_rungs_double_and_end_with_all(members: int, sizes: list[int]) -> None:
    assert rungs(members) == sizes


def run(bench: Bench, **settings: object) -> list[Rung]:
    full = bench.space.settings({"depth": 1, "heads": 2, "pretrain_size": 0, "committee_size": 4, **settings})
    return list(run_trial(full, seed=0, data=bench.data, store=bench.store, trainer=bench.trainer))


def test_a_trial_reports_each_rung(bench: type[Bench]) -> None:
    first, second, last = run(bench())
    assert [first.size, second.size, last.size] == [1, 2, 4]
    assert [first.done, second.done, last.done] == [False, False, True]
    assert first.members == last.members[:1]
    assert [record.size for record in last.frontier] == [1, 2, 3, 4]
    assert last.metrics["validation_accuracy"] == last.frontier[-1].figures["validation_accuracy"]
    assert last.metrics["parameters"] == 4 * first.metrics["parameters"]
    assert last.metrics["training_flops"] == pytest.approx(4 * first.metrics["training_flops"])
    assert (last.trained, last.reused) == (4, 0)
    assert last.tokens > 0
    assert "latency_ms" in last.metrics
    assert "latency_ms" not in second.metrics


def test_members_are_reused_by_larger_and_smaller_committees(bench: type[Bench]) -> None:
    place = bench()
    three = run(place, committee_size=2)[-1]
    again = run(place, committee_size=4)[-1]
    assert (again.trained, again.reused) == (2, 2)
    assert list(again.members[:2]) == list(three.members)
    assert run(place, committee_size=1)[-1].trained == 0


def test_a_linear_member_counts_once_and_members_are_reused_with_and_without_it(bench: type[Bench]) -> None:
    place = bench(search={**SEARCH, "linear_member": {"choices": [False, True]}})
    plain = run(place, committee_size=2, linear_member=False)[-1]
    hybrid = run(place, committee_size=4, linear_member=True)[-1]
    assert (hybrid.trained, hybrid.reused) == (2, 2)
    assert not set(plain.members) & set(hybrid.members)
    (linear,) = place.store.entries("linear")
    each = plain.metrics["parameters"] / 2
    for record in hybrid.frontier:
        assert record.figures["parameters"] == record.size * each + linear.document["parameters"]
        assert record.figures["training_seconds"] < hybrid.metrics["training_seconds"] or record.size == 4
    assert hybrid.metrics["parameters"] == hybrid.frontier[-1].figures["parameters"]
    assert hybrid.metrics["latency_ms"] > plain.metrics["latency_ms"]
    assert "parameters" not in plain.frontier[0].figures
    again = run(place, committee_size=4, linear_member=False)[-1]
    assert (again.trained, again.reused) == (0, 4)
    for record, other in zip(again.frontier, hybrid.frontier, strict=True):
        assert other.figures["test_accuracy"] > record.figures["test_accuracy"], "the simulated one errs on other texts"
    # Half of the votes are the members' mean and half are the linear model's, for any number of members.
    said = softmax(linear.arrays("logits")["test"])
    for size in (1, 4):
        own = np.mean([softmax(logits_of(place, name)) for name in again.members[:size]], axis=0)
        mixed = np.mean([softmax(logits_of(place, name)) for name in hybrid.members[:size]], axis=0)
        np.testing.assert_allclose(mixed, (own + said) / 2, atol=1e-6)


def logits_of(place: Bench, digest: str) -> np.ndarray:
    entry = place.store.read("members", digest)
    assert entry is not None
    return entry.arrays("logits")["test"]


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def test_later_members_are_not_trained_when_nobody_asks(bench: type[Bench]) -> None:
    place = bench()
    settings = place.space.settings({"depth": 1, "heads": 2, "pretrain_size": 0, "committee_size": 4})
    next(run_trial(settings, seed=0, data=place.data, store=place.store, trainer=place.trainer))
    assert len(list(place.store.entries("members"))) == 1


@pytest.mark.parametrize(
    ("prunable", "chunks", "trained"),
    [(False, 1, [4, 2]), (True, 1, [1, 1, 2, 2]), (False, 2, [3, 3]), (False, 4, [2, 2, 2]), (False, 9, [1] * 6)],
)
def test_members_are_trained_together_where_no_pruner_looks(
    bench: type[Bench], prunable: bool, chunks: int, trained: list[int]
) -> None:
    """Four members take little longer than one. Members that helpers may train are left; results are the same."""
    place, trainer = bench(), Stacking(4)
    settings = place.space.settings({"depth": 1, "heads": 2, "pretrain_size": 0, "committee_size": 6})
    where = {"seed": 0, "data": place.data, "store": place.store}
    found = list(run_trial(settings, trainer=trainer, prunable=prunable, chunks=chunks, **where))
    assert trainer.trained == trained
    assert [rung.size for rung in found] == [1, 2, 4, 6]
    if chunks == 1:
        assert [rung.trained for rung in found] == ([1, 2, 4, 6] if prunable else [4, 4, 4, 6])
    assert [len(rung.members) for rung in found] == [1, 2, 4, 6]
    again = run_trial(settings, trainer=Stacking(4), **where)
    for rung, other in zip(found, again, strict=True):
        assert (rung.metrics, rung.frontier, rung.members) == (other.metrics, other.frontier, other.members)


@pytest.mark.parametrize("members", [1, 4, 6, 7])
@pytest.mark.parametrize(("prunable", "chunks"), [(True, 1), (False, 1), (False, 2), (False, 3)])
def test_portions_are_what_a_trial_asks_for_at_once(
    bench: type[Bench], members: int, prunable: bool, chunks: int
) -> None:
    """``validate --time`` uses these portions, even if a trainer could stack all members."""
    place, trainer = bench(), Stacking(8)
    settings = place.space.settings({"depth": 1, "heads": 2, "pretrain_size": 0, "committee_size": members})
    where = {"seed": 0, "data": place.data, "store": place.store}
    for _ in run_trial(settings, trainer=trainer, prunable=prunable, chunks=chunks, **where):
        pass
    assert trainer.trained == chunk_sizes(members, prunable=prunable, chunks=chunks)


def test_studies_of_other_seeds_share_no_member(bench: type[Bench]) -> None:
    place = bench()
    settings = place.space.settings({"depth": 1, "heads": 2, "pretrain_size": 0, "committee_size": 4})
    digests = [
        {spec.digest for spec in trial_specs(settings, seed=seed, data=place.data, trainer=place.trainer)}
        for seed in (0, 1)
    ]
    assert len(digests[0] | digests[1]) == 8


def test_a_rung_travels_as_json(bench: type[Bench]) -> None:
    rung = run(bench(), committee_size=1)[0]
    assert Rung.from_document(json.loads(json.dumps(rung.to_document()))) == rung
