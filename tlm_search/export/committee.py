"""A committee as it answers: texts in, the mean of its members' softmax outputs out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from tlm_search.data.tokenizer import encode as tokenise
from tlm_search.data.tokenizer import open_tokenizer
from tlm_search.data.tokens import TokenArray
from tlm_search.errors import ExportError
from tlm_search.export.folder import CHECK, CONFIG, MODEL, damaged, read_json, verified
from tlm_search.model.architecture import Architecture
from tlm_search.model.bert import Tokens, Weights, classify, encode
from tlm_search.model.hf import from_transformers
from tlm_search.training.batches import TextBatch, assemble

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH_TOKENS = 4096  # of one member in one forward pass: bounds the memory
TOLERANCE = 1e-3  # between machines; on one machine the answers agree to 1e-6


@dataclass(frozen=True)
class Answers:
    """``probabilities`` (texts, labels) float32; ``disagreement`` (texts,) float32.

    The disagreement is the share of members whose own vote differs from the committee's.
    """

    probabilities: NDArray[np.float32]
    disagreement: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SoftCommittee:
    """K members of one architecture that vote; ``members`` are their weights, each with a member dimension of 1.

    ``length`` is the number of tokens that a text is cut to, ``expected`` the contents of ``check.json``.
    """

    members: tuple[Weights, ...]
    architecture: Architecture
    pooling: str
    labels: tuple[str, ...]
    length: int
    pad: int
    tokenizer: Tokenizer
    expected: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path | str) -> SoftCommittee:
        """Load what ``tlm-search export`` wrote; every file is checked, and no code of the folder is ever run.

        Raises:
            ExportError: there is no export, or it is not as it was written.
        """
        folder = Path(folder)
        config = verified(folder)
        try:
            tokenizer = open_tokenizer(folder)
        except Exception as error:  # what tokenizers raises has no class of its own
            raise damaged(folder, f"the tokenizer cannot be read: {error}") from error
        try:
            states = split_members(load_file(folder / MODEL), len(config["members"]))
            return cls.of(config, states, tokenizer, expected=read_json(folder, CHECK))
        except (KeyError, ValueError, TypeError, OSError, SafetensorError) as error:
            raise damaged(folder, f"{CONFIG} and {MODEL} do not fit: {error}") from error

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        states: Sequence[Mapping[str, torch.Tensor]],
        tokenizer: Tokenizer,
        *,
        expected: Mapping[str, Any],
    ) -> SoftCommittee:
        """Build a committee from the contents of its files; ``states`` have the names of transformers.

        Raises:
            KeyError, TypeError, ValueError: they do not fit each other.
        """
        architecture = architecture_of(config["architecture"])
        labels = tuple(map(str, config["labels"]))
        return cls(
            members=tuple(one_member(state, architecture, labels=len(labels)) for state in states),
            architecture=architecture,
            pooling=str(config["pooling"]),
            labels=labels,
            length=int(config["length"]),
            pad=int(config["pad"]),
            tokenizer=tokenizer,
            expected=expected,
        )

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the committee's probabilities ``(texts, labels)``; long texts are cut, empty ones are answered too."""
        return self.answers(texts).probabilities

    def disagreement(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the share of members, for each text, whose own vote differs from the committee's."""
        return self.answers(texts).disagreement

    def answers(self, texts: Sequence[str]) -> Answers:
        """Return probabilities and disagreement in the order of ``texts``.

        Raises:
            TypeError: ``texts`` is one text, or holds something that is no text.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError("texts must be a sequence of str")
        # Half a surrogate pair, as a broken file name or a JSON escape gives, has no form that a tokenizer takes.
        whole = [text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        sequences = list(tokenise(self.tokenizer, whole, length=self.length))
        offsets = np.cumsum([0, *map(len, sequences)], dtype=np.int64)
        ids = np.fromiter((token for sequence in sequences for token in sequence), np.int32, count=int(offsets[-1]))
        return self.answers_to_tokens(TokenArray(ids, offsets))

    @torch.inference_mode()
    def answers_to_tokens(self, texts: TokenArray) -> Answers:
        """Return the answers to texts that are tokenised already."""
        probabilities = np.empty((len(texts), len(self.labels)), np.float32)
        disagreement = np.empty(len(texts), np.float32)
        for chosen in self._batches(texts.lengths()):
            votes = self._votes(texts, chosen)
            said = votes.mean(0)
            probabilities[chosen] = said.numpy()
            disagreement[chosen] = (votes.argmax(-1) != said.argmax(-1)).float().mean(0).numpy()
        return Answers(probabilities, disagreement)

    def check(self) -> float:
        """Answer the inputs of ``check.json`` and return the largest difference from what is expected.

        Raises:
            ExportError: it is more than rounding on another machine explains.
        """
        try:
            expected = np.asarray(self.expected["probabilities"], np.float32)
            difference = float(np.abs(self.probabilities(self.expected["texts"]) - expected).max())
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(f"{CHECK} does not fit the committee: {error}", hint="export it again") from error
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the committee does not answer as it did when it was exported: probabilities differ by {difference:g}",
                hint="compare the versions of torch and tokenizers with those in README.md",
            )
        return difference

    def _batches(self, lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yield the texts of each forward pass, texts of like length together."""
        order = np.argsort(lengths, kind="stable")
        first = 0
        while first < len(order):
            sizes = self._row_length(lengths[order[first : first + BATCH_TOKENS]])
            # Sorted: the last text of a batch is its longest.
            costs = sizes * np.arange(1, len(sizes) + 1)
            count = max(1, int(np.searchsorted(costs, BATCH_TOKENS, side="right")))
            yield order[first : first + count]
            first += count

    def _row_length(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        # A convolution sees the padding too, so its rows are as long as they were in training.
        return np.full_like(lengths, self.architecture.positions) if self._convolves else lengths

    @property
    def _convolves(self) -> bool:
        return self.architecture.convolution_layers > 0

    def _votes(self, texts: TokenArray, chosen: NDArray[np.int64]) -> torch.Tensor:
        """Return each member's softmax output ``(K, texts, labels)``.

        Members take turns: one member alone takes the plain kernels, which suit large batches on a CPU.
        """
        length = int(self._row_length(texts.lengths()[chosen]).max())
        rows = assemble(texts, chosen[None], length=max(1, length), packed=not self._convolves, pad=self.pad)
        return torch.cat([self._member_logits(member, rows) for member in self.members]).softmax(-1)

    def _member_logits(self, member: Weights, rows: TextBatch) -> torch.Tensor:
        tokens: Tokens = rows.tokens
        hidden = encode(member, self.architecture, tokens)
        return classify(member, hidden, tokens, starts=rows.starts, pooling=self.pooling)


def architecture_of(document: Mapping[str, Any]) -> Architecture:
    """Rebuild a shape from its document."""
    tokens, across = document["kernel"]
    return Architecture(**{**document, "kernel": (int(tokens), int(across))})


def one_member(state: Mapping[str, torch.Tensor], architecture: Architecture, *, labels: int) -> Weights:
    """Return the weights of a member under this program's names, with a member dimension of 1.

    Raises:
        ValueError: the state is not of this architecture and number of labels.
    """
    weights = {name: value.unsqueeze(0) for name, value in from_transformers(state, architecture).items()}
    found = tuple(weights["classifier.weight"].shape[1:])
    if found != (labels, architecture.width):
        raise ValueError(f"an output layer of {found}, not {(labels, architecture.width)}")
    return weights


def prefixed(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Name the weights of all members for one file: ``members.3.bert.pooler.dense.weight``."""
    return {f"members.{index}.{name}": value for index, state in enumerate(states) for name, value in state.items()}


def split_members(weights: Mapping[str, torch.Tensor], count: int) -> list[dict[str, torch.Tensor]]:
    """Undo ``prefixed``.

    Raises:
        ValueError: there are not ``count`` members.
    """
    members: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in weights.items():
        _, index, rest = name.split(".", 2)
        members.setdefault(int(index), {})[rest] = value
    if not members or sorted(members) != list(range(count)):
        raise ValueError(f"members {sorted(members)}, not {count}")
    return [members[index] for index in range(count)]
