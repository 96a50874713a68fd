"""In which precision members are trained: the faster one here, measured once and kept in the store."""

from __future__ import annotations

from dataclasses import asdict

from tlm_search.digest import without_defaults
from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import machine
from tlm_search.store.local import Store
from tlm_search.store.measured import measured
from tlm_search.training.settings import Finetuning, Precision, Pretraining
from tlm_search.training.speed import Load, can_gain, faster_precision

PRECISION = "precision"
TOGETHER = 2  # members that are timed of a stack on a CPU: more gain more by bf16, and one alone loses little


def measured_precision(
    architecture: Architecture, settings: Pretraining | Finetuning, *, stack: int, device: str, store: Store
) -> Precision:
    """Return the precision that trains faster here: measured once for each kind of training on this kind of machine.

    On a CPU it depends on whether such members are trained in a ``stack``; a GPU takes as many as it holds.
    """
    load, members = Load.of(architecture, settings), min(stack, TOGETHER) if device == "cpu" else 1
    if not can_gain(architecture, load, device, members=members):
        return "float32"
    where = machine(device)
    shape = without_defaults(asdict(load), {"softmax": "full"})
    key = {"architecture": architecture.to_document(), **shape, "machine": where}
    if members > 1:
        key["members"] = members

    def measure() -> dict[str, Precision]:
        return {"precision": faster_precision(architecture, load, device, members=members)}

    precision: Precision = measured(PRECISION, key, measure, machine=where, store=store)["precision"]
    return precision
