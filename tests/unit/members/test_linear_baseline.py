"""The linear baseline: what it learns, from which features, and that no text makes it fail."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from tlm_search.data.rows import Split, Task
from tlm_search.members import baseline
from tlm_search.members.baseline import (
    CHARACTERS,
    ORDERED,
    PAIRS,
    ROLES,
    WORDS,
    baseline_digest,
    fit_baseline,
    kinds_of,
)
from tlm_search.store.local import Store


def task_of(make, *, labels=3, train=12, held_out=6):
    """Return a task whose text i of label l is ``make(l, i)``."""
    names = tuple(f"label {i}" for i in range(labels))
    starts = {"train": (0, train), "validation": (train, held_out), "test": (train + held_out, held_out)}
    splits = {
        part: Split(
            tuple(make(label, start + i) for i in range(rows) for label in range(labels)),
            tuple(label for _ in range(rows) for label in range(labels)),
        )
        for part, (start, rows) in starts.items()
    }
    return Task("made-up", names, **splits)


def accuracy(fit, split):
    return float((fit.model.log_probabilities(split.texts).argmax(axis=1) == np.array(split.labels)).mean())


def by_words(label, number):
    return f"{('red', 'blue', 'green')[label]} thing number {number} of many"


@pytest.mark.parametrize("labels", [2, 3])
def test_it_learns_and_says_log_probabilities_of_every_label(labels):
    task = task_of(by_words, labels=labels)
    fit = fit_baseline(task)
    said = fit.model.log_probabilities(task.test.texts)
    assert (said.shape, said.dtype) == ((6 * labels, labels), np.float32)
    assert np.exp(said).sum(axis=1) == pytest.approx(np.ones(len(said)), abs=1e-5)
    assert accuracy(fit, task.test) == 1
    assert fit.tried >= 6
    assert fit.seconds > 0


def test_the_choice_is_made_on_validation_and_ties_take_the_lower_cross_entropy():
    task = task_of(by_words)
    fit = fit_baseline(task)
    models = {}
    for kind in kinds_of(task.train.texts):
        path = baseline._Path(kind, task.train.texts, task)
        for strength in path.strengths():
            models[kind, strength] = path.fit(strength)[0]
    assert models[fit.model.features, fit.strength] == max(models.values())


def test_class_weights_are_tried_where_they_are_asked_for_and_then_in_the_name():
    task = task_of(by_words)
    rare = [row for row, label in enumerate(task.train.labels) if label != 2 or row < 4]
    few = Split(tuple(task.train.texts[row] for row in rare), tuple(task.train.labels[row] for row in rare))
    task = replace(task, train=few)

    plain, balanced, both = (
        fit_baseline(task, class_weights=w) for w in (("none",), ("balanced",), ("none", "balanced"))
    )
    assert both.tried == plain.tried + balanced.tried
    unknown = [fit.model.log_probabilities(["zzz"])[0, 2] for fit in (plain, balanced)]
    assert unknown[0] < unknown[1]  # for a text without a known word the label is no longer rare
    assert baseline_digest(task, class_weights=("none",)) == baseline_digest(task)
    assert baseline_digest(task, class_weights=("balanced",)) != baseline_digest(task)


def test_pairs_are_taken_where_the_order_of_words_tells():
    task = task_of(lambda label, i: ("alpha beta x gamma", "beta alpha x gamma")[label] + f" n{i % 3}", labels=2)
    fit = fit_baseline(task)
    assert fit.model.features in (PAIRS, CHARACTERS)
    assert accuracy(fit, task.test) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda label, i: "abc"[label] * (1 + i % 3),
        lambda label, i: "abc"[label],
        lambda label, i: ("ACGT", "TTAG", "CCGA")[label] * 10 + "ACTG"[i % 4],
        lambda label, i: ("แมวนอนบนเสื่อ", "ฝนตกหนักมาก", "เราไปตลาด")[label] + "กขคง"[i % 4],
        lambda label, i: ("!!", "??", "..")[label] * (1 + i % 2),
        lambda label, i: ("\ud800 x", "\udc01 y", "z\x85z")[label],
    ],
    ids=["runs", "one character", "dna", "thai", "signs", "half characters"],
)
def test_texts_without_words_get_features_of_characters(make):
    task = task_of(make)
    fit = fit_baseline(task)
    assert fit.model.features in (CHARACTERS, WORDS)
    assert accuracy(fit, task.test) == 1


def test_characters_are_not_tried_where_they_would_take_long_unless_there_are_no_words(monkeypatch):
    monkeypatch.setattr(baseline, "_CHARACTERS_UP_TO", 10)
    assert kinds_of(["a text of many words"] * 3) == (WORDS, PAIRS)
    assert kinds_of(["แมวนอนบนเสื่อฝนตกหนักมากเราไปตลาด"] * 3) == (CHARACTERS, WORDS)
    monkeypatch.setattr(baseline, "_PAIRS_UP_TO", 10)
    assert kinds_of(["a text of many words"] * 3) == (WORDS,)


MARKED = "in [E1] Old Paris [/E1] a man was born and later [E2] he [/E2] died there at home with us"


def test_words_have_the_roles_that_the_marks_give_them():
    assert baseline.words_by_role(MARKED) == [
        *[
            "in",
            "old",
            "paris",
            "man",
            "was",
            "born",
            "and",
            "later",
            "he",
            "died",
            "there",
            "at",
            "home",
            "with",
            "us",
        ],
        *("head:old", "head:paris", "tail:he"),
        *(f"between:{word}" for word in ("man", "was", "born", "and", "later")),
        "left:in",
        *(f"right:{word}" for word in ("died", "there", "at", "home")),
    ]
    turned = baseline.words_by_role("[E2] aa [/E2] bb [E1] cc [/E1] dd")
    assert turned == ["aa", "bb", "cc", "dd", "head:cc", "tail:aa", "between:bb", "right:dd"]
    assert baseline.words_by_role("no [E1] marks here") == ["no", "marks", "here"]
    assert "e1" not in baseline.without_markers(MARKED)


def test_marked_texts_are_told_apart_by_the_roles_of_their_words():
    def make(label, number):
        names = ["anna", "bert", "cora", "dora"]
        one, other = names[number % 4], names[(number + 1) % 4]
        first, second = (("aa", one), ("bb", other)) if label else (("bb", other), ("aa", one))
        return f"[E1] {first[0]} {first[1]} [/E1] and {'so' * (number % 2)} [E2] {second[0]} {second[1]} [/E2]"

    task = task_of(make, labels=2)
    assert kinds_of(task.train.texts)[-1] == ROLES
    assert ROLES not in kinds_of(["plain", MARKED, "texts"])
    assert accuracy(fit_baseline(task), task.test) == 1


def test_which_entity_comes_first_is_told_by_the_roles_around_them():
    def make(label, number):
        between = ("wrote", "read")[(label + number) % 2]
        entities = ["[E1] anna [/E1]", "[E2] book [/E2]"][:: 1 if number % 2 else -1]
        return f"{entities[0]} so {between} then {entities[1]}"

    task = task_of(make, labels=2)
    fit = fit_baseline(task)
    assert (fit.model.features, accuracy(fit, task.test)) == (ORDERED, 1)
    one, other = "[E1] a1 [/E1] to [E2] b1 [/E2]", "[E2] b1 [/E2] to [E1] a1 [/E1]"
    assert sorted(baseline.words_by_role(one)) == sorted(baseline.words_by_role(other))


def test_a_model_is_read_back_as_it_was(tmp_path):
    store = Store(tmp_path)
    for make in (by_words, lambda label, i: "\ud800bc"[label], lambda label, i: MARKED + f" {'xyz'[label] * 2}"):
        task = task_of(make)
        fit = fit_baseline(task)
        document = {"features": fit.model.features}
        entry = store.write("baselines", baseline_digest(task), document, {"model": fit.model.arrays()})
        again = baseline.Linear.of_entry(entry).log_probabilities(task.test.texts)
        assert np.array_equal(again, fit.model.log_probabilities(task.test.texts))


def test_labels_that_no_training_or_no_validation_text_has_are_no_problem():
    whole = task_of(by_words)
    kept = [i for i, label in enumerate(whole.train.labels) if label != 1]
    train = Split(tuple(whole.train.texts[i] for i in kept), tuple(whole.train.labels[i] for i in kept))
    single = Split(whole.validation.texts[:1], whole.validation.labels[:1])
    fit = fit_baseline(Task("made-up", whole.labels, train, single, whole.test))
    said = fit.model.log_probabilities(whole.test.texts)
    assert said.shape[1] == 3
    assert set(said.argmax(axis=1)) == {0, 2}
    one = Split(train.texts[:1], train.labels[:1])
    with pytest.raises(ValueError, match="one label"):
        fit_baseline(Task("made-up", whole.labels, one, single, whole.test))


def test_the_name_follows_texts_labels_and_order():
    name = baseline_digest(task_of(by_words))
    assert name == baseline_digest(task_of(by_words))
    assert name != baseline_digest(task_of(lambda label, i: by_words(label, i) + "."))
    assert name != baseline_digest(task_of(by_words, held_out=5))
    assert name != baseline_digest(task_of(lambda label, i: by_words((label + 1) % 3, i)))


def test_work_is_bounded_and_an_unfinished_fit_is_no_warning(monkeypatch):
    monkeypatch.setattr(baseline, "_FEWEST_PASSES", 1)
    monkeypatch.setattr(baseline, "_WORK_OF_A_FIT", 1.0)
    monkeypatch.setattr(baseline, "MOST_COEFFICIENTS", 12)
    monkeypatch.setattr(baseline, "FEWEST_FEATURES", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_baseline(task_of(by_words))
    assert fit.model.weights.shape == (3, 4)
    monkeypatch.setattr(baseline, "LONG_PASS", 1)
    fit = fit_baseline(task_of(by_words))
    assert (fit.model.features, fit.tried <= 4) == (WORDS, True)


def test_pairs_are_not_even_counted_where_there_would_be_too_many(monkeypatch):
    counted = []

    class Counting(baseline._Path):
        def __init__(self, features, *how):
            counted.append(features)
            super().__init__(features, *how)

    monkeypatch.setattr(baseline, "_Path", Counting)
    fit_baseline(task_of(by_words))
    assert counted == [WORDS, PAIRS, CHARACTERS]
    counted.clear()
    monkeypatch.setattr(baseline, "LONG_PASS", 36 * 6 * 3)  # as many as the texts have words
    fit_baseline(task_of(by_words))
    assert counted == [WORDS, CHARACTERS]
