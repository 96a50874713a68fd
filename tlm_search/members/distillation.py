"""Soft labels for students: the mean of the softmax outputs of a committee's members.

Source: Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network" (arXiv 1503.02531), with
temperature 1 and without the true labels. With unlabelled texts this is self-training with soft labels and no
threshold.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tlm_search.data.markers import Markers
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.errors import StoreError
from tlm_search.members.linear import answers, linear_weights
from tlm_search.members.spec import Distillation, MemberSpec, hybrid_digests, share_of_linear
from tlm_search.members.trainer import KIND, LINEAR
from tlm_search.model.architecture import Architecture
from tlm_search.model.hf import from_transformers
from tlm_search.model.weights import Weights
from tlm_search.store.local import Entry, Store
from tlm_search.training.finetune import predict

SOFT_LABELS = "soft_labels"  # kind of store entry with the answers of teachers


@dataclass(frozen=True)
class Targets:
    """The texts and ``labels`` that a member is fine-tuned on, in the form of ``finetune``.

    ``seconds`` and ``flops`` are the cost of soft labels; 0 for the labels of the task.
    """

    texts: TokenArray
    labels: NDArray[np.int64] | NDArray[np.float32]
    seconds: float = 0.0
    flops: float = 0.0


def soft_labels(spec: MemberSpec, *, store: Store, data: PreparedData, device: str) -> Targets:
    """Return the soft labels of the texts that ``spec`` learns. Teachers may have any architecture.

    The soft labels are computed once. The store holds them for all students of these teachers.

    Raises:
        StoreError: a teacher or the texts are not in the store, or the store cannot be written.
    """
    teaching = spec.taught
    assert teaching is not None
    texts, name = texts_of(teaching, data), teaching.digest
    entry = store.read(SOFT_LABELS, name)
    if entry is None:
        with store.lock(SOFT_LABELS, name):
            entry = store.read(SOFT_LABELS, name) or _ask(spec, teaching, texts, store, data, device)
    course = entry.document["course"]
    return Targets(texts, entry.arrays("labels")["probabilities"], course["seconds"], course["flops"])


def texts_of(teaching: Distillation, data: PreparedData) -> TokenArray:
    """Return the texts that the teachers label: train, then the corpus, then the unlabelled texts."""
    texts = TokenArray.open(data.folder("train"))
    if teaching.documents:
        texts = texts.followed_by(TokenArray.open(data.folder("corpus")).prefix(teaching.documents))
    if teaching.unlabelled:
        texts = texts.followed_by(TokenArray.open(data.folder("unlabelled")))
    return texts


def member_weights(entry: Entry, architecture: Architecture) -> Weights:
    """Return the stored weights of a member, without the member dimension."""
    state = {name: torch.from_numpy(value) for name, value in entry.arrays("model").items()}
    return from_transformers(state, architecture)


def _ask(
    spec: MemberSpec, teaching: Distillation, texts: TokenArray, store: Store, data: PreparedData, device: str
) -> Entry:
    began = time.perf_counter()
    votes = np.zeros((len(texts), spec.labels), np.float64)
    linear: dict[str, NDArray[np.float64]] = {}  # answers of the linear models of hybrids, by digest
    teachers, flops = len(teaching.teachers), 0.0
    tokens = int(texts.offsets[-1]) / len(texts)
    counted = teaching.weights or (1.0,) * teachers
    for digest, count in zip(teaching.teachers, counted, strict=True):
        document = _entry(store, KIND, digest).document["spec"]
        digests, share = hybrid_digests(document), share_of_linear(document)
        architecture = Architecture.from_document(document["architecture"])
        # One member at a time, so that a committee of any size takes the memory of one member.
        weights = _weights(store, digest if digests is None else digests.plain, architecture)
        weights = {name: value.to(device) for name, value in weights.items()}
        logits = predict(
            architecture,
            weights,
            texts,
            pooling=document["settings"]["pooling"],
            pad=data.special["pad"],
            markers=Markers.of(data.special),
        )
        vote = torch.from_numpy(logits[0]).double().softmax(-1).numpy()
        if digests is not None:
            if digests.linear not in linear:
                model = linear_weights(_entry(store, LINEAR, digests.linear))
                linear[digests.linear] = np.exp(answers(model, texts, pad=data.special["pad"]), dtype=np.float64)
            vote = (1 - share) * vote + share * linear[digests.linear]
        votes += count * vote
        flops += len(texts) * architecture.forward_flops(tokens)
    course = {"seconds": time.perf_counter() - began, "flops": flops}
    document = {"teaching": teaching.to_document(), "texts": len(texts), "labels": spec.labels, "course": course}
    return store.write(
        SOFT_LABELS,
        teaching.digest,
        document,
        {"labels": {"probabilities": (votes / sum(counted)).astype(np.float32)}},
    )


def _weights(store: Store, digest: str, architecture: Architecture) -> Weights:
    weights = member_weights(_entry(store, KIND, digest), architecture)
    return {name: value.unsqueeze(0) for name, value in weights.items()}


def _entry(store: Store, kind: str, digest: str) -> Entry:
    entry = store.read(kind, digest)
    if entry is None:
        part = "the linear model" if kind == LINEAR else "member"
        raise StoreError(
            f"{part} {digest} of the committee is missing or damaged in the store {store.root}",
            hint="choose another trial with --trial, or fewer members with --size; or run the space with --fresh: it "
            "trains the missing members",
        )
    return entry
