"""The unlabelled texts of a task, for self-training: distinct, and none that validation or test contains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.data.pairs import TextOrPair
from tlm_search.data.rows import Task, likeness
from tlm_search.data.sources import pydocs
from tlm_search.data.sources.source import PYDOCS, load_texts
from tlm_search.data.tasks import require_markers
from tlm_search.errors import DataError

if TYPE_CHECKING:
    from tlm_search.space.sections import TaskSection


@dataclass(frozen=True)
class Unlabelled:
    """The texts that remain of ``available`` ones, and how many were left out, by reason."""

    texts: Sequence[TextOrPair]
    available: int
    held_out: int
    repeated: int


def load_unlabelled(section: TaskSection, task: Task, cache: Path) -> Unlabelled:
    """Return the texts of ``section.unlabelled`` that differ from each other and from the splits of ``task``.

    Letter case and white space do not count. Texts that validation or test contains count as held out; texts that train
    contains, or that repeat an earlier text, count as repeated. ``cache`` is a folder for results that take long to
    compute.

    Raises:
        DataError: the source is missing, cannot be read, or has fewer texts than requested, or none; or texts lack the
            markers of ``entities: marked``.
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
    """Refuse fewer ``texts`` than ``section.unlabelled`` asks for, or none; ``left_out`` are those that do not count.

    Raises:
        DataError: there are too few.
    """
    assert section.unlabelled is not None
    wanted = section.unlabelled.documents
    if texts >= (wanted or 1):
        return
    asked = f"documents: {wanted} asked for, but " if wanted else ""
    raise DataError(
        f"task.unlabelled {section.unlabelled.source}: {asked}it has {texts} texts that are new; the task's own texts "
        f"and repeated ones do not count, which are {left_out}",
        hint=f"ask for at most {texts}, or leave documents out to take all"
        if texts
        else "name more texts of the task's kind, or leave task.unlabelled out",
    )


def _paragraphs(section: TaskSection, task: Task, cache: Path) -> list[TextOrPair]:
    """Return the paragraphs of pydocs that no test is drawn from: those of the task's packages, if it is of pydocs."""
    packages = set(task.labels) if section.source == PYDOCS else None
    return [
        item.text
        for item in pydocs.load_paragraphs(cache / PYDOCS)
        if not item.held_out and (packages is None or item.package in packages)
    ]
