"""Read several files as one table, in a fixed order, and only as many rows as needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from tlm_search.data.sources.files import kind_of, read_columns, reading
from tlm_search.data.sources.parquet import parquet_rows, read_parquet


def read_tables(
    files: Sequence[Path], columns: Sequence[str], *, seed: int | None = None, most: int | None = None
) -> dict[str, list[Any]]:
    """Return the named columns of the first ``most`` rows of ``files``, in file order; missing values are None.

    If ``seed`` is given, all rows are shuffled first, as `datasets` does. Of Parquet files only the row groups with
    such rows are read.

    Raises:
        DataError: a file is damaged or lacks a column.
    """
    return _in_order(files, columns, most) if seed is None else _shuffled(files, columns, seed, most)


def _in_order(files: Sequence[Path], columns: Sequence[str], most: int | None) -> dict[str, list[Any]]:
    read: dict[str, list[Any]] = {name: [] for name in columns}
    for file in files:
        left = None if most is None else most - len(read[columns[0]])
        if left == 0:
            break
        if left is None or kind_of(file) != "parquet":
            part = read_columns(file, columns)
        else:
            part = _rows_of(file, columns, range(min(left, _count(file))))
        for name in columns:
            read[name] += part[name][:left]
    return read


def _shuffled(files: Sequence[Path], columns: Sequence[str], seed: int, most: int | None) -> dict[str, list[Any]]:
    import numpy as np

    held = {file: read_columns(file, columns) for file in files if kind_of(file) != "parquet"}
    counts = [len(held[file][columns[0]]) if file in held else _count(file) for file in files]
    ends = list(accumulate(counts))
    chosen = np.random.default_rng(seed).permutation(ends[-1] if ends else 0)[:most]
    ascending = np.argsort(chosen, kind="stable")
    read: dict[str, np.ndarray[Any, Any]] = {name: np.empty(len(chosen), dtype=object) for name in columns}
    for file, count, end in zip(files, counts, ends, strict=True):
        first, last = np.searchsorted(chosen, [end - count, end], sorter=ascending)
        places = ascending[first:last]
        rows = (chosen[places] - (end - count)).tolist()
        if whole := held.pop(file, None):
            part = {name: [values[row] for row in rows] for name, values in whole.items()}
        else:
            part = _rows_of(file, columns, rows)
        for name, values in part.items():
            for place, value in zip(places, values, strict=True):
                read[name][place] = value
    return {name: values.tolist() for name, values in read.items()}


def _count(file: Path) -> int:
    with reading(file):
        return parquet_rows(file)


def _rows_of(file: Path, columns: Sequence[str], rows: Sequence[int] | range) -> dict[str, list[Any]]:
    with reading(file):
        return read_parquet(file, columns, rows=rows)
