"""In which precision members are trained: the faster one here, measured once and kept in the store."""

from __future__ import annotations

from tlm_search.members.measured import measured
from tlm_search.members.store import Store
from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import machine
from tlm_search.training.settings import Precision
from tlm_search.training.speed import Objective, can_gain, faster_precision

PRECISION = "precision"


def measured_precision(architecture: Architecture, objective: Objective, *, device: str, store: Store) -> Precision:
    """Return the precision that trains faster here: measured once for an architecture on this kind of machine."""
    if device != "cpu" or not can_gain(architecture, objective):
        return "float32"
    where = machine(device)
    key = {"architecture": architecture.to_document(), "objective": objective, "machine": where}

    def measure() -> dict[str, Precision]:
        return {"precision": faster_precision(architecture, objective)}

    precision: Precision = measured(PRECISION, key, measure, machine=where, store=store)["precision"]
    return precision
