"""How many rows a task uses: all as they are, or balanced as before."""

import json

import pytest

from tlm_search.errors import SpaceError
from tlm_search.space.schema import Space, load_space
from tlm_search.space.task import TrainSection


def task(**keys):
    return Space.from_document({"task": keys}).task


def test_own_rows_are_all_used_and_pydocs_is_balanced():
    own, built_in = task(source="a.csv"), task()
    assert (own.train, own.validation, own.test, own.per_label) == ("all", None, None, None)
    assert built_in.per_label == {"train": 100, "validation": 50, "test": 100}
    assert built_in.train is None
    assert task(train="all").per_label is None


def test_one_balanced_key_brings_the_others():
    assert task(source="a.csv", train_per_label=7).per_label == {"train": 7, "validation": 50, "test": 100}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"train": {"rows": 5000}},
        {"train": {"per_label": 3}, "validation": 0.1, "test": 200},
        {"validation_source": "v.csv", "test_source": "t.csv"},
        {"test_per_label": 4},
    ],
)
def test_the_document_of_a_space_is_read_back(keys):
    made = Space.from_document({"task": {"source": "a.csv", **keys}})
    document = made.to_document()
    again = Space.from_document(json.loads(json.dumps(document)))
    assert (again, again.digest) == (made, made.digest)
    assert not [key for key, value in document["task"].items() if key.startswith(("train", "va")) and value is None]


def test_balanced_tasks_have_the_keys_of_before():
    keys = {"source", "config", "text", "label", "train_split", "test_split", "test_source", "format", "labels", "seed"}
    document = task(source="a.csv", train_per_label=100).model_dump(mode="json")
    assert set(document) == {*keys, "train_per_label", "validation_per_label", "test_per_label"}


def test_rows_to_train_are_known_where_they_are_asked_for():
    asked = ({"train": {"rows": 9}}, {"train": {"per_label": 4}}, {"train_per_label": 5}, {"train": "all"})
    assert [task(source="a.csv", **keys).train_rows(3) for keys in asked] == [9, 12, 15, None]
    assert task(source="a.csv", train={"rows": 9}).train == TrainSection(rows=9)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("train: most", "task.train: given 'most'; allowed: all, {per_label: N} or {rows: N}"),
        ("train: 5000", "task.train: given 5000; allowed: all"),
        ("train: {}", "task.train: given {}; allowed: per_label or rows, one of the two"),
        ("train: {rows: 5, per_label: 5}", "allowed: per_label or rows, one of the two"),
        ("train: {row: 5}", "did you mean rows?"),
        ("train: {rows: 0}", "task.train.rows: given 0; allowed: a whole number of at least 1"),
        ("validation: 0", "task.validation: given 0; allowed: a share above 0 and below 1, or a whole number of rows"),
        ("test: 1.5", "task.test: given 1.5; allowed: a share"),
        ("test: true", "task.test: given true; allowed: a share"),
        ("test: lots", "task.test: given 'lots'; allowed: a share"),
        ("test: 0.1, test_source: t.csv", "task.test: given 0.1; allowed: test or test_source"),
        ("validation: 9, validation_source: t.csv", "allowed: validation or validation_source"),
        ("train: all, test_per_label: 5", "task.train: given 'all' together with test_per_label; allowed: train, "),
        ("validation_source: v.csv, train_per_label: 5", "given 'v.csv' together with train_per_label; allowed:"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, keys, message):
    file = tmp_path / "s.yaml"
    file.write_text(f"task: {{source: a.csv, {keys}}}\n")
    with pytest.raises(SpaceError) as caught:
        load_space(file)
    assert message in str(caught.value)
    assert len(caught.value.problems if hasattr(caught.value, "problems") else [1]) == 1
