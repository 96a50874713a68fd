"""The cheapest and most expensive configurations of a space. No torch here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tlm_search.space.parameters import Choices, Searched
from tlm_search.space.schema import Space
from tlm_search.space.settings import SETTINGS, Value

# Settings that affect the cost. Other settings (learning rates, dropout, pooling ...) need not be enumerated.
_COSTLY = (
    *(name for name, setting in SETTINGS.items() if setting.part in ("tokens", "architecture")),
    "committee_size",
    "pretrain_seeds",
    "pretrain_size",
    "pretrain_epochs",
    "initial_embeddings",
    "pretrain_batch_size",
    "masking_probability",
    "finetune_epochs",
    "finetune_batch_size",
    "self_training",
    "teachers",
    "student_epochs",
    "student_batch_size",
)
# Settings whose effect on the cost has no fixed direction. Large batches mean fewer updates but more memory. With a
# given width, large heads mean fewer heads. Students can take fewer updates than members that learn from labels.
# Without shared pre-trainings (0) the work is greater than with any number of them. A larger value of any other number
# never lowers work or memory.
_EITHER_WAY = (
    "pretrain_batch_size",
    "pretrain_seeds",
    "finetune_batch_size",
    "student_batch_size",
    "head_size",
    "self_training",
)


def extremes(space: Space) -> Iterator[dict[str, Value]]:
    """Yield parameters that include the cheapest and the most expensive trial, in work and in memory.

    Text settings, settings that decide whether others matter, and settings without a fixed direction of the cost are
    combined in all ways. For each combination the remaining settings take their lowest values, then their highest.
    """
    searched = space.searched()
    listed: dict[str, set[Value]] = {name: set() for name in searched}
    for parameter in searched.values():
        for parent, values in parameter.when.items():
            listed.get(parent, set()).update(values)
    combined: dict[str, list[Value]] = {}
    lowest: dict[str, Value] = {}
    highest: dict[str, Value] = {}
    for name, parameter in searched.items():
        other = _unlisted(parameter, listed[name])
        ends = _ends(parameter) if name in _COSTLY else {other}
        numbers = [end for end in ends if not isinstance(end, str)]
        if listed[name]:
            combined[name] = sorted(ends | listed[name] | {other}, key=str)
        elif name in _EITHER_WAY or not numbers:
            combined[name] = sorted(ends, key=str)
        else:
            lowest[name], highest[name] = min(numbers), max(numbers)
    for values in itertools.product(*combined.values()):
        for rest in (lowest, highest):
            yield {**rest, **dict(zip(combined, values, strict=True))}


def _ends(parameter: Searched) -> set[Value]:
    if not isinstance(parameter, Choices):
        return {parameter.low, parameter.high}
    numbers = [choice for choice in parameter.choices if not isinstance(choice, str)]
    return {min(numbers), max(numbers)} if numbers else set(parameter.choices)


def _unlisted(parameter: Searched, listed: set[Value]) -> Value:
    """Return a value that is not in the ``listed`` values of conditions, if the domain has one."""
    if not isinstance(parameter, Choices):
        return parameter.low
    return next((choice for choice in parameter.choices if choice not in listed), parameter.choices[0])
