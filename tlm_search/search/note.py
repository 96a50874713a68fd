"""The note on a trial in Optuna Dashboard: its configuration and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_PIECE = 2045  # characters per attribute, as in Optuna Dashboard; a database may not hold more


def note_of(attributes: Mapping[str, Any]) -> str:
    """Write a trial's attributes as Markdown: members and cost, the error, the resolved configuration."""
    parts = []
    if attributes.get("error"):
        parts.append(f"**Failed:** {attributes['error']}")
    if "members" in attributes:
        count, trained, reused = len(attributes["members"]), attributes["trained"], attributes["reused"]
        parts.append(f"**{count} members:** {trained} trained, {reused} reused, in {attributes['seconds']:.1f} s")
    metrics = attributes.get("metrics", {})
    if metrics:
        parts.append(_cost(metrics))
    rows = [f"| {name} | {value} |" for name, value in attributes.get("settings", {}).items()]
    if rows:
        parts.append("\n".join(["| setting | value |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def save_note(storage: BaseStorage, study_id: int, trial_id: int, note: str) -> None:
    """Replace the note of a trial, in the form of Optuna Dashboard.

    Optuna Dashboard's own function imports scikit-learn, which would delay the driver at its first trial.
    """
    prefix = f"dashboard:{trial_id}:note_"
    before = storage.get_study_system_attrs(study_id)
    pieces = [note[start : start + _PIECE] for start in range(0, len(note), _PIECE)]
    while f"{prefix}str:{len(pieces)}" in before:
        pieces.append("")
    storage.set_study_system_attr(study_id, f"{prefix}ver", before.get(f"{prefix}ver", 0) + 1)
    for number, piece in enumerate(pieces):
        storage.set_study_system_attr(study_id, f"{prefix}str:{number}", piece)


def _cost(metrics: Mapping[str, float]) -> str:
    forms = {
        "parameters": "{:,.0f} parameters",
        "training_flops": "{:.3g} FLOPs",
        "training_seconds": "{:.1f} s of training",
        "latency_ms": "{:.3g} ms a text",
    }
    cost = [form.format(metrics[name]) for name, form in forms.items() if name in metrics]
    return f"**Cost of all members:** {', '.join(cost)}"
