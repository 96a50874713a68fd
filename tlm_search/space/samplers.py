"""The samplers and pruners of Optuna, each with the few options that matter. Names and defaults are Optuna's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tlm_search.space.section import Flag, Number, Problem, Section, Whole, refusal, refuse, unknown


class TPESampler(Section):
    """Tree-structured Parzen estimator: the default."""

    name: Literal["tpe"] = "tpe"
    n_startup_trials: Whole = Field(default=10, ge=0, description="random trials before the model is used")
    n_ei_candidates: Whole = Field(default=24, ge=1, description="candidates per trial; the best is tried")
    multivariate: Flag = Field(default=True, description="model the parameters together")
    constant_liar: Flag = Field(default=True, description="keep away from trials that are still running")


class NSGAIISampler(Section):
    """Genetic algorithm for two or three objectives."""

    name: Literal["nsgaii"] = "nsgaii"
    population_size: Whole = Field(default=50, ge=2, description="trials of a generation")
    mutation_prob: Number | None = Field(default=None, ge=0, le=1, description="null is 1 / number of parameters")
    crossover_prob: Number = Field(default=0.9, ge=0, le=1, description="share of children with two parents")


class NSGAIIISampler(Section):
    """Genetic algorithm for many objectives."""

    name: Literal["nsgaiii"] = "nsgaiii"
    population_size: Whole = Field(default=50, ge=2, description="trials of a generation")
    mutation_prob: Number | None = Field(default=None, ge=0, le=1, description="null is 1 / number of parameters")
    crossover_prob: Number = Field(default=0.9, ge=0, le=1, description="share of children with two parents")


class GPSampler(Section):
    """Gaussian process: for few, costly trials."""

    name: Literal["gp"] = "gp"
    n_startup_trials: Whole = Field(default=10, ge=0, description="random trials before the model is used")


class CmaEsSampler(Section):
    """Covariance matrix adaptation: for ranges and one objective."""

    name: Literal["cmaes"] = "cmaes"
    n_startup_trials: Whole = Field(default=1, ge=0, description="random trials before the model is used")
    sigma0: Number | None = Field(default=None, gt=0, description="first step; null: a sixth of the range")
    popsize: Whole | None = Field(
        default=None, ge=2, description="trials of a generation; null derives it from the parameters"
    )


class QMCSampler(Section):
    """Quasi-random points that fill the space evenly."""

    name: Literal["qmc"] = "qmc"
    qmc_type: Literal["sobol", "halton"] = Field(default="sobol", description="the sequence")
    scramble: Flag = Field(default=False, description="shuffle the sequence by the seed")


class RandomSampler(Section):
    """Independent random points."""

    name: Literal["random"] = "random"


class GridSampler(Section):
    """Every combination, in random order."""

    name: Literal["grid"] = "grid"


class NoPruner(Section):
    """Every trial trains its whole committee."""

    name: Literal["none"] = "none"


class MedianPruner(Section):
    """Stop a trial that is worse than the median at the same committee size."""

    name: Literal["median"] = "median"
    n_startup_trials: Whole = Field(default=5, ge=0, description="first trials, which are never stopped")
    n_warmup_steps: Whole = Field(default=0, ge=0, description="committees up to this size are never stopped")


class ASHAPruner(Section):
    """Successive halving without waiting, over committee size."""

    name: Literal["asha"] = "asha"
    min_resource: Whole = Field(default=1, ge=1, description="smallest committee that can be stopped")
    reduction_factor: Whole = Field(default=4, ge=2, description="at each rung one trial in this many continues")


class HyperbandPruner(Section):
    """Successive halving with several starts, over committee size."""

    name: Literal["hyperband"] = "hyperband"
    min_resource: Whole = Field(default=1, ge=1, description="smallest committee that can be stopped")
    reduction_factor: Whole = Field(default=3, ge=2, description="at each rung one trial in this many continues")


SamplerSection = (
    TPESampler | NSGAIISampler | NSGAIIISampler | GPSampler | CmaEsSampler | QMCSampler | RandomSampler | GridSampler
)
PrunerSection = NoPruner | MedianPruner | ASHAPruner | HyperbandPruner

SAMPLERS: Mapping[str, type[SamplerSection]] = {
    "tpe": TPESampler,
    "nsgaii": NSGAIISampler,
    "nsgaiii": NSGAIIISampler,
    "gp": GPSampler,
    "cmaes": CmaEsSampler,
    "qmc": QMCSampler,
    "random": RandomSampler,
    "grid": GridSampler,
}
PRUNERS: Mapping[str, type[PrunerSection]] = {
    "none": NoPruner,
    "median": MedianPruner,
    "asha": ASHAPruner,
    "hyperband": HyperbandPruner,
}


def read_sampler(raw: Any) -> SamplerSection:
    """Read a sampler's name, or its name and options."""
    kind, options = _named(raw, SAMPLERS, "sampler", default="tpe")
    return SAMPLERS[kind].model_validate(options)


def read_pruner(raw: Any) -> PrunerSection:
    """Read a pruner's name, or its name and options."""
    kind, options = _named(raw, PRUNERS, "pruner", default="none")
    return PRUNERS[kind].model_validate(options)


def _named(raw: Any, kinds: Mapping[str, Any], word: str, *, default: str) -> tuple[str, Mapping[str, Any]]:
    if isinstance(raw, Section):
        raw = raw.model_dump()
    options = {"name": raw} if isinstance(raw, str) else raw
    if not isinstance(options, Mapping):
        raise refuse([Problem((), refusal(raw, f"one of {', '.join(kinds)}, or a mapping with name and options"))])
    name = options.get("name", default)
    if not isinstance(name, str) or name not in kinds:
        raise refuse([Problem(() if isinstance(raw, str) else ("name",), unknown(word, name, kinds))])
    return name, {**options, "name": name}
