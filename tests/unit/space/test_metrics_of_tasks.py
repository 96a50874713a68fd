"""The metric of a task, and its effect on objectives and constraints; spaces of before are unchanged."""

import pytest
from pydantic import ValidationError

from tlm_search.space.schema import Space
from tlm_search.space.section import problems_of

SEARCH = {"depth": {"choices": [1, 2]}}


def space(task, **sections):
    return Space.from_document({"search": SEARCH, "task": {"source": "a.csv", **task}, **sections})


def problems(task, **sections):
    with pytest.raises(ValidationError) as caught:
        space(task, **sections)
    return [(problem.path, problem.message) for problem in problems_of(caught.value)]


def test_accuracy_is_the_default_and_changes_no_name():
    plain = space({})
    assert (plain.task.metric, plain.objectives[0].metric) == ("accuracy", "validation_accuracy")
    assert not {"metric", "positive"} & set(plain.to_document()["task"])
    assert space({"metric": "accuracy"}).digest == plain.digest != space({"metric": "macro_f1"}).digest


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy", "f1", "average_precision"])
def test_the_metric_is_maximised_unless_objectives_are_given(metric):
    task = {"metric": metric, "positive": "spam"}
    [objective] = space(task).objectives
    assert (objective.metric, objective.direction) == (f"validation_{metric}", "maximize")
    assert space(task).pruner.name == "median"
    given = space(task, objectives=["validation_accuracy", "validation_calibration_error"]).objectives
    assert [o.direction for o in given] == ["maximize", "minimize"]
    assert Space.from_document(space(task).to_document()) == space(task)


def test_beating_the_reference_is_by_the_metric():
    made = space({"metric": "macro_f1"}, reference={"depth": 6}, constraints=["beats_reference"])
    assert made.constraints[0].metric == "validation_macro_f1"
    assert Space.from_document(made.to_document()) == made
    [other] = space({"positive": "spam"}, constraints=["validation_recall >= 0.9"]).constraints
    assert other.violation({"validation_recall": 0.8}) == pytest.approx(0.1)


def test_a_label_may_be_a_number():
    assert space({"metric": "f1", "positive": 1}).task.positive == "1"


@pytest.mark.parametrize(
    ("task", "sections", "path", "words"),
    [
        ({"metric": "f2"}, {}, ("task", "metric"), "one of accuracy, balanced_accuracy, macro_f1, precision, recall"),
        ({"metric": "f1"}, {}, ("task", "metric"), "allowed: with positive: LABEL"),
        ({"positive": ""}, {}, ("task", "positive"), "text that is not empty"),
        ({"positive": True}, {}, ("task", "positive"), "given true; allowed: text"),
        ({}, {"objectives": ["validation_f1"]}, ("objectives", 0), "allowed: with task: {positive: LABEL}; without"),
        ({}, {"constraints": ["validation_recall >= 1"]}, ("constraints", 0), "with task: {positive: LABEL}"),
        ({}, {"objectives": ["test_macro_f1"]}, ("objectives", 0), "test metrics are never used to choose"),
        ({}, {"objectives": []}, ("objectives",), "a list of metrics"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_allowed(task, sections, path, words):
    [(where, message)] = problems(task, **sections)
    assert where == path
    assert words in message
