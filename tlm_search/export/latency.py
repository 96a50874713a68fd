"""Measure the latency of exports on this machine: committees in torch and in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tlm_search.export.committee import Committee
from tlm_search.export.folder import ONNX, ONNX_INT8
from tlm_search.export.onnx import open_session, run
from tlm_search.model.latency import Answer, race, torch_threads

TORCH = "torch"
FORMS = {ONNX: "onnxruntime", ONNX_INT8: "onnxruntime int8"}


@dataclass(frozen=True)
class Row:
    """One measurement; ``ratio`` is its median over that of the reference's fastest form in the same conditions."""

    threads: int
    texts: int
    model: str
    form: str
    members: int
    p50_ms: float
    p95_ms: float
    ratio: float | None


def measure_exports(
    folders: Sequence[Path], *, threads: int, texts: int, reference: Path | None, seconds: float
) -> list[Row]:
    """Measure the exports in ``folders`` in turn on ``texts`` texts of full length, in torch and in their ONNX graphs.

    Tokenising is not measured. ``seconds`` is the time for all.

    Raises:
        ExportError: an export was changed after it was written, or it has a graph and ONNX Runtime is not installed.
    """
    forms = [form for folder in folders for form in _forms(folder, threads=threads, texts=texts)]
    with torch_threads(threads):
        measured = race({str(index): answer for index, (*_, answer) in enumerate(forms)}, seconds=seconds)
    rows = []
    for index, (folder, form, members, _) in enumerate(forms):
        time = measured[str(index)]
        rows.append((folder, Row(threads, texts, folder.name, form, members, time.p50_ms, time.p95_ms, None)))
    base = min((row.p50_ms for folder, row in rows if folder == reference), default=None)
    return [replace(row, ratio=None if base is None else row.p50_ms / base) for _, row in rows]


def _forms(folder: Path, *, threads: int, texts: int) -> Iterator[tuple[Path, str, int, Answer]]:
    committee = Committee.load(folder)
    ids = np.random.default_rng(0).integers(1, committee.vocabulary, (texts, committee.length))
    tensor, mask = torch.from_numpy(ids), np.ones_like(ids, dtype=np.bool_)

    def with_torch() -> torch.Tensor:
        return committee.vote(tensor, None)

    yield folder, TORCH, committee.size, with_torch
    for name, form in FORMS.items():
        if (folder / name).is_file():
            yield folder, form, committee.size, _with_onnx(folder / name, ids, mask, threads=threads)


def _with_onnx(file: Path, ids: NDArray[np.int64], mask: NDArray[np.bool_], *, threads: int) -> Answer:
    session = open_session(file, threads=threads)
    return lambda: torch.from_numpy(run(session, ids, mask)[0])
