"""The few extremes of a space contain its cheapest and its most expensive trial."""

import itertools
from typing import Any

import pytest

from tlm_search.cost.extremes import extremes
from tlm_search.cost.plan import Cost, DataSizes, committee_cost
from tlm_search.model.footprint import stack_bytes
from tlm_search.space.schema import Space

SIZES = DataSizes(vocabulary=100, length=12, labels=2, train_rows=40)
SPACES: dict[str, dict[str, Any]] = {
    "numbers": {"depth": [1, 2, 4], "width": [16, 32], "feed_forward": [1.0, 4.0], "committee_size": [1, 3]},
    "heads of a width": {"width": [32, 64], "head_size": [4, 8, 16], "pretrain_size": [0, 50]},
    "a width of heads": {"heads": [2, 4], "head_size": [8, 3], "masking_probability": [0.1, 0.5], "pretrain_size": 50},
    "batches": {"finetune_batch_size": [4, 16, 40], "pretrain_batch_size": [8, 32], "pretrain_size": [0, 64]},
    "texts": {"layer_weights": ["own", "shared"], "depth": [1, 4], "normalisation": ["pre", "post"], "width": [32, 16]},
    "conditions": {
        "convolution_layers": [0, 1, 3],
        "convolution_channels": {"choices": [2, 32], "when": {"convolution_layers": [1, 3]}},
        "convolution_kernel": {"choices": ["3x3", "9x9"], "when": {"convolution_layers": [3]}},
        "pooling": ["mean", "cls"],
        "finetune_epochs": {"choices": [20, 50], "when": {"pooling": ["mean"]}},
        "committee_size": [2, 3],
    },
}


def measures(space: Space, params: dict[str, Any]) -> tuple[float, ...]:
    settings = space.settings(params)
    cost: Cost = committee_cost(settings, SIZES, None)
    memory = stack_bytes(settings, vocabulary=SIZES.vocabulary, positions=SIZES.length)
    return (cost.members, cost.pretraining_tokens, cost.finetuning_tokens, cost.updates, cost.flops, memory)


@pytest.mark.parametrize("search", SPACES.values(), ids=SPACES)
def test_no_trial_costs_less_or_more_than_a_corner(search: dict[str, Any]) -> None:
    space = Space.from_document(
        {"search": {name: {"choices": value} if isinstance(value, list) else value for name, value in search.items()}}
    )
    searched = space.searched()
    every = [
        measures(space, dict(zip(searched, values, strict=True)))
        for values in itertools.product(*(parameter.values() for parameter in searched.values()))
    ]
    some = [measures(space, params) for params in extremes(space)]
    for choose in (min, max):
        assert [choose(column) for column in zip(*some, strict=True)] == [
            choose(column) for column in zip(*every, strict=True)
        ]


def test_a_space_that_searches_everything_has_few_corners() -> None:
    ranges = {"depth": [1, 8], "heads": [1, 8], "feed_forward": [1, 4], "committee_size": [1, 16]}
    ranges |= {"pretrain_size": [0, 1000], "pretrain_epochs": [1, 9], "finetune_epochs": [1, 9]}
    ranges |= {"pretrain_batch_size": [8, 64], "finetune_batch_size": [8, 64], "convolution_channels": [2, 64]}
    search: dict[str, Any] = {name: {"low": low, "high": high} for name, (low, high) in ranges.items()}
    search["masking_probability"] = {"low": 0.1, "high": 0.4}
    search["convolution_layers"] = {"choices": [0, 1, 2]}
    search["convolution_channels"]["when"] = {"convolution_layers": [1, 2]}
    search["convolution_kernel"] = {"choices": ["3x3", "5x5"], "when": {"convolution_layers": [1, 2]}}
    assert len(list(extremes(Space.from_document({"search": search})))) <= 2 * 2 * 2 * 3 * 2
