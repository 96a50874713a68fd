"""Every setting of a member and its committee: type, default, limits and meaning.

The section ``search`` of a space fixes or searches settings by these names. They are also the keys of trial parameters
and the columns of tables. Derived settings (the width, the size of a head) are computed only here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Value = bool | int | float | str
Part = Literal["tokens", "architecture", "pretraining", "finetuning", "committee"]


@dataclass(frozen=True)
class Setting:
    """A setting. ``kind`` is bool, int, float or str; numbers have limits ``low`` and ``high``, texts ``choices``.

    Without a ``kind``, a number, text of one line, and a boolean are all allowed (``setting_named``).
    """

    name: str
    part: Part
    kind: type[bool] | type[int] | type[float] | type[str] | None
    default: Value | None
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None

    def allowed(self) -> str:
        """Say in words which values the setting takes."""
        if self.kind is None:
            return "a number, text of one line, or true or false"
        if self.kind is bool:
            return "true or false"
        if self.name == CLASS_WEIGHTS:
            return "none, balanced, or a number above 0 for each label, such as {spam: 5, ham: 1}"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.pattern:
            return f"text like {self.default}"
        noun = "a whole number" if self.kind is int else "a number"
        return noun if self.low == -math.inf else f"{noun} from {self.low:g} to {self.high:g}"


CLASS_WEIGHTS = "class_weights"
LINE = r"\S[^\n]{0,199}"
HALF = 0.5  # default share of the votes for a linear model
_ALL = (
    Setting("depth", "architecture", int, 1, "transformer layers", 1, 96),
    Setting("width", "architecture", int, None, "hidden size; heads x head_size when not given", 4, 16_384),
    Setting("heads", "architecture", int, None, "attention heads; width / head_size when not given", 1, 256),
    Setting("head_size", "architecture", int, 16, "size of a head; width / heads when both are given", 1, 1_024),
    Setting("feed_forward", "architecture", float, 4.0, "feed-forward size as a multiple of the width", 0.25, 16),
    Setting(
        "normalisation",
        "architecture",
        str,
        "post",
        "layer norms after attention and feed-forward, as in BERT, or before them",
        choices=("post", "pre"),
    ),
    Setting(
        "layer_weights",
        "architecture",
        str,
        "own",
        "shared: one set of weights for all layers, as in ALBERT",
        choices=("own", "shared"),
    ),
    Setting("convolution_layers", "architecture", int, 0, "convolutions before the transformer; 0: BERT", 0, 16),
    Setting(
        "convolution_kernel",
        "architecture",
        str,
        "3x3",
        "kernel, tokens x width",
        pattern=r"[1-9][0-9]?x[1-9][0-9]?",
    ),
    Setting("convolution_channels", "architecture", int, 16, "channels of the convolutions", 1, 1_024),
    Setting(
        "tokenizer_kind",
        "tokens",
        str,
        None,
        "tokens: word pieces from a vocabulary trained on the corpus, or bytes",
        choices=("wordpiece", "bytes"),
    ),
    Setting("vocabulary", "tokens", int, None, "tokens of a trained vocabulary", 32, 1_000_000),
    Setting("length", "tokens", int, None, "tokens that a text is cut to", 8, 512),
    Setting("pretrain_size", "pretraining", int, 0, "documents of pre-training; 0: no pre-training", 0, 1_000_000_000),
    Setting("pretrain_epochs", "pretraining", int, 4, "passes over these documents; 0: none", 0, 10_000),
    Setting(
        "initial_embeddings",
        "pretraining",
        str,
        "random",
        "cooccurrence: word vectors from counts over these documents",
        choices=("random", "cooccurrence"),
    ),
    Setting("pretrain_batch_size", "pretraining", int, 16, "documents per update", 1, 65_536),
    Setting("pretrain_learning_rate", "pretraining", float, 2e-3, "peak learning rate", 1e-7, 1),
    Setting("pretrain_weight_decay", "pretraining", float, 0.01, "AdamW's weight decay", 0, 10),
    Setting("pretrain_warmup", "pretraining", float, 0.06, "share of updates in which the rate rises", 0, 1),
    Setting(
        "pretrain_schedule",
        "pretraining",
        str,
        "linear",
        "learning rate after its rise: it falls to 0, or stays constant",
        choices=("linear", "cosine", "constant_with_warmup"),
    ),
    Setting(
        "pretrain_optimiser",
        "pretraining",
        str,
        "adamw",
        "muon: Muon for the layers' matrices, AdamW for the rest",
        choices=("adamw", "muon"),
    ),
    Setting(
        "pretrain_softmax",
        "pretraining",
        str,
        "full",
        "sampled: masked words compete only with the other masked words of their batch, which is cheaper",
        choices=("full", "sampled"),
    ),
    Setting("pretrain_dropout", "pretraining", float, 0.0, "dropout of embeddings, attention and layers", 0, 0.9),
    Setting("masking_probability", "pretraining", float, 0.15, "share of tokens to predict", 0.01, 0.9),
    Setting(
        "pooling",
        "finetuning",
        str,
        "cls",
        "what the classifier reads: the first token, the mean of all, or means of marked entities and their context",
        choices=("cls", "mean", "spans"),
    ),
    Setting("finetune_epochs", "finetuning", int, 10, "passes over the training split", 1, 10_000),
    Setting("finetune_batch_size", "finetuning", int, 16, "texts per update", 1, 65_536),
    Setting("finetune_learning_rate", "finetuning", float, 1e-3, "peak learning rate", 1e-7, 1),
    Setting("finetune_weight_decay", "finetuning", float, 0.01, "AdamW's weight decay", 0, 10),
    Setting("finetune_warmup", "finetuning", float, 0.06, "share of updates in which the rate rises", 0, 1),
    Setting("finetune_dropout", "finetuning", float, 0.1, "dropout of all layers and the pooler", 0, 0.9),
    Setting(
        CLASS_WEIGHTS,
        "finetuning",
        str,
        "none",
        "balanced: texts of rare labels in train count more in the loss, so that all labels have the same weight. A "
        "mapping gives the weight of a text of each label",
        choices=("none", "balanced"),
    ),
    Setting(
        "variant",
        "finetuning",
        str,
        "default",
        "for a trainer of your own: a text that it reads, such as nb or c=10",
        pattern=LINE,
    ),
    Setting(
        "student_epochs",
        "finetuning",
        int,
        3,
        "passes of a student over all its texts; 0: the teachers vote, and only the linear model learns from them",
        0,
        10_000,
    ),
    Setting("student_batch_size", "finetuning", int, 32, "texts per update of a student", 1, 65_536),
    Setting("student_learning_rate", "finetuning", float, 1e-3, "peak learning rate of a student", 1e-7, 1),
    Setting("committee_size", "committee", int, 1, "members that vote", 1, 1_000),
    Setting(
        "pretrain_seeds",
        "committee",
        int,
        0,
        "pre-trainings that the members share in turn, which costs less; 0: each member has its own",
        0,
        1_000,
    ),
    Setting("self_training", "committee", int, 0, "rounds of self-training on the task's unlabelled texts", 0, 1),
    Setting("teachers", "committee", int, 4, "members that label the texts of self-training", 1, 64),
    Setting(
        "student_linear",
        "committee",
        str,
        "labels",
        "targets of the linear model that votes with students: the labels, or the answers of their teachers",
        choices=("labels", "teachers"),
    ),
    Setting("linear_member", "committee", bool, False, "true: a linear model on words votes too"),
    Setting("linear_share", "committee", float, HALF, "share of the votes for the linear model", 0.01, 0.99),
    Setting(
        "linear_roles",
        "committee",
        str,
        "spans",
        "roles of words around marked entities in the linear model: their span, or also which entity comes first",
        choices=("spans", "ordered"),
    ),
)

SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _ALL}
# Settings that matter only if another setting, which the space must give, has a given value.
ONLY_WITH: Mapping[str, tuple[str, Value]] = {
    **dict.fromkeys(
        ("student_epochs", "student_batch_size", "student_learning_rate", "student_linear", "teachers"),
        ("self_training", 1),
    ),
    "linear_share": ("linear_member", True),
    "linear_roles": ("linear_member", True),
}
# The same, but a space may leave the other setting out.
ONLY_UNLESS_OTHER: Mapping[str, tuple[str, Value]] = {"vocabulary": ("tokenizer_kind", "wordpiece")}
OWN = "own_"  # prefix of settings for a user's trainer; no setting of this package has it
OWN_PATTERN = OWN + r"[A-Za-z]\w{0,99}"
TOKENS = tuple(setting.name for setting in _ALL if setting.part == "tokens")
ROLES = ("scientific", "nuisance", "fixed")


def setting_named(name: str) -> Setting | None:
    """Return the setting of this package, or of a user's trainer if the name is ``own_NAME``; None if unknown."""
    if re.fullmatch(OWN_PATTERN, str(name), re.ASCII):
        return Setting(name, "finetuning", None, None, f"{name.removeprefix(OWN)} of a trainer of your own")
    return SETTINGS.get(name)


def own_settings(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the ``settings`` of a user's trainer without their prefix, sorted by name.

    Whole numbers are ints, as in a space and in a digest.
    """
    own = {name.removeprefix(OWN): settings[name] for name in sorted(settings) if name.startswith(OWN)}
    return {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in own.items()}


def weights_text(given: Mapping[Any, Any]) -> str:
    """Return class weights by label as JSON, sorted by label.

    Raises:
        ValueError: a label is not a text, or a weight is not a number above 0.
    """
    weights = {}
    for label, weight in given.items():
        if type(label) not in (str, int):  # YAML reads 1 as a number, and yes as true
            raise ValueError(f"given the label {label!r}, which YAML does not read as text; allowed: quote it")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ValueError(f"given {weight!r} for the label {str(label)!r}; allowed: a number above 0")
        weights[str(label)] = float(weight)
    return json.dumps(dict(sorted(weights.items())), ensure_ascii=False)


def weights_of_labels(class_weights: Value, labels: Sequence[str]) -> str:
    """Return ``class_weights`` with a list instead of a mapping, in the order of the task's ``labels``.

    Raises:
        ValueError: the mapping lacks a label of the task, or has a label that the task lacks.
    """
    text = str(class_weights)
    if not text.startswith("{"):
        return text
    weights = json.loads(text)
    absent = [label for label in labels if label not in weights]
    foreign = [label for label in weights if label not in labels]
    if absent or foreign:
        problems = [f"no weight for {', '.join(map(repr, absent))}"] if absent else []
        problems += [f"the task has no label {', '.join(map(repr, foreign))}"] if foreign else []
        raise ValueError("; ".join(problems))
    return json.dumps([weights[label] for label in labels])


def complete(given: Mapping[str, Value]) -> dict[str, Value]:
    """Return all settings: the ``given`` settings, defaults, and derived settings.

    Settings of ``TOKENS`` are included only if they are given; the section ``tokenizer`` has the others. Without
    self-training, settings that only self-training uses get their defaults, so that they cannot change a digest.
    ``width = heads x head_size``: any two determine the third, and ``width`` alone implies the default ``head_size``.
    Settings of a user's trainer have no defaults.

    Raises:
        ValueError: width, heads and head size contradict each other, or the width cannot be divided.
    """
    defaults = {name: setting.default for name, setting in SETTINGS.items() if setting.default is not None}
    full = {**defaults, **given}
    full.update({name: defaults[name] for name, (other, value) in ONLY_WITH.items() if full[other] != value})
    for name, (other, value) in ONLY_UNLESS_OTHER.items():
        if full.get(other, value) != value:
            full.pop(name, None)
    width, heads, head_size = given.get("width"), given.get("heads"), given.get("head_size")
    default_size = SETTINGS["head_size"].default
    assert isinstance(default_size, int)
    if width is None:
        heads = 4 if heads is None else heads
        head_size = default_size if head_size is None else head_size
        width = int(heads) * int(head_size)
    elif heads is not None and head_size is not None:
        if int(heads) * int(head_size) != int(width):
            raise ValueError(f"width {width} is not heads {heads} x head_size {head_size}; give two of the three")
    elif heads is not None:
        if int(width) % int(heads):
            raise ValueError(f"width {width} is not divided by heads {heads}")
        head_size = int(width) // int(heads)
    else:
        head_size = default_size if head_size is None else head_size
        if int(width) % int(head_size):
            raise ValueError(f"width {width} is not divided by head_size {head_size}")
        heads = int(width) // int(head_size)
    assert head_size is not None
    full.update(width=int(width), heads=int(heads), head_size=int(head_size))
    own = [name for name in given if name.startswith(OWN)]
    return {name: full[name] for name in (*SETTINGS, *own) if name in full}


def tokens_of(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return the complete ``settings`` that decide the tokens. The section ``tokenizer`` has the others."""
    return {name: settings[name] for name in TOKENS if name in settings}
