"""The unlabelled texts of a task for self-training: distinct texts that validation and test do not contain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.data.pairs import TextOrPair
from tlm_search.data.rows import Task, likeness
from tlm_search.data.sources import pydocs
from tlm_search.data.sources.place import PYDOCS
from tlm_search.data.sources.source import load_texts
from tlm_search.data.tasks import require_markers
from tlm_search.errors import DataError

if TYPE_CHECKING:
    from tlm_search.space.task import TaskSection


@dataclass(frozen=True)
class Unlabelled:
    """The ``texts`` that remain of the ``available`` texts, and the numbers left out, by reason."""

    texts: Sequence[TextOrPair]
    available: int
    held_out: int
    repeated: int


def load_unlabelled(section: TaskSection, task: Task, cache: Path) -> Unlabelled:
    """Return the texts of ``section.unlabelled`` that differ from each other and from the splits of ``task``.

    Letter case and white space do not count. Texts that validation or test contains count as held out. Texts that train
    contains, or that repeat an earlier text, count as repeated. Slow results are cached in the folder ``cache``.

    Raises:
        DataError: the source is missing, cannot be read, has no text or fewer texts than requested, or has texts
            without the markers of ``entities: marked``.
    """
    assert section.unlabelled is not None
    of_pydocs = section.unlabelled.source == PYDOCS
    found = _paragraphs(section, task, cache) if of_pydocs else load_texts(section, section.unlabelled)
    if section.entities == "marked":
        require_markers(found, f"task.unlabelled {section.unlabelled.source}")
    held_out, seen = task.held_out(), set(map(likeness, task.train.texts))
    texts: list[TextOrPair] = []
    left_out = repeated = 0
    for text in found:
        key = likeness(text)
        if key in held_out:
            left_out += 1
        elif key in seen:
            repeated += 1
        else:
            seen.add(key)
            texts.append(text)
    require_texts(section, len(texts), left_out=left_out + repeated)
    return Unlabelled(texts, len(found), left_out, repeated)


def require_texts(section: TaskSection, texts: int, *, left_out: int) -> None:
    """Refuse fewer ``texts`` than ``section.unlabelled`` asks for, or none.

    ``left_out`` is the number of texts that do not count.

    Raises:
        DataError: the source has too few new texts.
    """
    assert section.unlabelled is not None
    wanted = section.unlabelled.documents
    if texts >= (wanted or 1):
        return
    asked = f"documents asks for {wanted}, but " if wanted else ""
    raise DataError(
        f"task.unlabelled {section.unlabelled.source}: {asked}it has {texts} new texts; {left_out} texts do not count, "
        "because the task contains them or they are repeated",
        hint=f"ask for at most {texts}, or leave documents out to take all"
        if texts
        else "name more texts of the task's kind, or leave task.unlabelled out",
    )


def _paragraphs(section: TaskSection, task: Task, cache: Path) -> list[TextOrPair]:
    """Return the pydocs paragraphs that are not held out, for a pydocs task only those of its packages."""
    packages = set(task.labels) if section.source == PYDOCS else None
    return [
        item.text
        for item in pydocs.load_paragraphs(cache / PYDOCS)
        if not item.held_out and (packages is None or item.package in packages)
    ]
