"""Unlabelled documents for the vocabulary and for pre-training."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.data.rows import likeness
from tlm_search.data.sources import pydocs
from tlm_search.data.sources.source import PYDOCS, load_documents
from tlm_search.errors import DataError

if TYPE_CHECKING:
    from tlm_search.space.sections import CorpusSection


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order: pre-training on N of them takes the first N.

    ``left_out`` are the ``likeness`` of documents that were left out because a task holds them out.
    """

    name: str
    documents: Sequence[str]
    left_out: frozenset[str] = frozenset()


def load_corpus(section: CorpusSection, cache: Path, *, without: Set[str] = frozenset()) -> Corpus:
    """Return the documents that ``section`` names; ``cache`` is a folder for results that take long to compute.

    ``pydocs`` has a fixed random order. A Hugging Face data set is shuffled with seed 42, as in the paper. Local files
    keep their order, so the user decides what any prefix contains. Documents are left out if they are empty, or if
    their ``likeness`` is in ``without``.

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
            f"corpus {section.source}: documents: {section.documents} asked for, but it has {len(documents)}",
            hint=f"ask for at most {len(documents)}, or leave documents out to take all",
        )
    return Corpus(section.source, documents, left_out)
