"""Choose the precision of training: the faster precision on this machine, measured once and stored."""

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
TOGETHER = 2  # members timed on a CPU; a larger stack gains more from bf16, a single member loses little


def measured_precision(
    architecture: Architecture, settings: Pretraining | Finetuning, *, stack: int, device: str, store: Store
) -> Precision:
    """Return the precision that trains faster here, measured once for each kind of training and machine.

    On a CPU the result depends on whether members are trained in a ``stack``. On a GPU a single member is timed.
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
