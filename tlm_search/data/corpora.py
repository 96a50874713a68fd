"""Unlabelled documents for the vocabulary and for pre-training."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.data.rows import likeness
from tlm_search.data.sources import pydocs
from tlm_search.data.sources.place import PYDOCS
from tlm_search.data.sources.source import load_documents
from tlm_search.errors import DataError

if TYPE_CHECKING:
    from tlm_search.space.sections import CorpusSection


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order. Pre-training on N documents takes the first N.

    ``left_out`` is the ``likeness`` of each document that was left out because a task holds it out.
    """

    name: str
    documents: Sequence[str]
    left_out: frozenset[str] = frozenset()


def load_corpus(section: CorpusSection, cache: Path, *, without: Set[str] = frozenset()) -> Corpus:
    """Return the documents that ``section`` names. Slow results are cached in the folder ``cache``.

    ``pydocs`` has a fixed random order. A Hugging Face data set is shuffled with seed 42, as in the paper. Local files
    keep their order, so the user decides which documents a prefix contains. Empty documents are left out, and those
    whose ``likeness`` is in ``without``.

    Raises:
        DataError: the source is missing, cannot be read, or has no text.
    """
    if section.source == PYDOCS:
        documents = [item.text for item in pydocs.load_paragraphs(cache / PYDOCS) if not item.held_out]
    else:
        most = None if section.documents is None else section.documents + len(without)
        documents = load_documents(section.model_copy(update={"documents": most}), cache)
    left_out: frozenset[str] = frozenset()
    if without:
        alike = [likeness(text) for text in documents]
        left_out = frozenset(without & set(alike))
        documents = [text for text, key in zip(documents, alike, strict=True) if key not in left_out]
    documents = documents[: section.documents]
    if not documents:
        raise DataError(f"corpus {section.source}: it has no text")
    if section.documents is not None and len(documents) < section.documents:
        raise DataError(
            f"corpus {section.source}: documents asks for {section.documents}, but it has {len(documents)}",
            hint=f"ask for at most {len(documents)}, or leave documents out to take all",
        )
    return Corpus(section.source, documents, left_out)
