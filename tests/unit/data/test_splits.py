from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tlm_search.data.drawing import stratified
from tlm_search.data.rows import Labelled, Task
from tlm_search.data.splits import split_task
from tlm_search.errors import DataError
from tlm_search.space.task import TaskSection


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
    with pytest.raises(DataError, match=r"each label needs 3 for validation \+ 5 for train, but b has 7"):
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
        ({"a": 30, "b": 30}, {"labels": 3}, "labels asks for 3, but the data have 2"),
        (
            {"a": 30, "b": 11},
            {},
            r"each label needs 4 for test \+ 3 for validation \+ 5 for train, but b has 11",
        ),
        ({str(i): i for i in range(1, 9)}, {}, "5 has 5, 3 more labels have too few"),
    ],
)
def test_bad_tasks(labels: dict[str, int], options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_task(_section(**options), _data(labels))


def test_balanced_samples_account_for_each_row() -> None:
    data = _data({"a": 20, "b": 14, "rare": 2})
    more = Labelled(
        [*data.texts, "", "no label", data.texts[0].upper(), data.texts[1]], [*data.labels, "a", "", "a", "b"]
    )
    account = split_task(_section(labels=2), more).account
    assert account is not None
    assert account.to_document() == {
        "available": 40,
        "train": 10,
        "validation": 6,
        "test": 8,
        "dropped": {"no_text": 1, "no_label": 1, "repeated": 1, "two_labels": 1, "other_label": 2, "not_drawn": 10},
    }


def _natural(**options: object) -> TaskSection:
    return TaskSection(**{"source": "x.csv", **options})


def _adds_up(task: Task) -> dict[str, int]:
    assert task.account is not None
    account = task.account.to_document()
    sizes = {part: len(getattr(task, part).texts) for part in ("train", "validation", "test")}
    assert {part: account[part] for part in sizes} == sizes
    assert sum(sizes.values()) + sum(account["dropped"].values()) == account["available"]
    dropped: dict[str, int] = account["dropped"]
    return dropped


def test_all_rows_are_used_in_their_proportions() -> None:
    sizes = {"a": 492, "b": 400, "c": 92, "rarest": 16}
    task = split_task(_natural(), _data(sizes))
    assert _adds_up(task) == {}
    assert (len(task.train.texts), len(task.validation.texts), len(task.test.texts)) == (700, 150, 150)
    for split in (task.train, task.validation, task.test):
        shares = {task.labels[label]: count / len(split.labels) for label, count in Counter(split.labels).items()}
        assert shares == pytest.approx({name: count / 1000 for name, count in sizes.items()}, abs=0.01)
    assert not set(task.train.texts) & set(task.validation.texts + task.test.texts)
    assert split_task(_natural(), _data(sizes)) == task
    assert split_task(_natural(seed=1), _data(sizes)) != task


def test_fewer_training_rows_leave_validation_and_test_as_they_are() -> None:
    data = _data({"a": 90, "b": 60, "c": 3})
    whole = split_task(_natural(), data)
    for asked, counts in (({"per_label": 10}, [10, 10, 2]), ({"rows": 50}, [29, 20, 1])):
        fewer = split_task(_natural(train=asked), data)
        assert (fewer.validation, fewer.test) == (whole.validation, whole.test)
        assert [fewer.train.labels.count(label) for label in range(3)] == counts
        assert set(fewer.train.texts) < set(whole.train.texts)
        assert _adds_up(fewer) == {"not_drawn": len(whole.train.texts) - sum(counts)}


def test_shares_and_numbers_of_rows() -> None:
    task = split_task(_natural(validation=0.3, test=10), _data({"a": 60, "b": 40}))
    assert (len(task.train.texts), len(task.validation.texts), len(task.test.texts)) == (60, 30, 10)


def test_a_default_share_is_bounded_and_one_that_is_given_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlm_search.data.splits.MOST_OF_DEFAULT_SHARE", 10)
    task = split_task(_natural(test=0.15), _data({"a": 60, "b": 40}))
    assert (len(task.validation.texts), len(task.test.texts)) == (10, 15)


def test_why_rows_are_not_used() -> None:
    data = _data({"a": 30, "b": 30})
    texts = ["", " ", "no label", "both", "BOTH ", data.texts[0].upper(), data.texts[0]]
    more = Labelled([*data.texts, *texts], [*data.labels, "a", "", "", "a", "b", "a", "a"])
    task = split_task(_natural(), more)
    assert _adds_up(task) == {"no_text": 2, "no_label": 1, "repeated": 2, "two_labels": 2}
    assert len({*task.train.texts, *task.validation.texts, *task.test.texts}) == 60


def test_a_test_file_is_used_as_it_is_and_train_goes_without_its_rows() -> None:
    data = _data({"a": 30, "b": 30})
    test = Labelled(["new", "new", "", f" {data.texts[0]}".upper(), "other"], ["a", "b", "a", "b", "b"])
    task = split_task(_natural(test_source="t.csv"), data, held_out=test)
    assert task.test.texts == tuple(test.texts)
    assert [task.labels[label] for label in task.test.labels] == list(test.labels)
    assert _adds_up(task) == {"held_out": 1}
    assert data.texts[0] not in task.train.texts + task.validation.texts


def test_validation_files_go_without_what_test_has() -> None:
    data = _data({"a": 5, "b": 5})
    test, validation = Labelled(["t", "u"], ["a", "b"]), Labelled(["T", "v", "v", data.texts[0]], ["b", "a", "a", "a"])
    task = split_task(_natural(), data, validation=validation, held_out=test)
    assert task.validation.texts == ("v", "v", data.texts[0])
    assert len(task.train.texts) == 9
    assert _adds_up(task) == {"held_out": 2}


def test_a_split_may_be_drawn_from_where_it_is_not_a_file() -> None:
    task = split_task(_natural(test=4), _data({"a": 30, "b": 30}), held_out=_data({"a": 20, "b": 20}, "held"))
    assert Counter(task.test.labels) == {0: 2, 1: 2}
    assert _adds_up(task) == {"not_drawn": 36}


def test_held_out_rows_are_for_validation_and_test_alike() -> None:
    held = _data({"a": 20, "b": 20}, "held")
    task = split_task(_natural(train="all"), _data({"a": 30, "b": 30}), held_out=held, validation_held_out=True)
    assert (len(task.train.texts), len(task.validation.texts), len(task.test.texts)) == (60, 20, 20)
    assert _adds_up(task) == {}


def test_a_label_with_one_row_is_trained_on() -> None:
    task = split_task(_natural(), _data({"a": 30, "b": 30, "once": 1}))
    assert task.train.labels.count(2) == 1
    assert 2 not in task.validation.labels + task.test.labels


def test_labels_that_are_not_kept_are_counted() -> None:
    test = Labelled(["x", "y"], ["a", "rare"])
    task = split_task(_natural(labels=2), _data({"a": 30, "b": 30, "rare": 4}), held_out=test)
    assert _adds_up(task) == {"other_label": 5}


@pytest.mark.parametrize(
    ("options", "train", "test", "message"),
    [
        ({"test": 99}, {"a": 50, "b": 50}, None, "test asks for 99 rows, but 100 are left, of which train needs one"),
        ({"train": {"rows": 99}}, {"a": 50, "b": 50}, None, "train asks for 99 rows, but 70 are left"),
        ({"train": {"rows": 2}}, {"a": 9, "b": 9, "c": 9}, None, "each of 3 labels needs one"),
        ({}, {"a": 1, "b": 1}, None, "test asks for 1 rows"),
        ({}, {"a": 9, "b": 9}, {"c": 2, "a": 1}, r"has labels that train lacks: c \(2 rows\)"),
        ({}, {"a": 9, "b": 9}, {"a": 1, "": 2}, "2 of 3 rows have no label, the first is row 2"),
        ({}, {"a": 9, "b": 9}, {}, "test has no rows"),
        ({"labels": 2}, {"a": 9, "b": 9, "c": 2}, {"c": 3}, "test uses none of its 3 rows"),
        ({"test_source": "t.csv"}, {"a": 9, "b": 9}, {"": 1}, r"task t\.csv: test: 1 of 1 rows have no label"),
    ],
)
def test_tasks_that_cannot_be_split(
    options: dict[str, object], train: dict[str, int], test: dict[str, int] | None, message: str
) -> None:
    held_out = None if test is None else _data(test, "held")
    with pytest.raises(DataError, match=message):
        split_task(_natural(**options), _data(train), held_out=held_out)


def test_a_label_that_loses_its_last_row_is_named() -> None:
    data = _data({"a": 30, "b": 30, "c": 1})
    with pytest.raises(DataError, match="no row is left to train these labels: c; validation or test has"):
        split_task(_natural(), data, held_out=Labelled([data.texts[-1]], ["c"]))
    two = Labelled([*data.texts, data.texts[-1]], [*data.labels, "a"])
    with pytest.raises(DataError, match="no row is left to train these labels: c"):
        split_task(_natural(), two)


def test_stratified_numbers_are_within_one_of_their_quotas_and_within_their_bounds() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        counts = [int(count) for count in generator.integers(1, 50, size=generator.integers(1, 9))]
        rows = int(generator.integers(0, sum(counts) + 1))
        given = stratified(counts, rows, least=[0] * len(counts), most=counts)
        assert sum(given) == rows
        quotas = [rows * count / sum(counts) for count in counts]
        assert all(abs(number - quota) < 1 for number, quota in zip(given, quotas, strict=True))
        if rows >= len(counts):
            assert min(stratified(counts, rows, least=[1] * len(counts), most=counts)) >= 1
    assert stratified([90, 9, 1], 10, least=[0, 0, 0], most=[89, 8, 0]) == [9, 1, 0]
    with pytest.raises(ValueError, match="3 rows are not between 0 and 2"):
        stratified([5, 5], 3, least=[0, 0], most=[1, 1])
