"""An export as a folder: it appears whole or not at all, and a manifest of sha256 verifies it. No torch here.

::

    DIR/   config.json  labels.json  model.safetensors  check.json  manifest.json  README.md
           tokenizer.json  tokenizer_config.json
           model.onnx  model.int8.onnx    if requested
           members/0..K-1/                each for plain `transformers`, if its architecture has a form there

``README.md`` is not in the manifest, because the owner completes its licence and limits.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tlm_search.errors import ExportError
from tlm_search.files import beside, inside, is_plain, put, unwritable

FORMAT = 2
MIXED_FORMAT = 3  # members of several architectures, or with weights; older versions refuse it
STACKS, LINEAR_MODELS = "stacks", "linear_models"  # in the configuration of a mixed committee
CONFIG, LABELS, MODEL, CHECK = "config.json", "labels.json", "model.safetensors", "check.json"
CARD, MANIFEST, TOKENIZER = "README.md", "manifest.json", "tokenizer.json"
# Files that a loader may read. The owner may add others, such as a licence or notes.
_LOADABLE = (
    "*.json",
    "*.safetensors",
    "*.bin",
    "*.pt",
    "*.onnx",
    "*.py",
    "*.jinja",
    "*.model",
    "vocab.txt",
    "merges.txt",
)
ONNX, ONNX_INT8 = "model.onnx", "model.int8.onnx"
MODEL_TYPE = "tlm-search-committee"
_EXPORT_AGAIN = "export it again: tlm-search export STUDY --out DIR"


@contextmanager
def new_export(out: Path) -> Iterator[Path]:
    """Yield an empty folder to write into. It gets its manifest and becomes ``out`` if the block succeeds.

    Otherwise it is removed, also if this process receives SIGTERM.

    Raises:
        ExportError: ``out`` is a file, is not empty, has an unsafe name, or cannot be written.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link, which must not be replaced
    _require_free(out)
    if not is_plain(out.name):
        raise ExportError(
            f"--out {out.name!r} begins with a dash or has a control character",
            hint="choose another name for the folder",
        )
    with _exit_on_sigterm(), beside(out) as unfinished:
        try:
            unfinished.mkdir(parents=True)
            yield unfinished
            write_json(unfinished / MANIFEST, {"format": _format(unfinished), "files": _manifest(unfinished)})
            put(unfinished, out)
        except OSError as error:
            _require_free(out)  # another process may have been first
            raise unwritable(ExportError, out, error, otherwise="choose another folder with --out") from error


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, unless it has another handler. Only the main thread can set one."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def write_json(file: Path, value: Any) -> None:
    """Write ``value`` as JSON that a person can read."""
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def is_export(folder: Path) -> bool:
    """Return whether ``folder`` is an export, even a damaged one."""
    return (folder / MANIFEST).is_file()


def verified(folder: Path) -> Mapping[str, Any]:
    """Check every file of the manifest and return ``config.json``.

    Raises:
        ExportError: it is not an export, a file was changed after it was written, or it has another format.
    """
    if not folder.is_dir():
        raise ExportError(f"{folder}: there is no such folder", hint="give a folder that tlm-search export wrote")
    if not (folder / MANIFEST).is_file():
        raise ExportError(
            f"{folder}: it is not an exported committee, or it is damaged: {MANIFEST} is missing",
            hint="give a folder that tlm-search export wrote",
        )
    manifest = read_json(folder, MANIFEST)
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version not in (FORMAT, MIXED_FORMAT):
        raise ExportError(
            f"{folder}: it has format {version}, but this version of tlm-search reads {FORMAT} and {MIXED_FORMAT}",
            hint="update tlm-search" if version > FORMAT else _EXPORT_AGAIN,
        )
    try:
        files = {str(name): (str(fact["sha256"]), int(fact["bytes"])) for name, fact in manifest["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise damaged(folder, f"{MANIFEST} does not list its files") from error
    for name in (CONFIG, LABELS, MODEL, CHECK, TOKENIZER, *_loadable(folder)):
        if name not in files:
            raise damaged(folder, f"{MANIFEST} does not name {name}")
    for name, (sha256, size) in files.items():
        _verify(folder, name, sha256, size)
    config = read_json(folder, CONFIG)
    if not isinstance(config, dict):
        raise damaged(folder, f"{CONFIG} is not a JSON object")
    return config


def read_json(folder: Path, name: str) -> Any:
    """Read a JSON file of an export.

    Raises:
        ExportError: the file cannot be read.
    """
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"{name} cannot be read") from error


@contextmanager
def as_damage(folder: Path, reason: str) -> Iterator[None]:
    """Turn any error of reading an export into an ExportError, because its files may be made to break a reader."""
    try:
        yield
    except (ExportError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of the tokenizer is not an Exception
        raise damaged(folder, f"{reason}: {error}") from error


def damaged(folder: Path, reason: str) -> ExportError:
    """Return the error for an export that was changed after it was written."""
    return ExportError(f"{folder}: the exported committee is damaged: {reason}", hint=_EXPORT_AGAIN)


def _require_free(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ExportError(f"{out} exists and is not a folder", hint="choose another folder with --out")
    try:
        taken = out.is_dir() and any(out.iterdir())
    except OSError as error:
        raise ExportError(
            f"{out} cannot be read: {error.strerror or error}", hint="choose another folder with --out"
        ) from error
    if taken:
        raise ExportError(
            f"{out}: the folder is not empty", hint="choose another folder with --out; nothing is ever overwritten"
        )


def _format(folder: Path) -> int:
    return MIXED_FORMAT if STACKS in read_json(folder, CONFIG) else FORMAT


def _manifest(folder: Path) -> dict[str, dict[str, object]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / CARD)
    return {
        file.relative_to(folder).as_posix(): {"sha256": _sha256(file), "bytes": file.stat().st_size} for file in files
    }


def _loadable(folder: Path) -> Iterator[str]:
    """Yield the files that a loader may read, such as settings of a tokenizer. Hidden files belong to the hub."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        loadable = any(name.match(pattern) for pattern in _LOADABLE) and not name.parts[0].startswith(".")
        if loadable and path.is_file() and str(name) != MANIFEST:
            yield name.as_posix()


def _verify(folder: Path, name: str, sha256: str, size: int) -> None:
    try:
        file = inside(folder, name)
    except ValueError as error:
        raise damaged(folder, f"{MANIFEST}: {error}") from error
    try:
        if not file.is_file():
            raise damaged(folder, f"{name} is missing")
        actual = file.stat().st_size
        if actual != size:
            raise damaged(folder, f"{name} has {actual:,} bytes instead of {size:,}")
        if _sha256(file) != sha256:
            raise damaged(folder, f"{name} was changed after it was written")
    except OSError as error:
        raise damaged(folder, f"{name} cannot be read: {error.strerror or error}") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
