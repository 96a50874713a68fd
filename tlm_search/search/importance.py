"""The importance of settings, by Optuna's estimate from finished trials."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import optuna

from tlm_search.search.samplers import distribution_of
from tlm_search.space.schema import Space
from tlm_search.study.record import TrialRecord


def importances(space: Space, trials: Sequence[TrialRecord], metric: str) -> dict[str, float]:
    """Return the share of each searched setting in the variance of ``metric``; empty if it cannot be estimated.

    Source: Watanabe et al. 2023 (PED-ANOVA), over the settings that all ``trials`` have.
    """
    distributions = {name: distribution_of(domain) for name, domain in space.searched().items()}
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # Optuna marks PED-ANOVA as experimental
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), study_name="importance")
        try:
            frozen = [
                optuna.trial.create_trial(
                    params=dict(trial.params),
                    distributions={name: distributions[name] for name in trial.params},
                    value=-trial.metrics[metric],  # PED-ANOVA assumes that low values are good
                )
                for trial in trials
                if trial.params.keys() <= distributions.keys()
            ]
            study.add_trials(frozen)
            scores = optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError):  # a value outside the space, or all values equal
            return {}
    return {name: float(score) for name, score in scores.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
