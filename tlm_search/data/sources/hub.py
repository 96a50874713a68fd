"""Load data sets and tokenizers of the Hugging Face hub. Only this module uses `datasets`."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from tlm_search.data.sources.columns import named, require_columns
from tlm_search.errors import DataError

_SECONDS_TO_REACH_HUB = 5.0
_LIBRARIES = ("datasets", "huggingface_hub", "transformers", "fsspec")


def open_splits(source: str, *, config: str | None) -> Mapping[str, Any]:
    """Return the `datasets.Dataset` of each split of ``source``, a Hugging Face id.

    Hugging Face caches the data set. Without a network the cache is used at once, instead of after half a minute of
    attempts.

    Raises:
        DataError: the data set does not exist, this machine cannot get it, or it is damaged.
    """
    reachable = hub_is_reachable()
    with _quiet(), _offline(not reachable):
        import datasets
        from datasets.exceptions import DatasetGenerationError

        try:
            splits = datasets.load_dataset(source, name=config)
        except DatasetGenerationError as error:
            raise DataError(
                f"{source}: it cannot be read: {_reason(error.__cause__ or error)}",
                hint="check that its files are complete",
            ) from error
        except (OSError, ValueError, RuntimeError) as error:
            if not reachable or isinstance(error, ConnectionError):
                raise _missing("data set", source) from error
            hint = "check the id on huggingface.co/datasets, and its config"
            raise DataError(f"data set {source}: {_reason(error)}", hint=hint) from error
    return dict(splits)


def split_columns(
    split: Any, columns: Sequence[str], where: str, *, seed: int | None = None, most: int | None = None
) -> dict[str, list[Any]]:
    """Return the named columns of the first ``most`` rows of a split; with ``seed``, `datasets` shuffles it first.

    Raises:
        DataError: the split lacks a column.
    """
    require_columns(split.column_names, columns, where)
    with _quiet():
        rows = split.select_columns(list(columns))
        if seed is not None:
            rows = rows.shuffle(seed=seed)
        if most is not None:
            rows = rows.select(range(min(most, len(rows))))
        return {name: named(list(rows[name]), getattr(split.features[name], "names", None)) for name in columns}


def load_hub_tokenizer(name: str) -> Any:
    """Return the tokenizer that ``transformers.AutoTokenizer`` loads for ``name``, a folder or a Hugging Face id.

    Raises:
        DataError: the tokenizer does not exist, or needs code of its own.
    """
    is_local = Path(name).expanduser().is_dir()
    reachable = is_local or hub_is_reachable()
    with _quiet():
        from transformers import AutoTokenizer

        try:
            place = str(Path(name).expanduser()) if is_local else name
            # Never run code of a tokenizer. Without this argument transformers asks whether to run it.
            options = {"use_fast": True, "local_files_only": not reachable, "trust_remote_code": False}
            return AutoTokenizer.from_pretrained(place, **options)
        except (OSError, ValueError, KeyError, ImportError) as error:
            if not is_local and not reachable:
                raise _missing("tokenizer", name) from error
            if "trust_remote_code" in str(error):
                raise DataError(
                    f"tokenizer {name}: it needs its own code, which tlm-search never runs",
                    hint="name another tokenizer",
                ) from error
            raise DataError(
                f"tokenizer {name}: {_reason(error)}", hint="name a folder with a tokenizer, or an id"
            ) from error


@cache
def hub_is_reachable() -> bool:
    """Return whether the hub, or the proxy, accepts a connection; tried once per process, for a few seconds."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    address = urlsplit(getproxies().get(address.scheme, constants.ENDPOINT))
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_SECONDS_TO_REACH_HUB).close()
    except OSError:
        return False
    return True


def _missing(noun: str, name: str) -> DataError:
    local = "folder" if noun == "tokenizer" else "file or folder"
    return DataError(
        f"{noun} {name}: it is not on this machine, and the Hugging Face hub cannot be reached",
        hint=f"run once with a network, name a local {local}, "
        f"or put a copy into DIR/{name.rpartition('/')[2]} and give --data-dir DIR",
    )


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Make the libraries use only their caches. They read the environment only when they are imported."""
    if not wanted:
        yield
        return
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bars and log lines of the libraries."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    levels = {name: logging.getLogger(name).level for name in _LIBRARIES}
    datasets.disable_progress_bars()
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
