"""Read the docstrings of many files on all cores. ``python -m tlm_search.data.sources.prose`` is a reader process.

The readers are plain programs, because ``multiprocessing`` would fork a process with threads or run the caller's main
module again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tlm_search.data.sources.docstrings import docstrings, paragraphs

_MOST_READERS = 8
_FILES_PER_READER = 500  # reading fewer files takes less time than starting a reader


def read_prose(files: Sequence[tuple[str, str]]) -> dict[str, set[str]]:
    """Return the prose paragraphs of ``files``, pairs of a group and a path, by group; unreadable files are skipped."""
    readers = min(_cores(), _MOST_READERS, len(files) // _FILES_PER_READER)
    shares = [files[i::readers] for i in range(readers)] if readers > 1 else []
    found: dict[str, set[str]] = {}
    with ThreadPoolExecutor(max(len(shares), 1)) as pool:
        for share, result in zip(shares, pool.map(_read_elsewhere, shares), strict=True):
            for group, texts in (read_share(share) if result is None else result).items():
                found.setdefault(group, set()).update(texts)
    return found if shares else read_share(files)


def read_share(files: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Return the prose paragraphs of ``files`` by group, in this process."""
    found: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    for group, path in files:
        texts = found.setdefault(group, set())
        try:
            source = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for docstring in docstrings(source):
            if (group, docstring) not in seen:
                seen.add((group, docstring))
                texts.update(paragraphs(docstring))
    return found


def _read_elsewhere(files: Sequence[tuple[str, str]]) -> dict[str, set[str]] | None:
    """Read ``files`` in a new process. Return None if it cannot start or fails."""
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(command, input=json.dumps(files), capture_output=True, text=True, check=True)
        return {group: set(texts) for group, texts in json.loads(done.stdout).items()}
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


if __name__ == "__main__":
    json.dump({group: list(texts) for group, texts in read_share(json.load(sys.stdin)).items()}, sys.stdout)
