"""Check that prepared data still match their record. ``prepare`` checks only the sizes of files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from tlm_search.data.prepared import PreparedData, task_fingerprint
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import tokenizer_fingerprint
from tlm_search.errors import StoreError

_UNREADABLE, _CHANGED = "it cannot be read", "it was changed after it was prepared"


def damaged_data(root: Path) -> dict[Path, str]:
    """Return the changed folders and records of prepared data in the store at ``root``, each with a reason.

    Missing data do not count as damage, because the next preparation creates them again.
    """
    found: dict[Path, str] = {}
    checks: dict[tuple[Path, str], Callable[[Path], str]] = {}  # records share folders
    for record in sorted((root / "data" / "prepared").glob("*.json")):
        try:
            data = PreparedData.from_document(json.loads(record.read_text(encoding="utf-8")), root)
        except (OSError, ValueError, KeyError, TypeError):
            found[record] = _UNREADABLE
        else:
            checks.update({(folder, expected): fingerprint for folder, expected, fingerprint in _parts(data)})
    for (folder, expected), fingerprint in checks.items():
        reason = _reason(folder, expected, fingerprint) if folder.is_dir() else None
        if reason is not None:
            found[folder] = reason
    return found


def _parts(data: PreparedData) -> Iterator[tuple[Path, str, Callable[[Path], str]]]:
    # Not `prepared.folder`: it would fetch missing data from a URL and check them on the way.
    yield data.root / data.tokenizer, data.tokenizer_fingerprint, tokenizer_fingerprint
    if data.corpus is not None:
        yield data.root / data.corpus, data.corpus_fingerprint, _tokens_fingerprint
    yield (data.root / data.train).parent, data.task_fingerprint, task_fingerprint
    if data.unlabelled is not None:
        yield data.root / data.unlabelled, data.unlabelled_fingerprint, _tokens_fingerprint


def _reason(folder: Path, expected: str, fingerprint: Callable[[Path], str]) -> str | None:
    try:
        return None if fingerprint(folder) == expected else _CHANGED
    except (StoreError, OSError, ValueError, EOFError):  # EOFError: the file of labels is empty
        return _UNREADABLE


def _tokens_fingerprint(folder: Path) -> str:
    return TokenArray.open(folder).fingerprint()
