"""Optuna's samplers and pruners from the sections of a space.

A sampler is made anew for each proposal, seeded by the study's seed and the proposal's number. Its proposal depends
only on these and on the study's history, so a study that was killed and continued proposes the same as an undisturbed
one.
"""

from __future__ import annotations

import itertools
import random
import warnings

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tlm_search.space.parameters import Choices, Range
from tlm_search.space.samplers import (
    ASHAPruner,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    HyperbandPruner,
    MedianPruner,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    TPESampler,
)
from tlm_search.space.schema import Space
from tlm_search.space.settings import Value

# Attributes in which Optuna's samplers collect, trial by trial, the settings that all trials share.
_SHARED_SPACES = ("_search_space", "_intersection_search_space")


def next_sampler(
    space: Space, proposal: int, before: optuna.samplers.BaseSampler | None = None
) -> optuna.samplers.BaseSampler:
    """Return the sampler for proposal number ``proposal`` of the study.

    Each proposal has its own seed, so an interrupted study proposes the same as an undisturbed one. ``before`` is the
    sampler of the last proposal. Its search space is reused, because otherwise each sampler would read all trials
    again.
    """
    sampler = _make_sampler(space, proposal)
    for name in _SHARED_SPACES if type(before) is type(sampler) else ():
        if hasattr(before, name):
            setattr(sampler, name, getattr(before, name))
    return sampler


def _make_sampler(space: Space, proposal: int) -> optuna.samplers.BaseSampler:
    section = space.sampler
    seed = int(np.random.SeedSequence([space.seed, proposal]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match section:
            case TPESampler():
                return optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=section.n_startup_trials,
                    n_ei_candidates=section.n_ei_candidates,
                    multivariate=section.multivariate,
                    # Without groups a conditional parameter would be sampled independently of the others.
                    group=section.multivariate and any(parameter.when for parameter in space.searched().values()),
                    constant_liar=section.constant_liar,
                )
            case NSGAIISampler() | NSGAIIISampler():
                many = isinstance(section, NSGAIIISampler)
                return (optuna.samplers.NSGAIIISampler if many else optuna.samplers.NSGAIISampler)(
                    seed=seed,
                    population_size=section.population_size,
                    mutation_prob=section.mutation_prob,
                    crossover_prob=section.crossover_prob,
                )
            case GPSampler():
                return optuna.samplers.GPSampler(
                    seed=seed, n_startup_trials=section.n_startup_trials, warn_independent_sampling=False
                )
            case CmaEsSampler():
                return optuna.samplers.CmaEsSampler(
                    seed=seed,
                    n_startup_trials=section.n_startup_trials,
                    sigma0=section.sigma0,
                    popsize=section.popsize,
                    warn_independent_sampling=False,
                )
            case QMCSampler():
                # One sequence for the whole study; the storage holds the position in it.
                return optuna.samplers.QMCSampler(
                    qmc_type=section.qmc_type,
                    scramble=section.scramble,
                    seed=space.seed,
                    independent_sampler=optuna.samplers.RandomSampler(seed=seed),
                    warn_asynchronous_seeding=False,
                    warn_independent_sampling=False,
                )
            case _:  # random; the points of a grid are enqueued, so nothing is sampled
                return optuna.samplers.RandomSampler(seed=seed)


def make_pruner(space: Space) -> optuna.pruners.BasePruner | None:
    """Return the pruner over committee size, or None."""
    section = space.pruner
    match section:
        case MedianPruner():
            return optuna.pruners.MedianPruner(
                n_startup_trials=section.n_startup_trials, n_warmup_steps=section.n_warmup_steps
            )
        case ASHAPruner():
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=section.min_resource, reduction_factor=section.reduction_factor
            )
        case HyperbandPruner():
            return optuna.pruners.HyperbandPruner(
                min_resource=section.min_resource,
                max_resource=max(_largest_committee(space), section.min_resource),
                reduction_factor=section.reduction_factor,
            )
        case _:
            return None


def distribution_of(parameter: Choices | Range) -> BaseDistribution:
    """Return Optuna's distribution of a searched setting."""
    if isinstance(parameter, Choices):
        return CategoricalDistribution(parameter.choices)
    if parameter.whole:
        return IntDistribution(
            int(parameter.low), int(parameter.high), log=parameter.log, step=int(parameter.step or 1)
        )
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def grid_points(space: Space) -> list[dict[str, Value]]:
    """Return every different combination of the searched settings, in an order that depends on the study's seed."""
    if not isinstance(space.sampler, GridSampler):
        return []
    searched = space.searched()
    points: dict[tuple[tuple[str, Value], ...], None] = {}
    for values in itertools.product(*(parameter.values() for parameter in searched.values())):
        full = dict(zip(searched, values, strict=True))
        points[tuple((name, value) for name, value in full.items() if space.is_active(name, full))] = None
    unique = [dict(point) for point in points]
    random.Random(space.seed).shuffle(unique)
    return unique


def _largest_committee(space: Space) -> int:
    parameter = space.search.get("committee_size", 1)
    if isinstance(parameter, Range):
        return int(parameter.high)
    return max(int(size) for size in (parameter.choices if isinstance(parameter, Choices) else (parameter,)))
