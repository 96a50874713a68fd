"""What a study trains on, once it is tokenised: paths and facts, small enough to travel as JSON. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PreparedData:
    """Corpus, tokenizer and task of a study as folders below the store's root.

    ``folders`` are relative to ``root``, so that a machine that mounts the store elsewhere finds them.
    ``tokenizer`` holds the files that ``transformers.AutoTokenizer`` loads. ``corpus`` is a ``TokenArray`` of
    ``documents`` texts (None without a corpus); ``train``, ``validation`` and ``test`` hold a ``TokenArray`` and
    ``labels.npy`` (int64, indices into ``labels``).
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

    def folder(self, part: str) -> Path:
        """Return the folder of ``part``: tokenizer, corpus, train, validation or test."""
        relative = getattr(self, part)
        if relative is None:
            raise ValueError(f"this study has no {part}")
        return self.root / str(relative)

    def to_document(self) -> dict[str, Any]:
        """Return everything but ``root`` as JSON."""
        document = asdict(self)
        del document["root"]
        return {**document, "labels": list(self.labels)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], root: Path) -> PreparedData:
        """Rebuild from ``to_document`` where the store lies at ``root``."""
        return cls(root=root, **{**document, "labels": tuple(document["labels"])})
