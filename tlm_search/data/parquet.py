"""Columns of Parquet files, with the names of classes where `datasets` wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlm_search.data.columns import DAMAGED, named, require_columns
from tlm_search.errors import DataError

_ROWS = 8192  # read at once when a column is streamed


def read_parquet(file: Path, columns: Sequence[str] | None) -> dict[str, list[Any]]:
    """Return the named columns, or all; numbered labels get the names that `datasets` keeps in the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if not file.is_file():
            raise FileNotFoundError(file)
        with pq.ParquetFile(file) as table:
            columns = columns or table.schema_arrow.names
            _require(table, columns, file)
            read = {name: table.read(columns=[name]).column(name).to_pylist() for name in columns}
            names = _class_names(table.schema_arrow.metadata or {})
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file}: it cannot be read as Parquet: {reason}", hint=DAMAGED) from error
    return {name: named(values, names.get(name)) for name, values in read.items()}


def stream_parquet(file: Path, column: str) -> Iterator[Any]:
    """Yield the values of one column, as they are in the file, a few thousand rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if not file.is_file():
            raise FileNotFoundError(file)
        with pq.ParquetFile(file) as table:
            _require(table, [column], file)
            for batch in table.iter_batches(columns=[column], batch_size=_ROWS):
                yield from batch.column(0).to_pylist()
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file}: it cannot be read as Parquet: {reason}", hint=DAMAGED) from error


def _require(table: Any, columns: Sequence[str], file: Path) -> None:
    present = table.schema_arrow.names
    require_columns(present, columns, str(file))
    twice = [name for name in columns if present.count(name) > 1]
    if twice:
        raise DataError(f"{file}: there are {present.count(twice[0])} columns {twice[0]!r}", hint="rename one of them")


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Return the names that `datasets` keeps for numbered labels in a Parquet file, by column."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {column: feature["names"] for column, feature in features.items() if "names" in feature}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
