"""Costs that can be worked out by hand."""

import pytest

from tlm_search.cost.plan import Cost, DataSizes, plan
from tlm_search.model.architecture import Architecture
from tlm_search.space.schema import Space
from tlm_search.space.settings import complete

SIZES = DataSizes(vocabulary=100, length=10, labels=2, train_rows=40)


def planned(**sections):
    return plan(Space.from_document(sections), SIZES)


def test_one_fixed_member():
    costs = planned(
        search={
            "pretrain_size": 30,
            "pretrain_epochs": 2,
            "pretrain_batch_size": 8,
            "finetune_epochs": 3,
            "finetune_batch_size": 16,
            "heads": 1,
            "head_size": 4,
            "masking_probability": 0.2,
        },
        budget={"trials": 5},
    )
    assert costs.at_least == costs.expected == costs.at_most
    assert costs.reference == Cost()
    cost = costs.at_most
    assert (cost.members, cost.pretraining_tokens, cost.finetuning_tokens) == (1, 600, 1200)
    assert cost.updates == 2 * 4 + 3 * 3
    layer = 2 * (4 * 4 * 4 + 2 * 4 * 16) + 4 * 10 * 4
    head = 2 * (4 * 4 + 4 * 100)
    assert cost.flops == 3 * (60 * (10 * layer + 2 * head) + 120 * 10 * layer)


def test_a_trial_reuses_the_members_of_another():
    costs = planned(search={"committee_size": {"choices": [2, 5]}}, budget={"trials": 50})
    assert (costs.at_least.members, costs.expected.members, costs.at_most.members) == (2, 5, 5)


def test_pretraining_is_shared_by_what_differs_only_in_fine_tuning():
    costs = planned(
        search={"pooling": {"choices": ["cls", "mean"]}, "pretrain_size": 10, "pretrain_epochs": 1},
        budget={"trials": 50},
    )
    assert costs.expected.members == 2
    assert costs.expected.pretraining_tokens == 100
    assert costs.at_most.pretraining_tokens == 200


def test_a_continuum_of_rates_shares_nothing():
    costs = planned(search={"finetune_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}, budget={"trials": 7})
    assert (costs.at_least.members, costs.expected.members, costs.at_most.members) == (1, 7, 7)


def test_the_reference_is_part_of_all_three():
    costs = planned(search={"depth": {"choices": [1, 2]}}, reference={"depth": 6, "committee_size": 3})
    assert costs.reference.members == 3
    assert (costs.at_least.members, costs.at_most.members) == (4, 5)


def test_conditions_bound_what_can_happen():
    search = {
        "pooling": {"choices": ["mean", "cls"]},
        "finetune_epochs": {"choices": [1, 50], "when": {"pooling": ["cls"]}},
    }
    costs = planned(search=search, budget={"trials": 1})
    assert costs.at_least.finetuning_tokens == 400  # one epoch
    assert costs.at_most.finetuning_tokens == 50 * 400


def test_sizes_of_a_space():
    sizes = DataSizes.of_space(Space.from_document({"task": {"labels": 4, "train_per_label": 25}}))
    assert sizes == DataSizes(4096, 64, 4, 100, ("every text has 64 tokens",))


def test_costs_add_and_multiply():
    assert Cost(1, 2, 3, 4, 5) + Cost(1) * 2 == Cost(3, 2, 3, 4, 5)
    assert planned().to_document()["at_most"]["members"] == pytest.approx(1)


def test_points_are_tried_first():
    costs = planned(
        search={"committee_size": {"choices": [1, 7]}}, budget={"trials": 1}, points=[{"committee_size": 7}]
    )
    assert costs.expected.members == 7


def test_counts_alone_are_no_updates():
    search = {"pretrain_size": 30, "pretrain_epochs": 0, "initial_embeddings": "cooccurrence", "finetune_epochs": 1}
    cost = planned(search=search).at_most
    assert (cost.pretraining_tokens, cost.updates) == (0, 3)
    assert cost == planned(search={"finetune_epochs": 1}).at_most


class Clock:
    def pretraining(self, spec, members):
        return 100 * members

    def finetuning(self, spec, members):
        return 10 * members

    def latencies(self, size):
        return size


def test_a_clock_gives_seconds():
    space = Space.from_document(
        {
            "search": {"committee_size": 3, "pretrain_size": {"choices": [0, 5]}, "pooling": {"choices": ["cls"]}},
            "budget": {"trials": 20},
        }
    )
    costs = plan(space, SIZES, Clock())
    # Six members, three of them pre-trained. They have one shape; committees of 1, 2 and 3 are timed.
    assert costs.expected.seconds == 3 * 100 + 6 * 10 + 3
    assert costs.at_least.seconds == 3 * (10 + 1)
    assert costs.to_document()["expected"]["seconds"] == costs.expected.seconds
    assert "seconds" not in plan(space, SIZES).to_document()["expected"]


def test_a_clock_is_asked_for_members_that_differ_in_their_seeds_together():
    """A GPU trains them as one model."""
    asked = []

    class Asked(Clock):
        def pretraining(self, spec, members):
            asked.append(("pretraining", spec.documents, members))
            return 0

        def finetuning(self, spec, members):
            asked.append(("finetuning", spec.pretrained and spec.pretrained.documents, members))
            return 0

    space = Space.from_document(
        {
            "search": {"committee_size": {"choices": [2, 5]}, "pretrain_size": {"choices": [0, 7]}},
            "points": [{"committee_size": 5, "pretrain_size": 7}, {"committee_size": 2, "pretrain_size": 0}],
            "budget": {"trials": 2},
        }
    )
    plan(space, SIZES, Asked())
    assert sorted(asked[:3], key=str) == [("finetuning", 7, 5), ("finetuning", None, 2), ("pretraining", 7, 5)]


def test_the_tries_of_the_reference_are_part_of_its_cost():
    rate = {"low": 1e-4, "high": 1e-2, "log": True, "role": "nuisance"}
    reference = {"depth": 6, "finetune_learning_rate": 1e-3, "pretrain_size": 20, "trials": 4}
    search = {"depth": {"choices": [1, 2]}, "finetune_learning_rate": rate, "pretrain_epochs": 1}
    one = planned(search=search, reference={**reference, "trials": 1})
    four = planned(search=search, reference=reference)
    assert (four.reference_tries, four.reference.members, one.reference.members) == (4, 4, 1)
    # the members share this pre-training
    assert four.reference.pretraining_tokens == one.reference.pretraining_tokens == 200
    assert four.costliest_try == one.reference
    assert four.at_least.members == one.at_least.members + 3
    assert four.to_document()["reference_tries"] == 4
    assert "reference_tries" not in one.to_document()


def test_self_training_costs_its_teachers_its_students_and_the_answers_of_the_teachers():
    sizes = DataSizes(vocabulary=100, length=10, labels=2, train_rows=40, unlabelled=160)
    search = {"committee_size": 2, "teachers": 3, "finetune_epochs": 5, "finetune_batch_size": 8, "pretrain_size": 7}
    search |= {"self_training": {"choices": [0, 1]}, "student_epochs": 2, "pretrain_epochs": 1}
    space = Space.from_document({"task": {"unlabelled": "x.csv"}, "search": search, "budget": {"trials": 30}})
    costs = plan(space, sizes)
    assert costs.at_least.members == 2
    assert costs.expected.members == 3 + 2
    assert costs.expected.pretraining_tokens == 3 * 7 * 10
    assert costs.expected.finetuning_tokens == 10 * (3 * 5 * 40 + 2 * 2 * 200)
    assert costs.expected.updates == 3 * (5 * 5 + 1) + 2 * 2 * 7
    costs = plan(space.model_copy(update={"search": {**space.search, "pretrain_size": 0}}), sizes)
    text = Architecture.of(complete({}), vocabulary=100, positions=10).forward_flops(10)
    assert costs.expected.flops == text * (3 * (3 * 5 * 40 + 2 * 2 * 200) + 3 * 200)


def test_the_number_of_unlabelled_texts_is_said_or_assumed():
    said, assumed = (
        DataSizes.of_space(Space.from_document({"task": {"unlabelled": {"source": "x.csv", **more}}}))
        for more in ({"documents": 300}, {})
    )
    assert said.unlabelled == 300
    assert assumed.unlabelled == 20_000
    assert "the task has 20,000 unlabelled texts" in assumed.assumptions
