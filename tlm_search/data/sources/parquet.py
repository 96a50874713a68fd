"""Read columns of Parquet files, with the class names that `datasets` writes into the files."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from tlm_search.data.sources.columns import DAMAGED, named, require_columns, require_one
from tlm_search.errors import DataError

_ROWS = 8192  # rows at once when a column is streamed


def read_parquet(
    file: Path, columns: Sequence[str] | None, *, rows: Sequence[int] | range | None = None
) -> dict[str, list[Any]]:
    """Return the named columns, or all. Numbered labels become the class names that `datasets` wrote into the file.

    ``rows`` are the ascending numbers of the rows to return. Only the row groups that hold them are read.
    """
    with _opened(file) as table:
        columns = columns or table.schema_arrow.names
        _require(table, columns, file)
        names = _class_names(table.schema_arrow.metadata or {})
        if rows is None:
            read = {name: table.read(columns=[name]).column(name).to_pylist() for name in columns}
        else:
            read = {name: [] for name in columns}
            for group, places in _by_group(table, rows):
                for name in columns:
                    read[name] += table.read_row_group(group, columns=[name]).column(name).take(places).to_pylist()
    return {name: named(values, names.get(name)) for name, values in read.items()}


def stream_parquet(file: Path, column: str) -> Iterator[Any]:
    """Yield the unconverted values of a column, reading a few thousand rows at a time."""
    with _opened(file) as table:
        _require(table, [column], file)
        for batch in table.iter_batches(columns=[column], batch_size=_ROWS):
            yield from batch.column(0).to_pylist()


def parquet_rows(file: Path) -> int:
    """Return the number of rows. Only the end of the file is read."""
    with _opened(file) as table:
        return int(table.metadata.num_rows)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if not file.is_file():
            raise FileNotFoundError(file)
        with file.open("rb") as stream, pq.ParquetFile(stream) as table:
            yield table
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file}: it cannot be read as Parquet: {reason}", hint=DAMAGED) from error


def _by_group(table: Any, rows: Sequence[int] | range) -> Iterator[tuple[int, list[int]]]:
    """Yield each row group that holds some of ``rows``: its number, and the positions of these rows in it."""
    sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    begins = [0, *accumulate(sizes)]
    for group, numbers in groupby(rows, key=lambda row: bisect_right(begins, row) - 1):
        yield group, [int(row) - begins[group] for row in numbers]


def _require(table: Any, columns: Sequence[str], file: Path) -> None:
    present = table.schema_arrow.names
    require_columns(present, columns, str(file))
    require_one(present, columns, str(file))


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Return the class names that `datasets` wrote into a Parquet file, by column."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {column: feature["names"] for column, feature in features.items() if "names" in feature}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
