"""An exported committee: it answers texts with the mean of its members' softmax outputs, with torch alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from tlm_search.committee.calibration import UNCALIBRATED, Calibration
from tlm_search.data.markers import Markers
from tlm_search.data.pairs import Line, Pair, TextOrPair
from tlm_search.data.sources.columns import valid_unicode
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import encode, encode_lines, encode_pairs, open_tokenizer, vocabulary_size
from tlm_search.errors import ExportError
from tlm_search.export.fit import form_of, require_fit
from tlm_search.export.folder import CHECK, CONFIG, LABELS, MODEL, STACKS, as_damage, read_json, verified
from tlm_search.model import inference
from tlm_search.model.architecture import Architecture
from tlm_search.model.batching import batches, rows
from tlm_search.model.hf import from_transformers
from tlm_search.model.inference import calibrated, lookup_bytes, member_logits, split, with_lookup
from tlm_search.model.linear import LinearWeights, linear_logits, require_values, share_of
from tlm_search.model.weights import Weights
from tlm_search.space.task import ContextSection

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STACKED_TOKENS = 512  # up to this many tokens all members in one pass are faster than one by one
TOLERANCE = 1e-3  # of probabilities on another machine; on one machine the answers agree to 1e-6


@dataclass(frozen=True)
class Answers:
    """``probabilities`` (texts, labels) float32; ``disagreement`` (texts,) float32.

    The disagreement is the share of members that alone, with the bias of the committee, name another label than it.
    """

    probabilities: NDArray[np.float32]
    disagreement: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Stack:
    """Members of one architecture and pooling, with their stacked ``weights``."""

    weights: Weights
    architecture: Architecture
    pooling: str

    @property
    def size(self) -> int:
        """The number of members."""
        return int(self.weights["classifier.bias"].shape[0])


@dataclass(frozen=True, eq=False)
class Committee:
    """K members that vote, in ``stacks`` of one architecture each.

    ``member_weights`` are relative weights of the members, stack by stack; None means that they are equal. Each
    ``linear`` model has a share of the votes. Texts are cut to ``length`` tokens. ``expected`` is the content of
    ``check.json``. ``markers`` are the ids of the markers if texts have marked entities. ``columns`` names the columns
    ``text`` (two for pairs) and ``label`` of the study's task; it is empty if the task had none, and in exports of
    older versions. If the committee reads ``pairs``, each text is a `Pair`, or two texts in a tuple or list. If it has
    a ``context``, the first of the two is the lines before the second, the oldest first. ``calibration`` is the last
    step of an answer; exports of older versions have none.
    """

    stacks: tuple[Stack, ...]
    labels: tuple[str, ...]
    length: int
    pad: int
    tokenizer: Tokenizer
    expected: Mapping[str, Any]
    markers: Markers | None = None
    linear: tuple[LinearWeights, ...] = ()
    member_weights: tuple[float, ...] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    pairs: bool = False
    context: ContextSection | None = None
    calibration: Calibration = UNCALIBRATED

    @classmethod
    def load(cls, folder: Path | str) -> Committee:
        """Load a folder that ``tlm-search export`` wrote. Every file is checked, and no code in the folder is run.

        Raises:
            ExportError: the folder is not an export, or was changed after it was written.
        """
        folder = Path(folder)
        config = verified(folder)
        with as_damage(folder, "the tokenizer cannot be read"):
            tokenizer = open_tokenizer(folder)
        labels, expected = read_json(folder, LABELS), read_json(folder, CHECK)
        with as_damage(folder, f"{CONFIG} and {MODEL} do not fit"):
            committee = cls.of(config, load_file(folder / MODEL), tokenizer, labels=labels, expected=expected)
        with as_damage(folder, "the tokenizer does not fit the members"):
            committee.try_tokenizer()
        return committee

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        weights: Weights,
        tokenizer: Tokenizer,
        *,
        labels: Sequence[str],
        expected: Mapping[str, Any],
    ) -> Committee:
        """Build a committee from the contents of its files.

        Raises:
            KeyError, TypeError, ValueError: the files do not match each other.
        """
        if not isinstance(labels, list | tuple):
            raise TypeError(f"{LABELS} is not a list")
        require_fit(config, {name: tuple(value.shape) for name, value in weights.items()}, labels=len(labels))
        form = form_of(config)
        of_stacks, linear = form.of_stacks(weights), tuple(form.of_linear(weights))
        if not all(value.is_floating_point() for stack in of_stacks for value in stack.values()):
            raise TypeError("weights are not floating-point numbers")
        require_values(linear)
        markers = markers_of(config)
        stacks = zip(of_stacks, form.stacks, strict=True)
        return cls(
            stacks=tuple(Stack(own, stack.architecture, stack.pooling) for own, stack in stacks),
            labels=tuple(map(str, labels)),
            length=int(config["length"]),
            pad=int(config["pad_token_id"]),
            tokenizer=tokenizer,
            expected=expected,
            markers=markers,
            linear=linear,
            member_weights=form.member_weights,
            columns=dict(config.get("columns") or {}),
            pairs=bool(config.get("pairs")),
            context=ContextSection.model_validate(config["context"]) if config.get("context") else None,
            calibration=calibration_of(config, labels=len(labels)),
        )

    @property
    def size(self) -> int:
        """The number of members."""
        return sum(stack.size for stack in self.stacks)

    @property
    def vocabulary(self) -> int:
        """The number of token ids that the members know."""
        return self.stacks[0].architecture.vocabulary

    def probabilities(self, texts: Sequence[TextOrPair]) -> NDArray[np.float32]:
        """Return the probabilities ``(texts, labels)``. Long texts are cut, and empty ones are answered too."""
        return self.answers(texts).probabilities

    def answers(self, texts: Sequence[TextOrPair], *, threads: int = 1) -> Answers:
        """Return probabilities and disagreement in the order of ``texts``; each of the ``threads`` takes whole batches.

        Raises:
            TypeError: ``texts`` is a single text, or an item is not a text (a pair, if the committee reads pairs).
        """
        return self.answers_to_tokens(self.tokens(texts), threads=threads)

    def tokens(self, texts: Sequence[TextOrPair]) -> TokenArray:
        """Tokenise ``texts``, and cut each to ``length`` tokens. Raises the errors of ``answers``."""
        firsts = None
        if self.pairs:
            if isinstance(texts, str) or not all(map(_is_pair, texts)):
                raise TypeError("this committee reads pairs: texts must be a sequence of (text, text_pair), two str")
            both = [tuple(map(valid_unicode, text)) for text in texts]
            if self.context is None:
                rows_of_ids = list(encode_pairs(self.tokenizer, [Pair(*text) for text in both], length=self.length))
            else:
                rows_of_ids = list(encode_lines(self.tokenizer, [Line(*text) for text in both], length=self.length))
            sequences = [ids for ids, _ in rows_of_ids]
            firsts = np.array([first for _, first in rows_of_ids], np.int64)
        else:
            if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                raise TypeError("texts must be a sequence of str")
            single = [valid_unicode(text) for text in texts if isinstance(text, str)]
            sequences = list(encode(self.tokenizer, single, length=self.length))
        offsets = np.cumsum([0, *map(len, sequences)], dtype=np.int64)
        ids = np.fromiter((token for sequence in sequences for token in sequence), np.int32, count=int(offsets[-1]))
        return TokenArray(ids, offsets, firsts)

    def answers_to_tokens(self, texts: TokenArray, *, threads: int = 1) -> Answers:
        """Return the answers to tokenised texts."""
        probabilities = np.empty((len(texts), len(self.labels)), np.float32)
        disagreement = np.empty(len(texts), np.float32)
        singles = self._looking_up if self._is_lookup_worth(len(texts.ids)) else self._singles

        @torch.inference_mode()
        def answer(chosen: NDArray[np.int64]) -> None:
            ids, seen, types = rows(texts, chosen, pad=self.pad).tensors()
            mask = None if seen.all() else seen
            # Double precision as in the study: in float32 two members that are sure of different labels would tie.
            votes = self._logits(ids, mask, types, singles).double().softmax(-1)
            together = self._together(votes, ids, mask, types)
            own = votes.log() + votes.new_tensor(bias) if (bias := self.calibration.bias) else votes
            probabilities[chosen] = _rounded(together).numpy()
            disagreement[chosen] = (own.argmax(-1) != together.argmax(-1)).float().mean(0).numpy()

        if threads == 1:
            for chosen in batches(texts.lengths()):
                answer(chosen)
        else:
            # Whole batches in parallel, because threads inside an operation wait for each other on a busy machine.
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers:
                list(workers.map(answer, batches(texts.lengths())))
        return Answers(probabilities, disagreement)

    def member_votes(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return the members' softmax outputs ``(K, texts, labels)``; ``ids`` and ``mask`` are as in ``member_logits``.

        Few tokens go through the stacked members at once. With more tokens the members take turns, because a single
        member uses the plain kernels, which suit large batches on a CPU.
        """
        return self._logits(ids, mask, None, self._singles).softmax(-1)

    def vote(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return the committee's probabilities ``(texts, labels)``; the arguments are those of ``member_votes``."""
        return self._together(self.member_votes(ids, mask), ids, mask, None)

    def _together(
        self, votes: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor | None, types: torch.Tensor | None
    ) -> torch.Tensor:
        if self.member_weights is None:
            vote = votes.mean(0)
        else:
            weights = votes.new_tensor(self.member_weights)
            vote = torch.tensordot(weights / weights.sum(), votes, 1)
        if self.linear:
            shares = [share_of(model).to(vote) for model in self.linear]
            vote = vote * (1 - torch.stack(shares).sum())
            for model, share in zip(self.linear, shares, strict=True):
                vote = vote + share * linear_logits(model, ids, mask, types).to(vote.dtype).exp()
        if self.calibration == UNCALIBRATED:
            return vote
        return calibrated(vote.log(), self.calibration.temperature, self.calibration.bias).exp()

    def _logits(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None,
        types: torch.Tensor | None,
        singles: Sequence[Stack],
    ) -> torch.Tensor:
        stacks = self.stacks if ids.numel() <= STACKED_TOKENS else singles
        options: dict[str, Any] = {"pad": self.pad, "markers": self.markers, "types": types}
        return torch.cat(
            [
                member_logits(stack.weights, stack.architecture, ids, mask, pooling=stack.pooling, **options)
                for stack in stacks
            ]
        )

    def check(self) -> float:
        """Answer the inputs of ``check.json`` and return the largest difference from the expected answers.

        Raises:
            ExportError: the difference is larger than rounding on another machine can cause.
        """
        try:
            expected = np.asarray(self.expected["probabilities"], np.float32)
            difference = float(np.abs(self.probabilities(self.expected["texts"]) - expected).max())
        except Exception as error:  # the file may come from somebody else
            raise ExportError(f"{CHECK} does not fit the committee: {error}", hint="export it again") from error
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the committee does not answer as it did when it was exported: probabilities differ by {difference:g}",
                hint="compare the versions of torch and tokenizers with those in README.md",
            )
        return difference

    def try_tokenizer(self) -> None:
        """Tokenise words of all kinds.

        Raises ValueError, or the tokenizer's error, if the members cannot read the result.
        """
        words = ["", "a", "\U0010fffd", "a \u2603 " * self.length]
        lengths = self.tokens([Pair(word, word) for word in words] if self.pairs else words).lengths()
        if lengths.min() < 1 or lengths.max() > self.length:
            raise ValueError(f"it turns a text into {lengths.min()} to {lengths.max()} tokens, not 1 to {self.length}")
        if vocabulary_size(self.tokenizer) > self.vocabulary:
            raise ValueError(f"it has more ids than the {self.vocabulary} that the members know")

    @cached_property
    def _singles(self) -> list[Stack]:
        with torch.inference_mode():
            return [
                replace(stack, weights=weights)
                for stack in self.stacks
                for weights in split(stack.weights, stack.architecture)
            ]

    @cached_property
    def _looking_up(self) -> list[Stack]:
        with torch.inference_mode():
            return [
                replace(single, weights=with_lookup(single.weights)) if _looks_up(single) else single
                for single in self._singles
            ]

    def _is_lookup_worth(self, tokens: int) -> bool:
        """Return whether tables of the first layers save time: they do for more tokens than the tables have rows."""
        size = sum(stack.size * lookup_bytes(stack.architecture, pooling=stack.pooling) for stack in self.stacks)
        return tokens > self.vocabulary and 0 < size <= inference.LOOKUP_BYTES


def _rounded(probabilities: torch.Tensor) -> torch.Tensor:
    """Round to float32, but keep the most probable label: if it would tie with an earlier one, round it up."""
    rounded, best = probabilities.float(), probabilities.argmax(-1, keepdim=True)
    highest = rounded.gather(-1, best)
    above = torch.nextafter(highest, torch.full_like(highest, torch.inf))
    return rounded.scatter(-1, best, torch.where(rounded.argmax(-1, keepdim=True) == best, highest, above))


def _looks_up(stack: Stack) -> bool:
    return lookup_bytes(stack.architecture, pooling=stack.pooling) > 0


def _is_pair(text: object) -> bool:
    return isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(part, str) for part in text)


def calibration_of(config: Mapping[str, Any], *, labels: int) -> Calibration:
    """Return the calibration in a configuration, or one that changes nothing.

    Raises:
        KeyError, TypeError, ValueError: it is not a calibration for this number of labels.
    """
    given = config.get("calibration")
    if given is None:
        return UNCALIBRATED
    temperature, bias = float(given["temperature"]), tuple(map(float, given["bias"]))
    if not (0 < temperature < math.inf and all(map(math.isfinite, bias)) and len(bias) in (0, labels)):
        raise ValueError(f"temperature {temperature:g} or a bias of {len(bias)} numbers does not fit {labels} labels")
    return Calibration(temperature, bias)


def markers_of(config: Mapping[str, Any]) -> Markers | None:
    """Return the ids of the markers in a configuration; None if its texts have no marked entities.

    Raises:
        TypeError, ValueError: there are not four markers, or none although the pooling needs them.
    """
    given = config.get("markers")
    if given is None:
        if any(stack["pooling"] == "spans" for stack in config.get(STACKS) or [config]):
            raise ValueError("pooling spans needs markers, and there are none")
        return None
    return Markers(*map(int, given))


def stacked(states: Sequence[Mapping[str, torch.Tensor]], architecture: Architecture) -> Weights:
    """Stack members whose states have the names of ``transformers``; tensors for pre-training alone are left out.

    Raises:
        ValueError: a state has another architecture.
    """
    members = [from_transformers(state, architecture) for state in states]
    names = [name for name in members[0] if not name.startswith("mlm.")]
    return {name: torch.stack([member[name] for member in members]) for name in names}
