"""Write numbers, settings and metrics for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tlm_search.committee.metrics import metric_words as of_metric
from tlm_search.space.settings import OWN

NONE = "–"
_MARKDOWN = str.maketrans({**{character: f"\\{character}" for character in "\\`*[]|"}, "&": "&amp;", "<": "&lt;"})

_SETTING_WORDS = {
    "depth": "depth {}",
    "width": "width {}",
    "heads": "{} heads",
    "head_size": "head size {}",
    "feed_forward": "feed-forward {}x",
    "normalisation": "{}-norm",
    "layer_weights": "{} weights of layers",
    "convolution_layers": "{} convolutions",
    "convolution_kernel": "kernel {}",
    "tokenizer_kind": "{} as tokens",
    "pooling": "{} pooling",
    "pretrain_learning_rate": "pre-training rate {}",
    "pretrain_epochs": "pre-training epochs {}",
    "initial_embeddings": "initial embeddings {}",
    "pretrain_seeds": "{} pre-trainings shared",
    "finetune_learning_rate": "fine-tuning rate {}",
    "finetune_epochs": "fine-tuning epochs {}",
    "finetune_dropout": "dropout {}",
    "class_weights": "{} class weights",
    "self_training": "self-trained",
    "teachers": "{} teachers",
    "student_learning_rate": "students' rate {}",
    "student_epochs": "students' epochs {}",
    "student_batch_size": "students' batch size {}",
    "student_linear": "linear model learns from {}",
    "linear_member": "with a linear model",
    "linear_share": "{} of the votes linear",
    "linear_roles": "linear roles by {}",
}
_NOTHING_WORDS = {
    "pretrain_size": "not pre-trained",
    "pretrain_epochs": "no masked-language-model training",
    "convolution_layers": "no convolution",
    "pretrain_seeds": "a pre-training for each member",
    "self_training": "not self-trained",
    "student_epochs": "the teachers vote",
    "linear_member": "no linear model",
}
_METRIC_WORDS = {
    "validation_accuracy": "validation accuracy",
    "validation_cross_entropy": "validation cross-entropy (nats)",
    "test_accuracy": "test accuracy",
    "latency_ms": "latency (ms per text)",
    "serving_flops": "serving cost (FLOPs per text)",
    "parameters": "parameters",
    "training_flops": "training cost (FLOPs)",
    "training_seconds": "training time (s)",
}


def plain_text(text: str) -> str:
    """Escape a text for Markdown and HTML, in one line."""
    return " ".join(text.translate(_MARKDOWN).split())


def percent(value: float | None) -> str:
    """Write a share as 81.6%."""
    return NONE if _missing(value) else f"{100 * float(value or 0):.1f}%"


def interval(low: float | None, high: float | None) -> str:
    """Write two shares as 75.6 to 86.4%."""
    return NONE if _missing(low) or _missing(high) else f"{100 * float(low or 0):.1f} to {100 * float(high or 0):.1f}%"


def points(value: float | None) -> str:
    """Write a difference of shares as +1.2."""
    # Adding 0 turns a -0.0 from rounding into 0.0.
    return NONE if _missing(value) else f"{round(100 * float(value or 0), 1) + 0.0:+.1f}"


def number(value: Any) -> str:
    """Write a value of a setting or a count: 4,000, 0.001, 3x3."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if _missing(value):
        return NONE
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3g}"


def compact(value: float | None) -> str:
    """Write a large count as 5.77 M; scientific from a quadrillion on."""
    if _missing(value):
        return NONE
    size = float(value or 0)
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if limit <= abs(size) < limit * 1e3:
            return f"{size / limit:.3g} {unit}"
    return f"{size:.3g}"


def milliseconds(value: float | None) -> str:
    """Write a latency as 1.17 ms."""
    return NONE if _missing(value) else f"{float(value or 0):.3g} ms"


def duration(seconds: float | None) -> str:
    """Write seconds as 45 s, 3 min 20 s or 2 h 05 min."""
    if _missing(seconds):
        return NONE
    whole = round(float(seconds or 0))
    if whole < 10:
        return f"{float(seconds or 0):.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def pretraining_words(settings: Mapping[str, Any], sizes: Iterable[int]) -> str:
    """Say what members learn before fine-tuning, from the first documents of the corpus, for one or several ``sizes``.

    For example: not pre-trained; pre-trained on 4,000 and 16,000; word vectors from counts of 4,000 (without
    masked-language-model training).
    """
    listed = " and ".join(", ".join(number(size) for size in sizes).rsplit(", ", 1))
    if settings.get("pretrain_epochs") != 0:
        return f"pre-trained on {listed}" if any(sizes) else _NOTHING_WORDS["pretrain_size"]
    counted = any(sizes) and settings.get("initial_embeddings") == "cooccurrence"
    return f"word vectors from counts of {listed}" if counted else _NOTHING_WORDS["pretrain_size"]


def describe(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    """Write the settings ``names`` in one line: depth 1, 8 heads, pre-trained on 4,000."""
    parts = []
    for name in names:
        if name not in settings:
            continue
        if name == "pretrain_size":
            parts.append(pretraining_words(settings, [settings[name]]))
            continue
        if not settings[name] and name in _NOTHING_WORDS:
            parts.append(_NOTHING_WORDS[name])
            continue
        words = _SETTING_WORDS.get(name, name.removeprefix(OWN).replace("_", " ") + " {}")
        parts.append(words.format(number(settings[name])))
    return ", ".join(parts)


def metric_words(name: str) -> str:
    """Return the name of a metric for an axis."""
    return _METRIC_WORDS.get(name, of_metric(name))


def judged_by(table: pd.DataFrame) -> str:
    """Return the name of the metric by which the rows of a table are judged."""
    return of_metric(str(table["metric"].iloc[0])) if len(table) else "accuracy"


def bounds(row: Mapping[Any, Any]) -> tuple[float, float]:
    """Return the interval of the metric by which a row of a table is judged."""
    return row["test_metric_low"], row["test_metric_high"]


def plural(count: int, noun: str) -> str:
    """Write 1 trial, 2 trials."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
