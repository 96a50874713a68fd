import numpy as np
import pytest

from tlm_search.report import formatting as words


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.percent(0.8164), "81.6%"),
        (words.percent(None), "–"),
        (words.percent(float("nan")), "–"),
        (words.interval(0.5, 0.625), "50.0 to 62.5%"),
        (words.points(-0.0123), "-1.2"),
        (words.points(-0.0001), "+0.0"),
        (words.number(4000), "4,000"),
        (words.number(0.0004), "0.0004"),
        (words.number("3x3"), "3x3"),
        (words.number(True), "true"),
        (words.number(np.False_), "false"),
        (words.compact(5_767_168), "5.77 M"),
        (words.compact(12), "12"),
        (words.compact(2e15), "2e+15"),
        (words.milliseconds(1.1728), "1.17 ms"),
        (words.duration(4.26), "4.3 s"),
        (words.duration(45), "45 s"),
        (words.duration(200), "3 min 20 s"),
        (words.duration(7500), "2 h 05 min"),
        (words.plural(1, "trial"), "1 trial"),
        (words.plural(2000, "trial"), "2,000 trials"),
    ],
)
def test_numbers_read_well(written, expected):
    assert written == expected


def test_a_configuration_in_a_line():
    settings = {"depth": 1, "heads": 8, "pretrain_size": 0, "finetune_learning_rate": 1e-3}
    assert words.describe(settings, ["depth", "heads", "pretrain_size"]) == "depth 1, 8 heads, not pre-trained"
    assert words.describe(settings, ["finetune_learning_rate", "absent"]) == "fine-tuning rate 0.001"
    assert words.describe({"linear_member": True}, ["linear_member"]) == "with a linear model"
    assert words.describe({"linear_member": False}, ["linear_member"]) == "no linear model"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pretrain_epochs": 0, "initial_embeddings": "cooccurrence"}, "word vectors from counts of 4,000"),
        ({"pretrain_epochs": 0, "initial_embeddings": "random"}, "not pre-trained"),
        ({"pretrain_epochs": 3, "initial_embeddings": "cooccurrence"}, "pre-trained on 4,000"),
        ({}, "pre-trained on 4,000"),
    ],
)
def test_counts_alone_are_not_called_pre_training(settings, expected):
    assert words.describe({"pretrain_size": 4000, **settings}, ["pretrain_size"]) == expected
    assert words.pretraining_words(settings, [0]) == "not pre-trained"
