"""A larger machine and more text get a larger study, and the same ones always the same."""

import pytest

from tlm_search.cost.machine import Machine
from tlm_search.cost.sizing import MOST_SECONDS, SCALES, cpus_per_trial, finetuning, suited
from tlm_search.errors import ResourceError
from tlm_search.space.schema import Space

LAPTOP, SERVER, GPU = Machine(2, 0, 16), Machine(64, 0, 256), Machine(16, 1, 128, 80)


def sized(machine, *, documents=1_000_000, train_per_label=100):
    def space_of(scale, trials):
        document = {
            "tokenizer": {"vocabulary": 4096, "length": 64},
            "task": {"source": "t.csv", "train_per_label": train_per_label},
            "search": {
                "width": {"choices": list(scale.widths)},
                "head_size": 32,
                "pretrain_size": {"choices": [0, min(documents, scale.documents)]},
                "committee_size": {"choices": list(scale.committee_sizes)},
                "finetune_learning_rate": {"low": 5e-4, "high": 4e-3, "log": True},
            },
            "reference": {"depth": scale.reference_depth, "width": max(scale.widths)},
            "resources": {
                "cpus_per_trial": cpus_per_trial(machine),
                "gpus_per_trial": "auto" if machine.gpus else 0,
            },
            "budget": {"trials": trials},
        }
        document["reference"] |= {"pretrain_size": scale.documents, "finetune_learning_rate": 1e-3}
        return Space.from_document(document)

    return suited(machine, space_of, documents=documents, labels=4, train_rows=4 * train_per_label)


def test_the_machine_decides():
    found = [sized(machine) for machine in (Machine(1, 0, 8), LAPTOP, SERVER, GPU)]
    rungs = [SCALES.index(size.scale) for size in found]
    assert rungs == sorted(rungs)
    assert rungs[0] < rungs[2]
    assert all(size.seconds <= MOST_SECONDS for size in found)
    assert sized(LAPTOP) == sized(LAPTOP)


def test_little_text_does_not_ask_for_wide_members():
    assert sized(SERVER, documents=500).scale == SCALES[1]
    assert sized(SERVER, documents=20_000).scale.widths == (64, 128)


def test_where_everything_takes_long_it_is_the_smallest():
    size = sized(LAPTOP, train_per_label=100_000)
    assert (size.scale, size.trials) == (SCALES[0], 10)
    assert size.seconds > MOST_SECONDS


def test_more_rows_are_read_less_often_in_larger_batches():
    assert finetuning(150) == finetuning(1_000) == (15, 8)
    assert finetuning(3_500) == (8, 16)
    assert finetuning(1_000_000) == (3, 32)


def test_memory_bounds_it_too():
    small, large = sized(Machine(8, 0, 0.6)), sized(Machine(8, 0, 32))  # less memory runs fewer trials at once
    assert (SCALES.index(small.scale), small.trials) < (SCALES.index(large.scale), large.trials)
    with pytest.raises(ResourceError, match="GB"):
        sized(Machine(64, 0, 0.1))
