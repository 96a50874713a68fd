"""The tokenised data of a study: paths and facts, small enough to send as JSON. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlm_search.data.tokens import TokenArray
from tlm_search.digest import digest, without_defaults
from tlm_search.errors import StoreError
from tlm_search.files import inside
from tlm_search.remote.mount import at_hand
from tlm_search.space.settings import Value, tokens_of

LABELS = "labels.npy"
SPLITS = ("train", "validation", "test")
SIMULATED_ROWS = 200  # labelled texts of each split of simulated data


# Defaults of facts that later versions added. They are left out of the record, so that older records stay equal.
_LATER: Mapping[str, Any] = {
    "unlabelled": None,
    "unlabelled_texts": {},
    "unlabelled_fingerprint": "",
    "unlabelled_name": "",
    "account": {},
    "sources": {},
    "pairs": False,
    "context": None,
    "variants": (),
}


@dataclass(frozen=True)
class PreparedData:
    """Corpus, tokenizer and task of a study as folders below the store's root.

    Folders are relative to ``root``, so that a machine that mounts the store elsewhere finds them.
    ``tokenizer`` holds the files that ``transformers.AutoTokenizer`` loads. ``corpus`` is a ``TokenArray`` of
    ``documents`` texts (None without a corpus). ``train``, ``validation`` and ``test`` hold a ``TokenArray`` and
    ``labels.npy`` (int64, indices into ``labels``). ``unlabelled`` is a ``TokenArray`` of unlabelled texts for
    self-training (None without them). ``unlabelled_texts`` counts the ``available`` texts, the ``used`` texts, and
    the texts left out: ``held_out`` (in validation or test) and ``repeated``. ``account`` is the
    ``RowAccount`` of the task as JSON. ``sources`` maps each source to its fingerprint. Both are empty if an older
    version prepared the data. ``special`` maps the roles of the special tokens, and the texts of the entity markers,
    to ids. ``pairs`` is True if each row is a pair of texts. ``context`` is the ``ContextSection`` as JSON if the
    rows are lines of a log in context.

    If configurations differ in their tokenizers, each tokenizer is an entry of ``variants``: ``tokens`` has the
    settings that choose it (as ``tokens_of`` returns them), and ``data`` has the facts that differ. ``of`` returns
    the data of a configuration. All variants have the same rows, labels and documents.
    """

    root: Path
    tokenizer: str
    corpus: str | None
    train: str
    validation: str
    test: str
    documents: int
    vocabulary: int
    length: int
    labels: tuple[str, ...]
    rows: Mapping[str, int]
    tokens: Mapping[str, int]
    special: Mapping[str, int]
    task_fingerprint: str
    tokenizer_fingerprint: str
    corpus_fingerprint: str
    corpus_name: str
    task_name: str
    unlabelled: str | None = None
    unlabelled_texts: Mapping[str, int] = field(default_factory=dict)
    unlabelled_fingerprint: str = ""
    unlabelled_name: str = ""
    account: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    pairs: bool = False
    context: Mapping[str, Any] | None = None
    variants: tuple[Mapping[str, Any], ...] = ()

    def of(self, settings: Mapping[str, Value]) -> PreparedData:
        """Return the data of a configuration with complete ``settings``: the tokens of its tokenizer and length.

        Raises:
            StoreError: the study has no data for these settings.
        """
        return self if not self.variants else replace(self, variants=(), **_changes(self.variants, settings))

    def all(self) -> tuple[PreparedData, ...]:
        """Return the data of each tokenizer of the study."""
        return tuple(self.of(variant["tokens"]) for variant in self.variants) or (self,)

    def folder(self, part: str) -> Path:
        """Return the folder of ``part``: tokenizer, corpus, train, validation, test or unlabelled.

        If the store is a copy of a store at a URL, a missing folder is fetched first.

        Raises:
            StoreError: the folder cannot be fetched.
        """
        relative = getattr(self, part)
        if relative is None:
            raise ValueError(f"this study has no {part}")
        at_hand(self._unit(part))
        return self.root / str(relative)

    def true_labels(self, split: str) -> NDArray[np.int64]:
        """Return the labels of ``split`` as indices into ``labels``, shape (rows,).

        Simulated data have no files. Their labels are drawn, and depend only on the number of labels.

        Raises:
            OSError, ValueError, EOFError: the file is missing or damaged.
            StoreError: the folder cannot be fetched.
        """
        if not getattr(self, split):
            return _drawn_labels(len(self.labels))[split]
        labels: NDArray[np.int64] = np.load(self.folder(split) / LABELS)
        return labels

    def prefix_fingerprint(self, documents: int) -> str:
        """Return the fingerprint of the first ``documents`` texts of the corpus; empty for none."""
        if not documents:
            return ""
        return f"simulated-{documents}" if not self.train else _prefix_fingerprint(self.folder("corpus"), documents)

    def units(self) -> tuple[Path, ...]:
        """Return the folders that are written and sent as a whole: tokenizer, corpus, task, unlabelled texts."""
        return tuple(self._unit(part) for part in ("tokenizer", "corpus", "train", "unlabelled") if getattr(self, part))

    def _unit(self, part: str) -> Path:
        folder = self.root / str(getattr(self, part))
        return folder if part in ("tokenizer", "corpus", "unlabelled") else folder.parent

    def to_document(self) -> dict[str, Any]:
        """Return everything except ``root`` as JSON."""
        document = without_defaults(asdict(self), _LATER)
        del document["root"]
        return {**document, "labels": list(self.labels), **({"variants": list(self.variants)} if self.variants else {})}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], root: Path) -> PreparedData:
        """Rebuild from ``to_document`` for the store at ``root``.

        Raises:
            StoreError: the document names a folder outside of the store. It may come from another user's journal.
        """
        lists = {"labels": tuple(document["labels"]), "variants": tuple(document.get("variants", ()))}
        prepared = cls(root=root, **{**document, **lists})
        for variant in prepared.all() if prepared.variants else (prepared,):
            variant._require_inside()
        return prepared

    def _require_inside(self) -> None:
        for part in ("tokenizer", "corpus", *SPLITS, "unlabelled"):
            if name := getattr(self, part):  # simulated data have no folders
                try:
                    inside(self.root, name)
                except ValueError as error:
                    raise StoreError(
                        f"the study's {part} cannot be taken from the store {self.root}: {error}"
                    ) from error

    @classmethod
    def joined(cls, prepared: Sequence[tuple[Mapping[str, Value], PreparedData]]) -> PreparedData:
        """Join the data of each tokenizer, with the settings that choose it, to the data of the study."""
        first = prepared[0][1]
        if len(prepared) == 1:
            return first
        noted = first.to_document()
        variants = [
            {"tokens": dict(tokens), "data": {k: v for k, v in data.to_document().items() if noted.get(k) != v}}
            for tokens, data in prepared
        ]
        return replace(first, variants=tuple(variants))


def _drawn_labels(labels: int) -> Mapping[str, NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    return {split: generator.integers(0, labels, SIMULATED_ROWS) for split in ("validation", "test")}


@cache
def _prefix_fingerprint(folder: Path, documents: int) -> str:
    return TokenArray.open(folder).prefix(documents).fingerprint()


def facts_of(document: Mapping[str, Any], settings: Mapping[str, Value]) -> Mapping[str, Any]:
    """Return the facts of a configuration with complete ``settings`` from ``document``, ``PreparedData`` as JSON.

    Raises:
        StoreError: the document has no data for these settings.
    """
    variants = document.get("variants", ())
    return {**document, **_changes(variants, settings)} if variants else document


def _changes(variants: Sequence[Mapping[str, Any]], settings: Mapping[str, Value]) -> Mapping[str, Any]:
    tokens = tokens_of(settings)
    for variant in variants:
        if variant["tokens"] == tokens:
            changes: Mapping[str, Any] = variant["data"]
            return changes
    said = ", ".join(f"{name} {value}" for name, value in tokens.items()) or "the settings of the section tokenizer"
    raise StoreError(f"the data of this study were not prepared for {said}")


def task_fingerprint(folder: Path) -> str:
    """Return a digest of the tokens and labels of a task's splits in ``folder``.

    Raises:
        StoreError, OSError, ValueError, EOFError: a split cannot be read.
    """
    labels = {part: np.load(folder / part / LABELS).tolist() for part in SPLITS}
    return digest({part: [TokenArray.open(folder / part).fingerprint(), labels[part]] for part in SPLITS})
