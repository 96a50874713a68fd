"""Class weights by label: a mapping in a file, a text in a trial, a list in the order of the labels in a member."""

import pytest
from pydantic import ValidationError

from tlm_search.space.schema import Space
from tlm_search.space.settings import weights_of_labels


def space(entry):
    return Space.from_document({"search": {"class_weights": entry}})


def problems_of(entry):
    with pytest.raises(ValidationError) as caught:
        space(entry)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


def test_a_mapping_is_one_value_in_whatever_order_it_is_written():
    first, second = space({"spam": 5, "ham": 1}), space({"ham": 1.0, "spam": 5.0})
    assert first.search["class_weights"] == second.search["class_weights"] == '{"ham": 1.0, "spam": 5.0}'
    assert first.digest == second.digest != space("balanced").digest
    assert Space.from_document(first.to_document()).search == first.search


def test_choices_may_hold_mappings():
    found = space({"choices": ["none", "balanced", {"low": 1, "high": 3}]})
    assert found.search["class_weights"].choices == ("none", "balanced", '{"high": 3.0, "low": 1.0}')
    assert Space.from_document(found.to_document()).search == found.search
    assert "given {'a': 1} twice" in problems_of({"choices": [{"a": 1}, {"a": 1}]})[0][1]


def test_labels_that_are_keys_of_a_range_are_labels():
    assert space({"low": 1, "high": 3}).search["class_weights"] == '{"high": 3.0, "low": 1.0}'
    assert space({1: 2, "2": 1}).search["class_weights"] == '{"1": 2.0, "2": 1.0}'


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"spam": -1, "ham": 1}, "given -1 for the label 'spam'; allowed: a number above 0"),
        ({"spam": 0}, "given 0 for the label 'spam'"),
        ({"spam": "much"}, "given 'much' for the label 'spam'"),
        ({"spam": True}, "given True for the label 'spam'"),
        ({True: 1}, "allowed: quote it"),
        ({}, "none, balanced, or a number above 0 for each label"),
        ("even", "unknown value 'even'"),
        ([1, 2], "none, balanced, or a number above 0 for each label"),
        ("{not json", "unknown value '{not json'"),
    ],
)
def test_what_is_no_weight_is_one_message(entry, words):
    found = problems_of(entry)
    assert [loc for loc, _ in found] == [("search", "class_weights")]
    assert words in found[0][1]


def test_a_member_has_a_list_in_the_order_of_the_labels():
    text = space({"spam": 5, "ham": 1}).search["class_weights"]
    assert weights_of_labels(text, ["spam", "ham"]) == "[5.0, 1.0]"
    assert weights_of_labels("balanced", ["spam", "ham"]) == "balanced"
    with pytest.raises(ValueError, match="no weight for 'eggs'; the task has no label 'ham'"):
        weights_of_labels(text, ["spam", "eggs"])
