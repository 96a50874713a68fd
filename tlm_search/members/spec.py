"""The identity of a member: a digest of everything that decides its result, but not of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property
from itertools import cycle, islice
from typing import Any, NamedTuple

from tlm_search.digest import digest, without_defaults
from tlm_search.model.architecture import Architecture
from tlm_search.space.settings import HALF, Value, complete, own_settings
from tlm_search.training.settings import Finetuning, Pretraining

SCHEMA = 1  # increase it when a change of code trains another member with equal settings
LINEAR_SCHEMA = 1  # increase it when a change of code fits another linear model to equal data
# Keys of a member's document: the linear model of a hybrid, its share of the votes if not half, and the teachers.
_LINEAR, _SHARE, _TEACHING = "linear", "linear_share", "teaching"
# Defaults of settings that later versions added. Digests leave defaults out, so that older members keep theirs.
_LATER, _LATER_OF_FINETUNING = (
    {field.name: field.default for field in fields(settings) if field.default is not MISSING}
    for settings in (Pretraining, Finetuning)
)


@dataclass(frozen=True)
class PretrainSpec:
    """A pre-trained encoder for any task. ``corpus`` is the fingerprint of the first ``documents`` texts."""

    architecture: Architecture
    corpus: str
    documents: int
    settings: Pretraining
    seed: int

    def to_document(self) -> dict[str, Any]:
        """Return the spec as JSON."""
        settings = without_defaults(asdict(self.settings), _LATER)
        architecture = self.architecture.to_document()
        return {"schema": SCHEMA, **asdict(self), "architecture": architecture, "settings": settings}

    @cached_property
    def digest(self) -> str:
        """The name of the pre-trained weights in the store."""
        return digest(self.to_document())


@dataclass(frozen=True)
class Distillation:
    """The soft labels of a student: the mean probabilities of its ``teachers``, which are digests of members.

    The teachers label the training texts, the first ``documents`` texts of the corpus with the fingerprint ``corpus``,
    and the unlabelled texts with the fingerprint ``unlabelled``. An empty fingerprint means no such texts. ``weights``
    are the weights of the teachers' votes; empty means equal weights.
    """

    teachers: tuple[str, ...]
    documents: int = 0
    corpus: str = ""
    unlabelled: str = ""
    weights: tuple[float, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Return the distillation as JSON."""
        return without_defaults(asdict(self), {"unlabelled": "", "weights": ()})

    @cached_property
    def digest(self) -> str:
        """The name of the soft labels in the store. The digests of the teachers imply the task."""
        return digest({"schema": SCHEMA, **self.to_document()})


_PLAIN: Mapping[str, Any] = {"marked": False, "class_weights": "none", "teaching": None, "ordered": False}


@dataclass(frozen=True)
class LinearSpec:
    """A linear model on the words of a task; ``task`` and ``tokenizer`` are fingerprints.

    If entities are ``marked``, words count by their role too; if ``ordered``, the role also tells which entity comes
    first. ``class_weights`` are the same as in fine-tuning. With a ``teaching`` the model learns soft labels of a
    committee, not the labels of the task.
    """

    task: str
    tokenizer: str
    labels: int
    marked: bool = False
    class_weights: str = "none"
    teaching: Distillation | None = None
    ordered: bool = False

    def to_document(self) -> dict[str, Any]:
        """Return the spec as JSON."""
        teaching = None if self.teaching is None else self.teaching.to_document()
        return {"schema": LINEAR_SCHEMA, **without_defaults({**asdict(self), "teaching": teaching}, _PLAIN)}

    @cached_property
    def digest(self) -> str:
        """The name of the model in the store."""
        return digest(self.to_document())


@dataclass(frozen=True)
class MemberSpec:
    """A member: an architecture, a pre-training or none, a fine-tuning, and a seed.

    ``task`` is the fingerprint of the tokenised splits, ``labels`` the number of classes. With a ``teaching`` the
    member is a student: it is fine-tuned on soft labels of a committee. With ``linear`` it is a hybrid: the linear
    model has the weight ``linear_share`` in its answer. A user's ``trainer`` reads ``variant`` and ``own``, pairs of a
    name and a value.
    """

    architecture: Architecture
    pretrained: PretrainSpec | None
    task: str
    labels: int
    settings: Finetuning
    seed: int
    teaching: Distillation | None = None
    linear: LinearSpec | None = None
    linear_share: float = HALF
    trainer: str = ""
    variant: str = ""
    own: tuple[tuple[str, Value], ...] = ()

    @property
    def taught(self) -> Distillation | None:
        """The distillation of the member, or else of its linear model."""
        return self.teaching or (None if self.linear is None else self.linear.teaching)

    @property
    def plain(self) -> MemberSpec:
        """The member without the linear model, which is the part to train."""
        return self if self.linear is None else replace(self, linear=None, linear_share=HALF)

    def to_document(self) -> dict[str, Any]:
        """Return the spec as JSON."""
        document = {
            "schema": SCHEMA,
            "architecture": self.architecture.to_document(),
            "pretrained": None if self.pretrained is None else self.pretrained.to_document(),
            "task": self.task,
            "labels": self.labels,
            "settings": without_defaults(asdict(self.settings), _LATER_OF_FINETUNING),
            "seed": self.seed,
        }
        # Absent keys stay absent, so that other members keep their digests.
        if self.teaching is not None:
            document[_TEACHING] = self.teaching.to_document()
        if self.trainer:
            document |= {"trainer": self.trainer, "variant": self.variant}
            document |= {"own": dict(self.own)} if self.own else {}
        if self.linear is not None:
            document[_LINEAR] = self.linear.to_document()
            document |= without_defaults({_SHARE: self.linear_share}, {_SHARE: HALF})
        return document

    @cached_property
    def digest(self) -> str:
        """The name of the member in the store."""
        return digest(self.to_document())


class HybridDigests(NamedTuple):
    """The digests of the plain member and of the linear model of a hybrid."""

    plain: str
    linear: str


def hybrid_digests(document: Mapping[str, Any]) -> HybridDigests | None:
    """Return the digests of a hybrid's two parts from its ``document``, or None for other members."""
    if _LINEAR not in document:
        return None
    plain = {name: value for name, value in document.items() if name not in (_LINEAR, _SHARE)}
    return HybridDigests(digest(plain), digest(document[_LINEAR]))


def teaching_of(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the distillation of a member, or else of its linear model, from its ``document``."""
    teaching: Mapping[str, Any] | None = document.get(_TEACHING) or document.get(_LINEAR, {}).get(_TEACHING)
    return teaching


def share_of_linear(document: Mapping[str, Any]) -> float:
    """Return the share of the linear model in a hybrid's answer, from its ``document``."""
    return float(document.get(_SHARE, HALF))


def committee_specs(
    settings: Mapping[str, Value],
    *,
    vocabulary: int,
    positions: int,
    labels: int,
    corpus: str,
    task: str,
    seeds: Sequence[int],
    tokenizer: str = "",
    marked: bool = False,
    trainer: str = "",
) -> tuple[MemberSpec, ...]:
    """Return the members of the committee with complete ``settings``, one member per seed.

    ``corpus`` is the fingerprint of the first ``pretrain_size`` texts, ``task`` and ``tokenizer`` are the fingerprints
    of the splits and of the tokenizer. ``marked`` says whether texts mark entities. With ``pretrain_seeds`` P the
    members start in turn from the pre-trainings of the first P seeds.
    """
    architecture = Architecture.of(settings, vocabulary=vocabulary, positions=positions)
    documents, pretraining = int(settings["pretrain_size"]), pretraining_of(settings)
    finetuning = Finetuning(
        pooling=str(settings["pooling"]),
        epochs=int(settings["finetune_epochs"]),
        batch_size=int(settings["finetune_batch_size"]),
        learning_rate=float(settings["finetune_learning_rate"]),
        weight_decay=float(settings["finetune_weight_decay"]),
        warmup=float(settings["finetune_warmup"]),
        dropout=float(settings["finetune_dropout"]),
        class_weights=str(settings["class_weights"]),
    )
    ordered = marked and settings["linear_roles"] == "ordered"
    linear = LinearSpec(task, tokenizer, labels, marked, finetuning.class_weights, ordered=ordered)
    starts = islice(cycle(seeds[: int(settings["pretrain_seeds"]) or None]), len(seeds))
    return tuple(
        MemberSpec(
            architecture=architecture,
            pretrained=PretrainSpec(architecture, corpus, documents, pretraining, start) if pretraining else None,
            task=task,
            labels=labels,
            settings=finetuning,
            seed=seed,
            linear=linear if settings["linear_member"] else None,
            linear_share=float(settings["linear_share"]),
            trainer=trainer,
            variant=str(settings["variant"]) if trainer else "",
            own=tuple(own_settings(settings).items()) if trainer else (),
        )
        for seed, start in zip(seeds, starts, strict=True)
    )


def settings_of_teachers(settings: Mapping[str, Value]) -> dict[str, Value] | None:
    """Return the complete settings of the teachers of a committee with ``settings``; None without self-training.

    The teachers have the same configuration without self-training, so that a trial with it shares their members.
    """
    if not settings["self_training"]:
        return None
    return complete({**settings, "self_training": 0, "committee_size": settings["teachers"]})


def students(
    members: Sequence[MemberSpec], teachers: Sequence[MemberSpec], settings: Mapping[str, Value], *, unlabelled: str
) -> tuple[MemberSpec, ...]:
    """Return a student of the ``teachers`` for each of ``members``, with the same pre-training and seed.

    Students learn the mean probabilities of the teachers on the training texts and the unlabelled texts (with the
    fingerprint ``unlabelled``), with the settings of students. With ``student_linear: teachers`` their linear model
    learns the same. With ``student_epochs: 0`` only the linear model learns from teachers; members learn the labels.
    """
    teaching = Distillation(tuple(teacher.digest for teacher in teachers), unlabelled=unlabelled)

    def student(member: MemberSpec) -> MemberSpec:
        linear = member.linear
        if linear is not None and settings["student_linear"] == "teachers":
            linear = replace(linear, class_weights="none", teaching=teaching)
        if not settings["student_epochs"]:
            return replace(member, linear=linear)
        finetuning = replace(
            member.settings,
            epochs=int(settings["student_epochs"]),
            batch_size=int(settings["student_batch_size"]),
            learning_rate=float(settings["student_learning_rate"]),
            class_weights="none",
        )
        return replace(member, settings=finetuning, teaching=teaching, linear=linear)

    return tuple(map(student, members))


def pretraining_of(settings: Mapping[str, Value]) -> Pretraining | None:
    """Return the pre-training in complete ``settings``, or None without pre-training."""
    start = str(settings["initial_embeddings"])
    if not settings["pretrain_size"] or (not settings["pretrain_epochs"] and start == "random"):
        return None
    if not settings["pretrain_epochs"]:
        # Without updates the other settings have no effect, so they must not change the digest.
        return Pretraining(0, 1, 0.0, 0.0, 0.0, 0.0, 0.0, initial_embeddings=start)
    return Pretraining(
        epochs=int(settings["pretrain_epochs"]),
        batch_size=int(settings["pretrain_batch_size"]),
        learning_rate=float(settings["pretrain_learning_rate"]),
        weight_decay=float(settings["pretrain_weight_decay"]),
        warmup=float(settings["pretrain_warmup"]),
        dropout=float(settings["pretrain_dropout"]),
        masking_probability=float(settings["masking_probability"]),
        schedule=str(settings["pretrain_schedule"]),
        optimiser=str(settings["pretrain_optimiser"]),
        softmax=str(settings["pretrain_softmax"]),
        initial_embeddings=start,
    )
