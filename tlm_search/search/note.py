"""The note that Optuna Dashboard shows on a trial: what it was made of, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def note_of(attributes: Mapping[str, Any]) -> str:
    """Write a trial's attributes as Markdown: members and cost, its error, its resolved configuration."""
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


def _cost(metrics: Mapping[str, float]) -> str:
    forms = {
        "parameters": "{:,.0f} parameters",
        "training_flops": "{:.3g} FLOPs",
        "training_seconds": "{:.1f} s of training",
        "latency_ms": "{:.3g} ms a text",
    }
    cost = [form.format(metrics[name]) for name, form in forms.items() if name in metrics]
    return f"**Cost of all members:** {', '.join(cost)}"
