"""Gather the members of a choice from the store, and sort them into stacks of one architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tlm_search.data.prepared import PreparedData
from tlm_search.digest import canonical_json
from tlm_search.errors import ExportError
from tlm_search.export.choose import Chosen
from tlm_search.export.committee import stacked
from tlm_search.export.fit import LINEAR, architecture_of
from tlm_search.export.folder import LINEAR_MODELS, STACKS
from tlm_search.members.linear import linear_weights
from tlm_search.members.spec import hybrid_digests, share_of_linear
from tlm_search.members.trainer import KIND
from tlm_search.members.trainer import LINEAR as LINEAR_KIND
from tlm_search.model.linear import with_share
from tlm_search.store.local import Entry, Store


def entry_of(store: Store, kind: str, digest: str, chosen: Chosen) -> Entry:
    """Return a member, or a linear model, of the choice.

    Raises:
        ExportError: the store does not have it, or it is damaged.
    """
    entry = store.read(kind, digest)
    if entry is None:
        raise _missing(store, kind, digest, chosen)
    return entry


def weights_of(store: Store, entry: Entry, chosen: Chosen) -> dict[str, np.ndarray]:
    """Return the weights of a member. A hybrid has those of its plain member.

    Raises:
        ExportError: the store does not have them.
    """
    digests = hybrid_digests(entry.document["spec"])
    plain = entry if digests is None else entry_of(store, KIND, digests.plain, chosen)
    if "model.safetensors" not in plain.files:
        raise _missing(store, KIND, plain.digest, chosen)
    return plain.arrays("model")


@dataclass(frozen=True)
class Layout:
    """How members vote: ``stacks`` of members by their places, their relative ``weights``, and the linear models.

    ``linear`` maps the digest of each linear model to its share of the votes. The members divide the rest.
    """

    stacks: Sequence[Sequence[int]]
    weights: Sequence[float]
    linear: Mapping[str, float]

    @property
    def is_plain(self) -> bool:
        """Whether the members have one architecture and equal votes."""
        return len(self.stacks) == 1 and len(self.linear) <= 1 and np.allclose(self.weights, self.weights[0], rtol=1e-9)


def _read(spec: Mapping[str, Any]) -> tuple[str, int]:
    """Return what identifies the tokens that a member reads: the fingerprint of the task, and the length of texts."""
    return spec["task"], spec["architecture"]["positions"]


def data_of(data: PreparedData, spec: Mapping[str, Any]) -> PreparedData:
    """Return the data of the study with the tokens that a member reads."""
    return next((each for each in data.all() if (each.task_fingerprint, each.length) == _read(spec)), data)


def layout_of(specs: Sequence[Mapping[str, Any]], weights: Sequence[float] | None) -> Layout:
    """Sort the members with these ``specs`` into stacks of one architecture and pooling.

    Raises:
        ExportError: the members read different tokens.
    """
    if len(set(map(_read, specs))) > 1:
        raise ExportError(
            "the members of this committee do not read the same tokens: they differ in the tokenizer or in the length "
            "that texts are cut to, and an export has only one of each",
            hint="name members that share both with study.export(members=...), or export the committee of a trial",
        )
    votes = [1.0] * len(specs) if weights is None else weights
    stacks: dict[str, list[int]] = {}
    linear: dict[str, float] = {}
    own = []
    for place, (spec, vote) in enumerate(zip(specs, votes, strict=True)):
        stacks.setdefault(canonical_json([spec["architecture"], spec["settings"]["pooling"]]), []).append(place)
        digests = hybrid_digests(spec)
        share = 0.0 if digests is None else share_of_linear(spec)
        if digests is not None:
            linear[digests.linear] = linear.get(digests.linear, 0.0) + vote * share / sum(votes)
        own.append(vote * (1 - share))
    return Layout(list(stacks.values()), own, linear)


def stacks_of(
    layout: Layout, entries: Sequence[Entry], states: Sequence[Mapping[str, np.ndarray]], linear: Mapping[str, Entry]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the entries of the configuration on the members, and all tensors by name."""
    stacks: list[dict[str, Any]] = []
    tensors: dict[str, torch.Tensor] = {}
    for index, places in enumerate(layout.stacks):
        spec = entries[places[0]].document["spec"]
        stack = {
            "architecture": spec["architecture"],
            "pooling": spec["settings"]["pooling"],
            "members": [entries[place].digest for place in places],
        }
        if not layout.is_plain:
            stack["member_weights"] = [layout.weights[place] for place in places]
        stacks.append(stack)
        prefix = "" if layout.is_plain else f"{STACKS}.{index}."
        own = [{name: torch.from_numpy(value) for name, value in states[place].items()} for place in places]
        weights = stacked(own, architecture_of(spec["architecture"]))
        tensors |= {f"{prefix}{name}": value for name, value in weights.items()}
    shapes = []
    for index, (digest, share) in enumerate(layout.linear.items()):
        prefix = LINEAR if layout.is_plain else f"{LINEAR_MODELS}.{index}."
        parts = with_share(linear_weights(linear[digest]), share)
        tensors |= {f"{prefix}{name}": value for name, value in parts.items()}
        shapes.append({name: list(value.shape) for name, value in parts.items()})
    if layout.is_plain:
        return {**stacks[0], **({"linear": shapes[0]} if shapes else {})}, tensors
    return {STACKS: stacks, **({LINEAR_MODELS: shapes} if shapes else {})}, tensors


def _missing(store: Store, kind: str, digest: str, chosen: Chosen) -> ExportError:
    what = "the linear model" if kind == LINEAR_KIND else "member"
    return ExportError(
        f"{what} {digest} of {chosen.name} is missing or damaged in the store {store.root}",
        hint="tlm-search distil with the same --trial and --size trains it again"
        if chosen.student is not None
        else "choose another trial with --trial, or fewer members with --size"
        if chosen.mixed is None
        else "choose other members, or the committee of a trial with --trial",
    )
