"""Labelled documents for fine-tuning, validation and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.data import pydocs
from tlm_search.data.sampling import Labelled, Task, split_task
from tlm_search.data.sources import PYDOCS, load_labelled

if TYPE_CHECKING:
    from tlm_search.space.sections import TaskSection

_PYDOCS_LABELS = 10  # packages, where the space does not say how many


def load_task(section: TaskSection, cache: Path) -> Task:
    """Return the task that ``section`` names, split; ``cache`` is a folder for what took long to read.

    Raises:
        DataError: it is missing, cannot be read, lacks a column, or has too few texts of a label.
    """
    if section.source == PYDOCS:
        return _pydocs_task(section, cache / PYDOCS)
    data, held_out = load_labelled(section, cache)
    return split_task(section, data, held_out=held_out)


def _pydocs_task(section: TaskSection, cache: Path) -> Task:
    """From which package does a paragraph come? Of the N packages with most paragraphs (ties by name)."""
    owned = [item for item in pydocs.load_paragraphs(cache) if item.package]
    counts = Counter(item.package for item in owned)
    ranked = sorted(counts, key=lambda package: (-counts[package], package))
    packages = set(ranked[: section.labels or _PYDOCS_LABELS])
    kept, held_out = (
        [item for item in owned if item.package in packages and item.held_out is part] for part in (False, True)
    )
    return split_task(section, _labelled(kept), held_out=_labelled(held_out), validation_held_out=True)


def _labelled(paragraphs: Sequence[pydocs.Paragraph]) -> Labelled:
    return Labelled([item.text for item in paragraphs], [item.package for item in paragraphs])
