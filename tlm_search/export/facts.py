"""The facts of an exported committee for its model card: its members, answers, costs and graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.committee.calibration import Calibration
from tlm_search.committee.choice import Choice
from tlm_search.committee.interval import accuracy_interval
from tlm_search.committee.metrics import (
    Metric,
    contributions_of_votes,
    metric_of,
    most_texts,
    texts_that_count,
)
from tlm_search.data.prepared import PreparedData
from tlm_search.export.choose import Chosen
from tlm_search.export.fit import architecture_of
from tlm_search.model.architecture import Architecture
from tlm_search.study.record import StudyRecord


@dataclass(frozen=True)
class Graph:
    """An ONNX graph of the committee, measured on the test texts.

    ``difference`` is the largest difference between its probabilities and torch's. ``change`` is its accuracy minus
    torch's, with the paired 95% interval.
    """

    name: str
    difference: float
    accuracy: float
    change: tuple[float, float, float]


@dataclass(frozen=True)
class Facts:
    """The facts for the model card.

    ``documents`` are the members' documents in the store. ``votes`` ``(rows, labels)`` has by split the committee's
    probabilities before its ``calibration``, ``labels`` ``(rows,)`` the true labels. ``difference`` is the largest
    difference between the exported committee's probabilities on the test texts and those of the study. ``linear`` has
    the documents of linear models that vote too. ``standing`` compares the committee with the reference and the linear
    model of the study.
    """

    record: StudyRecord
    chosen: Chosen
    data: PreparedData
    documents: Sequence[Mapping[str, Any]]
    votes: Mapping[str, NDArray[np.floating]]
    calibration: Calibration
    labels: Mapping[str, NDArray[np.integer]]
    difference: float
    graphs: tuple[Graph, ...] = ()
    linear: Sequence[Mapping[str, Any]] = ()
    standing: Choice | None = None

    @property
    def parameters(self) -> int:
        """The parameters of all members and of the linear models."""
        members = (
            shape_of(document).classifier_parameters(
                len(self.data.labels), pooling=document["spec"]["settings"]["pooling"]
            )
            for document in self.documents
        )
        return sum(members) + sum(int(model["parameters"]) for model in self.linear)

    @cached_property
    def probabilities(self) -> Mapping[str, NDArray[np.float64]]:
        """The committee's calibrated probabilities, by split."""
        return {split: self.calibration.of(votes) for split, votes in self.votes.items()}

    def reached(self, split: str, name: str = "accuracy") -> tuple[float, float, float]:
        """Return a metric of these members on ``split``, with its 95% interval over texts."""
        labels, metric = self.labels[split], replace(self.metric, name=name)
        # The uncalibrated vote ranks the texts, as in the study.
        probabilities = (self.votes if name == "average_precision" else self.probabilities)[split]
        contributions = contributions_of_votes(probabilities[None], labels, metric)[0]
        texts, most = texts_that_count(metric, labels), most_texts(metric, labels)
        return float(contributions.mean()), *accuracy_interval(contributions, texts=texts, most_texts=most)

    @property
    def metric(self) -> Metric:
        """The metric of the task."""
        return metric_of(self.record.space.task, self.data.labels)

    def cost(self, name: str) -> float:
        """Return the ``seconds`` or ``flops`` of training all members, pre-training and linear model included."""
        courses = [document[phase] or {} for document in self.documents for phase in ("pretraining", "finetuning")]
        return float(sum(course.get(name, 0.0) for course in [*courses, *self.linear]))

    def latency_ms(self) -> float | None:
        """Return the latency that the study measured for a committee of this size; None if it did not."""
        return self.chosen.candidate.latency_ms


def no_members_because(architecture: Architecture, pooling: str) -> str | None:
    """Return why the members have no form in ``transformers``; None if they have one."""
    if architecture.convolution_layers:
        return "the convolution front end has no form in `transformers`"
    if not architecture.is_bert:
        return "the layers are pre-norm, those of `BertForSequenceClassification` are post-norm"
    if pooling == "spans":
        return "`BertForSequenceClassification` does not pool marked entities apart"
    if pooling != "cls":
        return f"`BertForSequenceClassification` does not pool by the {pooling} of the tokens"
    return None


def no_members(documents: Iterable[Mapping[str, Any]]) -> str | None:
    """Return why members with these ``documents`` have no form in ``transformers``; None if all have one."""
    reasons = (no_members_because(shape_of(one), one["spec"]["settings"]["pooling"]) for one in documents)
    return next((reason for reason in reasons if reason is not None), None)


def shape_of(document: Mapping[str, Any]) -> Architecture:
    """Return the architecture of the member with this ``document``."""
    return architecture_of(document["spec"]["architecture"])
