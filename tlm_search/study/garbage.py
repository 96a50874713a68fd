"""Find and remove the store entries that no study needs. Every study is read, and none may run during removal.

A member is needed if a study names it (in a trial, a try of the reference, or students), or if it taught a needed
member. A needed hybrid also needs its plain member and its linear model. Pre-trained weights are needed if a needed
member started from them, word vectors if a needed pre-training started from them, soft labels if a needed student
learned them, and linear baselines if a study names them. Measured latencies and tokenised data stay, because they are
small or quickly created again.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlm_search.digest import digest
from tlm_search.errors import StudyError, UserError
from tlm_search.members.baseline import KIND as _BASELINES
from tlm_search.members.spec import Distillation, hybrid_digests, teaching_of
from tlm_search.members.word_vectors import KIND as WORD_VECTORS
from tlm_search.members.word_vectors import vectors_key
from tlm_search.store.shared import open_store
from tlm_search.study.driver_lock import driver_lock
from tlm_search.study.location import is_study, read_study, store_root
from tlm_search.study.record import StudyRecord
from tlm_search.study.sharing import sharing
from tlm_search.study.sync import JOURNAL, StudyCopy, known_studies

_MEMBERS, _PRETRAINED, _SOFT_LABELS, _LINEAR = "members", "pretrained", "soft_labels", "linear"
KINDS = (_MEMBERS, _PRETRAINED, WORD_VECTORS, _SOFT_LABELS, _LINEAR, _BASELINES)


@dataclass(frozen=True)
class Garbage:
    """The entries that no study of ``studies`` refers to.

    ``entries`` maps (kind, digest) to bytes. ``kept`` maps a kind to the number of needed entries. ``unfinished`` are
    studies with trials that began and did not end; the members that these trials have trained count as garbage, because
    no record names them yet. ``unknown`` are folders, as (kind, name), that are not whole entries of this store; they
    stay. ``unreadable`` are needed members that are damaged. Nobody knows what they started from and learned, so in
    that case no pre-trained weights, word vectors or soft labels count as garbage, and no members if the store has
    hybrids.
    """

    studies: tuple[str, ...]
    unfinished: tuple[str, ...]
    entries: Mapping[tuple[str, str], int]
    kept: Mapping[str, int]
    unreadable: tuple[str, ...]
    unknown: tuple[tuple[str, str], ...] = ()

    @property
    def size_bytes(self) -> int:
        """The number of bytes that removal frees."""
        return sum(self.entries.values())


def find_garbage(studies_dir: Path) -> Garbage:
    """Read every study that uses the store of ``studies_dir``, and return the entries that no study needs.

    Nothing is changed.

    Raises:
        StudyError: a study cannot be read, so its needs are unknown.
    """
    store = open_store(store_root(studies_dir))
    records = [_read(folder) for folder in _studies_of_store(studies_dir)]
    needed: dict[str, set[str]] = {_MEMBERS: {digest for record in records for digest in _members(record)}}
    needed[_BASELINES] = {name for record in records if record.baseline for name in record.baseline.members}
    stored = {kind: store.sizes(kind) for kind in KINDS}
    known = {entry.digest: entry.document["spec"] for entry in store.entries(_MEMBERS)}
    needed[_MEMBERS] |= _made_of(needed[_MEMBERS], known)
    specs = [known[name] for name in needed[_MEMBERS] & known.keys()]
    unreadable = (needed[_MEMBERS] & stored[_MEMBERS].keys()) - known.keys()
    pretrained = [spec["pretrained"] for spec in specs if spec["pretrained"] is not None]
    needed[_PRETRAINED] = {digest(spec) for spec in pretrained}
    needed[WORD_VECTORS] = {digest(key) for spec in pretrained if (key := vectors_key(spec)) is not None}
    needed[_SOFT_LABELS] = {Distillation(**_teaching(spec)).digest for spec in specs if teaching_of(spec)}
    needed[_LINEAR] = {digests.linear for spec in specs if (digests := hybrid_digests(spec)) is not None}
    if unreadable:
        # A damaged hybrid does not name its plain member. The store has hybrids if it has linear models.
        for kind in KINDS if stored[_LINEAR] else (_PRETRAINED, WORD_VECTORS, _SOFT_LABELS):
            needed[kind] |= stored[kind].keys()
    own = {kind: store.own(kind) for kind in KINDS}
    unneeded = [(kind, name) for kind in KINDS for name in stored[kind] if name not in needed[kind]]
    return Garbage(
        studies=tuple(_called(record.folder, studies_dir) for record in records),
        unfinished=tuple(
            _called(r.folder, studies_dir) for r in records if r.in_state("running") or r.in_state("waiting")
        ),
        entries={(kind, name): stored[kind][name] for kind, name in unneeded if name in own[kind]},
        unknown=tuple((kind, name) for kind, name in unneeded if name not in own[kind]),
        kept={kind: len(stored[kind].keys() & needed[kind]) for kind in KINDS},
        unreadable=tuple(sorted(unreadable)),
    )


def remove_garbage(studies_dir: Path) -> tuple[Garbage, int]:
    """Remove the entries that no study needs, and leftovers of killed processes; return entries and leftover count.

    Raises:
        StudyError: a study is running, began meanwhile, or cannot be read. Then nothing is removed.
        StoreError: the store cannot be written.
    """
    store = open_store(store_root(studies_dir))
    with ExitStack() as locks:
        locked = _studies_of_store(studies_dir)
        for folder in locked:
            locks.enter_context(driver_lock(folder))
        garbage = find_garbage(studies_dir)
        if garbage.studies != tuple(_called(folder, studies_dir) for folder in locked):
            raise StudyError("a study began meanwhile; nothing was removed", hint="try again when it has ended")
        for kind, name in garbage.entries:
            store.remove(kind, name)
    return garbage, store.sweep()


def _studies_of_store(studies_dir: Path) -> tuple[Path, ...]:
    return tuple(folder for shares in sharing(store_root(studies_dir)) for folder in study_folders(shares))


def _called(folder: Path, studies_dir: Path) -> str:
    return folder.name if folder.parent == studies_dir.resolve() else str(folder)


def study_folders(studies_dir: Path) -> tuple[Path, ...]:
    """Return the folders of the studies below ``studies_dir``, even if one lacks its ``study.json``."""
    for name in known_studies(studies_dir):
        StudyCopy(studies_dir / name).pull()
    found = (folder for folder in studies_dir.iterdir() if is_study(folder) or (folder / JOURNAL).is_file())
    return tuple(sorted(found))


def _read(folder: Path) -> StudyRecord:
    try:
        return read_study(folder)
    except (UserError, ValueError) as error:  # ValueError: a space that this version cannot read
        reason = error.message if isinstance(error, UserError) else str(error).splitlines()[0]
        raise StudyError(
            f"{folder.name}: the needs of this study are unknown, so nothing was removed: {reason}",
            hint=f"repair the study, or move {folder} elsewhere if you do not want it",
        ) from error


def _made_of(needed: Set[str], known: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the teachers and plain members of the ``needed`` members, and recursively of these."""
    found: set[str] = set()
    new = set(needed)
    while new:
        specs = [known[name] for name in new & known.keys()]
        plain = {digests.plain for spec in specs if (digests := hybrid_digests(spec)) is not None}
        new = plain.union(*(_teaching(spec)["teachers"] for spec in specs)) - found
        found |= new
    return found


def _teaching(spec: Mapping[str, Any]) -> dict[str, Any]:
    teaching = teaching_of(spec) or {}
    return {**teaching, "teachers": tuple(teaching.get("teachers", ()))}


def _members(record: StudyRecord) -> set[str]:
    return {digest for trial in record.everything_run for digest in trial.members}
