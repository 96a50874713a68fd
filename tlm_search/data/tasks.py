"""Labelled documents for fine-tuning, validation and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.data.markers import EXAMPLE, MARKERS, is_marked
from tlm_search.data.pairs import TextOrPair
from tlm_search.data.rows import Labelled, Task
from tlm_search.data.sources import pydocs
from tlm_search.data.sources.place import PYDOCS
from tlm_search.data.sources.source import load_labelled, load_validation
from tlm_search.data.splits import split_task
from tlm_search.errors import DataError

if TYPE_CHECKING:
    from tlm_search.space.task import TaskSection

_PYDOCS_LABELS = 10  # packages, if the space does not give their number
_SHOWN = 80  # characters of a text in a message


def load_task(section: TaskSection, cache: Path) -> Task:
    """Return the task that ``section`` names, with its splits. Slow results are cached in the folder ``cache``.

    Raises:
        DataError: the task is missing, cannot be read, lacks a column, has too few texts of a label, or has texts
            without the markers of ``entities: marked``.
    """
    if section.source == PYDOCS:
        return _pydocs_task(section, cache / PYDOCS)
    data, held_out = load_labelled(section, cache)
    validation = None if section.per_label else load_validation(section, cache)
    if section.entities == "marked":
        for part in (data, validation, held_out):
            if part is not None:
                texts = [text for text, label in zip(part.texts, part.labels, strict=True) if label]
                require_markers(texts, f"task {section.source}")
    return split_task(section, data, validation=validation, held_out=held_out)


def require_markers(texts: Sequence[TextOrPair], where: str) -> None:
    """Require the markers of ``entities: marked`` in all ``texts``, except empty texts.

    Raises:
        DataError: some texts lack markers; the message has their number and an example.
    """
    single = [text for text in texts if text and isinstance(text, str)]
    lacking = [text for text in single if not is_marked(text)]
    if lacking:
        start = lacking[0] if len(lacking[0]) <= _SHOWN else f"{lacking[0][:_SHOWN]}..."
        raise DataError(
            f"{where}: {len(lacking):,} of {len(single):,} texts do not have each of the markers "
            f"{' '.join(MARKERS)} once and in order, such as {start!r}",
            hint=f"with entities: marked a text looks like {EXAMPLE!r}; mark all texts so, or leave entities out",
        )


def _pydocs_task(section: TaskSection, cache: Path) -> Task:
    """Return the task "from which package does a paragraph come?", over the N packages with the most paragraphs.

    Packages with equal numbers of paragraphs are ordered by name.
    """
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
