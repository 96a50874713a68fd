"""Choose the size of a study for a machine and a corpus, from a ladder of scales with guessed times.

Nothing is measured here, so the same machine gets the same study. The caller passes how much slower the machine is than
guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt

from tlm_search.cost.machine import Machine
from tlm_search.cost.plan import Cost, DataSizes, plan
from tlm_search.cost.shares import Shares
from tlm_search.cost.wall_time import wall_seconds
from tlm_search.errors import ResourceError
from tlm_search.space.schema import Space

MOST_SECONDS = 30 * 60.0  # of a suggested study
MUCH_LONGER = 1.25  # if the time is this many times the guess, or half an hour, another size is suggested
# Operations a second, as ``plan`` counts them, and additional seconds an update: for a core measured on trials of the
# main job (studies/recorded/committee), for a GPU a cautious guess.
_CORE, _GPU = (22e9, 4e-3), (5e12, 4e-3)
_THREADS_GAIN = 0.7  # n threads do n^0.7 times the work of a single thread
_AT_ONCE = 8  # trials; more would be proposed without the results of the others


@dataclass(frozen=True)
class Scale:
    """The settings of a study on corpora with at least ``least_documents``; members see up to ``documents``."""

    least_documents: int
    documents: int
    widths: tuple[int, ...]
    committee_sizes: tuple[int, ...]
    reference_depth: int


SCALES = (
    Scale(0, 2_000, (32,), (1, 2, 4), 4),
    Scale(0, 6_000, (32, 64), (1, 2, 4, 8), 4),
    Scale(6_000, 18_000, (32, 64), (1, 2, 4, 8), 4),
    Scale(18_001, 36_000, (64, 128), (1, 2, 4, 8), 4),
    Scale(36_000, 90_000, (64, 128), (1, 2, 4, 8), 6),
    Scale(90_000, 200_000, (128, 256), (1, 2, 4, 8), 6),
    Scale(200_000, 500_000, (128, 256), (1, 2, 4, 8, 16), 6),
)
_FEW, _ENOUGH, _MANY = 10, 20, 40  # trials
_FEW_ROWS, _EPOCHS, _FEWEST_EPOCHS = 1_000, 15, 3  # of a fine-tuning


@dataclass(frozen=True)
class Suited:
    """A scale, a number of trials, and the guessed ``seconds`` of their study."""

    scale: Scale
    trials: int
    seconds: float


def suited(
    machine: Machine,
    space_of: Callable[[Scale, int], Space],
    *,
    documents: int,
    labels: int,
    train_rows: int,
    slower: float = 1.0,
) -> Suited:
    """Return the largest scale, then the most trials, with a guessed time of at most half an hour on ``machine``.

    ``space_of`` returns the study of a scale and a number of trials. The corpus has ``documents`` documents, the task
    has ``train_rows`` rows and ``labels`` labels. Scales that do not fit into memory are left out. If every scale takes
    longer than half an hour, the smallest is returned. ``slower`` is the ratio of measured to guessed time on this
    machine.

    Raises:
        ResourceError: even the smallest scale does not fit into memory.
    """
    for scale in reversed(SCALES):
        for trials in (_MANY, _ENOUGH):
            if scale.least_documents <= documents:
                try:
                    seconds = slower * _seconds(space_of(scale, trials), machine, labels, train_rows)
                except ResourceError:
                    continue
                if seconds <= MOST_SECONDS:
                    return Suited(scale, trials, seconds)
    seconds = slower * _seconds(space_of(SCALES[0], _FEW), machine, labels, train_rows)
    return Suited(SCALES[0], _FEW, seconds)


def finetuning(train_rows: int) -> tuple[int, int]:
    """Return the epochs and the batch size for fine-tuning on ``train_rows`` rows.

    More rows get fewer epochs and larger batches.
    """
    epochs = min(_EPOCHS, max(_FEWEST_EPOCHS, round(_EPOCHS * sqrt(_FEW_ROWS / train_rows))))
    return epochs, 8 if train_rows <= _FEW_ROWS else 16 if train_rows <= 4 * _FEW_ROWS else 32


def cpus_per_trial(machine: Machine) -> int:
    """Return the cores of a trial: more than one if the machine has enough cores for several trials."""
    return max(1, int(machine.cpus) // _AT_ONCE)


def _seconds(space: Space, machine: Machine, labels: int, train_rows: int) -> float:
    sizes = replace(DataSizes.of_space(space), labels=labels, train_rows=train_rows)
    costs, shares = plan(space, sizes), Shares(space, [machine])
    seconds = partial(guessed_seconds, space=space, gpus=bool(machine.gpus))
    wall = wall_seconds(costs, space, concurrent=shares.concurrent(), stacked=shares.least_stacked(), seconds=seconds)
    return wall["expected"]


def guessed_seconds(cost: Cost, *, space: Space, gpus: bool) -> float:
    """Guess the seconds of a cost if trials run one after another, each with its share of the machine in ``space``."""
    operations, update = _GPU if gpus else _CORE
    if not gpus:
        operations *= space.resources.cpus_per_trial**_THREADS_GAIN
    return cost.flops / operations + cost.updates * update
