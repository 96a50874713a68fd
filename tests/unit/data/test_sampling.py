from __future__ import annotations

from collections import Counter

import pytest

from tlm_search.data.sampling import Labelled, Task, split_task
from tlm_search.errors import DataError
from tlm_search.space.sections import TaskSection


def _section(**options: object) -> TaskSection:
    return TaskSection(
        **{"source": "x.csv", "train_per_label": 5, "validation_per_label": 3, "test_per_label": 4, **options}
    )


def _data(labels: dict[str, int], prefix: str = "text") -> Labelled:
    rows = [(f"{prefix} {label} {i}", label) for label, count in labels.items() for i in range(count)]
    return Labelled([text for text, _ in rows], [label for _, label in rows])


def _parts(task: Task) -> list[set[str]]:
    return [set(split.texts) for split in (task.train, task.validation, task.test)]


def test_samples_are_balanced_and_disjoint() -> None:
    task = split_task(_section(), _data({"b": 20, "a": 12}))
    assert task.labels == ("a", "b")
    for split, size in ((task.train, 5), (task.validation, 3), (task.test, 4)):
        assert Counter(split.labels) == {0: size, 1: size}
        assert all(f" {task.labels[label]} " in text for text, label in zip(split.texts, split.labels, strict=True))
    train, validation, test = _parts(task)
    assert len(train | validation | test) == 24


def test_the_seed_decides_the_sample() -> None:
    data = _data({"a": 50, "b": 50})
    assert split_task(_section(), data) == split_task(_section(), data)
    assert _parts(split_task(_section(), data)) != _parts(split_task(_section(seed=1), data))


def test_more_training_texts_leave_the_rest_as_it_is() -> None:
    data = _data({"a": 50, "b": 50})
    small, large = split_task(_section(), data), split_task(_section(train_per_label=9), data)
    assert (small.validation, small.test) == (large.validation, large.test)
    assert _parts(small)[0] < _parts(large)[0]


def test_test_comes_from_the_test_split() -> None:
    task = split_task(_section(), _data({"a": 8, "b": 8}), held_out=_data({"a": 4, "b": 9, "c": 9}, "held"))
    assert all(text.startswith("held") for text in task.test.texts)
    assert all(text.startswith("text") for text in task.train.texts + task.validation.texts)
    assert task.labels == ("a", "b")


def test_repeated_and_empty_texts_are_passed_over() -> None:
    data = _data({"a": 12, "b": 12})
    noisy = Labelled(
        [*(text.upper() for text in data.texts), *data.texts, "", "  ", *data.texts],
        [*data.labels, *data.labels, "a", "b", *data.labels],
    )
    assert {text.lower() for part in _parts(split_task(_section(), noisy)) for text in part} == {
        text.lower() for text in data.texts
    }


def test_a_text_of_the_test_split_is_not_trained_on() -> None:
    data = _data({"a": 8, "b": 8})
    held_out = _data({"a": 4, "b": 3}, "held")
    held_out = Labelled([*held_out.texts, data.texts[-1]], [*held_out.labels, "b"])
    with pytest.raises(DataError, match=r"3 for validation \+ 5 for train are asked for per label, but b has 7"):
        split_task(_section(), data, held_out=held_out)


def test_the_most_frequent_labels_are_kept() -> None:
    task = split_task(_section(labels=2), _data({"rare": 12, "often": 30, "also": 30, "alone": 29}))
    assert task.labels == ("also", "often")


def test_numbers_are_in_the_order_of_numbers() -> None:
    assert split_task(_section(), _data({"10": 12, "9": 12, "-1": 12, "x": 12})).labels == ("-1", "9", "10", "x")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ({"a": 30}, {}, "all texts have the label 'a'"),
        ({}, {}, "no row has both"),
        ({"a": 30, "b": 30}, {"labels": 3}, "labels: 3 asked for, but the data has 2"),
        (
            {"a": 30, "b": 11},
            {},
            r"4 for test \+ 3 for validation \+ 5 for train are asked for per label, but b has 11",
        ),
        ({str(i): i for i in range(1, 9)}, {}, "5 has 5, 3 more labels have too few"),
    ],
)
def test_bad_tasks(labels: dict[str, int], options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_task(_section(**options), _data(labels))
