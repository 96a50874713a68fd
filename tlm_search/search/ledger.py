"""A study in Optuna's storage: ask, report, tell, with true states. Only the driver writes here.

Optuna has no public way to set intermediate values and constraints of trials with several objectives, so this file
writes them to the storage. No other file writes to it, except that ``study/studies.py`` renames a study.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from tlm_search.digest import canonical_json
from tlm_search.search.note import note_of, save_note
from tlm_search.search.samplers import distribution_of, grid_points, make_pruner, next_sampler
from tlm_search.space.parameters import Range
from tlm_search.space.schema import Space
from tlm_search.space.settings import Value
from tlm_search.study.record import IMPORTED_FROM
from tlm_search.study.studies import StudyInStorage

_DRIVER_DIED = "its driver died"
_RUNG_NOTES = ("completed_rung_", "constraints")  # notes of pruner and driver; a repeated trial makes its own


@dataclass(frozen=True)
class Asked:
    """A trial to run; ``attempt`` counts the workers that died on it."""

    trial_id: int
    number: int
    params: Mapping[str, Value]
    settings: Mapping[str, Value]
    attempt: int
    retried: bool


class _ForPruner:
    """The storage as a pruner sees it: only the first objective, and no interrupted trials, which were repeated."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_study_directions(self, study_id: int) -> list[optuna.study.StudyDirection]:
        return list(self._storage.get_study_directions(study_id)[:1])

    def get_all_trials(self, study_id: int, **options: Any) -> list[FrozenTrial]:
        trials = self._storage.get_all_trials(study_id, **options)
        return [trial for trial in trials if not trial.user_attrs.get("interrupted")]


class Ledger:
    """The record of one study. Only the process that holds the study's lock may write it."""

    def __init__(self, study: StudyInStorage, space: Space) -> None:
        self.study = study
        self.space = space
        self._storage = study._storage
        self._pruner = make_pruner(space)
        self._seen_by_pruner = _view_for_pruner(study)
        self._distributions = {name: distribution_of(parameter) for name, parameter in space.searched().items()}
        self._grid = grid_points(space)
        self._asked: dict[int, optuna.Trial] = {}
        self.watchers: list[Callable[[FrozenTrial], None]] = []  # called with each trial that has ended

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials by number; do not change them."""
        return self._storage.get_all_trials(self.study._study_id, deepcopy=False)

    @property
    def waiting(self) -> int:
        """The number of enqueued trials."""
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    @property
    def left(self) -> float:
        """The number of trials that can still be asked for; infinite unless the sampler is a grid."""
        return max(0, len(self._grid) - self._next_of_grid()) + self.waiting if self._grid else math.inf

    @property
    def exhausted(self) -> bool:
        """Whether the sampler is a grid and all its points were asked for."""
        return self.left == 0

    def enqueue_points(self) -> None:
        """Enqueue the space's points that the study does not have yet."""
        there = {trial.user_attrs.get("point") for trial in self.trials}
        for point in self.space.points:
            name = canonical_json(point)
            if name not in there:
                self.study.enqueue_trial(dict(point), user_attrs={"point": name})

    def ask(self, proposal: int) -> Asked:
        """Create the next trial: an enqueued one, the grid's next, or what the sampler proposes."""
        if self._grid and not self.waiting:
            index = self._next_of_grid()
            self.study.enqueue_trial(self._grid[index], user_attrs={"grid": index})
        self.study.sampler = next_sampler(self.space, proposal, self.study.sampler)
        trial = self.study.ask()
        params: dict[str, Value] = {}
        for name in self._distributions:
            if self.space.is_active(name, params):
                params[name] = self._suggest(trial, name)
        attributes = trial.user_attrs
        self._asked[trial._trial_id] = trial
        return Asked(
            trial_id=trial._trial_id,
            number=trial.number,
            params=params,
            settings=self.space.settings(params),
            attempt=int(attributes.get("attempt", 0)),
            retried="retry_of" in attributes,
        )

    def report(self, trial_id: int, size: int, value: float) -> None:
        """Record the first objective at ``size`` members."""
        self._storage.set_trial_intermediate_value(trial_id, size, value)

    def should_prune(self, trial_id: int) -> bool:
        """Ask the pruner. Call ``report`` first."""
        if self._pruner is None:
            return False
        return bool(self._pruner.prune(self._seen_by_pruner, self._storage.get_trial(trial_id)))

    def complete(self, trial_id: int, values: Sequence[float], attributes: Mapping[str, Any]) -> None:
        """Close a trial that trained its whole committee."""
        self._close(trial_id, TrialState.COMPLETE, attributes, values)

    def prune(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Close a trial that the pruner stopped."""
        self._close(trial_id, TrialState.PRUNED, attributes)

    def fail(self, trial_id: int, error: str, attributes: Mapping[str, Any]) -> None:
        """Close a trial that failed, with the reason."""
        self._close(trial_id, TrialState.FAIL, {**attributes, "error": error})

    def interrupt(
        self, trial_id: int, reason: str, *, attempt: int = 0, counts: Mapping[str, int] | None = None
    ) -> None:
        """Close a trial that stopped for a reason other than itself, and enqueue it again.

        It does not count as finished; ``counts`` holds what it trained and reused. The new trial has ``retry_of``, the
        same parameters and the sampler's notes on them, so that nothing is sampled again.
        """
        trial = self._storage.get_trial(trial_id)
        drawn = self._is_drawn(trial)
        again = drawn or "fixed_params" in trial.system_attrs
        # Add the new trial first: if the driver is killed in between, the next start closes the old one.
        if again and not self._has_retry(trial.number):
            notes = {k: v for k, v in trial.system_attrs.items() if not k.startswith(_RUNG_NOTES)}
            if drawn:
                notes["fixed_params"] = dict(trial.params)
            source = {k: v for k, v in trial.user_attrs.items() if k in ("point", "grid")}
            self.study.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    params=dict(trial.params) if drawn else None,
                    distributions=dict(trial.distributions) if drawn else None,
                    user_attrs={**source, "retry_of": trial.number, "attempt": attempt},
                    system_attrs=notes,
                )
            )
        self._close(
            trial_id, TrialState.FAIL, {**(counts or {}), "error": reason, "interrupted": True, "proposed": again}
        )

    def close_running(self) -> list[int]:
        """Close the trials that a dead driver left running, and enqueue them again; return their numbers."""
        left = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
        for trial in left:
            self.interrupt(trial._trial_id, _DRIVER_DIED, attempt=int(trial.user_attrs.get("attempt", 0)))
        return [trial.number for trial in left]

    def add_finished(
        self,
        params: Mapping[str, Value],
        values: Sequence[float],
        violations: Sequence[float],
        attributes: Mapping[str, Any],
    ) -> None:
        """Add a finished trial of another study, with its ``violations`` of this study's constraints."""
        self.study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                params=dict(params),
                distributions={name: self._distributions[name] for name in params},
                values=list(values),
                user_attrs=dict(attributes),
                system_attrs={"constraints": list(violations)} if violations else {},
            )
        )

    def constrain(self, trial_id: int, violations: Sequence[float]) -> None:
        """Record the violations of the constraints where samplers and dashboard look for them."""
        # Both read a list. `Trial.set_constraint` writes a form that dashboard 0.21 does not know.
        if violations:
            self._storage.set_trial_system_attr(trial_id, "constraints", list(violations))

    def note(self, key: str, value: Any) -> None:
        """Set an attribute of the study."""
        self.study.set_user_attr(key, value)

    def noted(self, key: str) -> Any:
        """Return an attribute of the study, or None."""
        return self.study.user_attrs.get(key)

    def proposals(self) -> int:
        """Count the proposals so far: a retry is the same proposal again, and a waiting trial is none yet."""
        return sum(
            trial.state != TrialState.WAITING
            and "retry_of" not in trial.user_attrs
            and IMPORTED_FROM not in trial.user_attrs
            and trial.user_attrs.get("proposed", True)
            for trial in self.trials
        )

    def _suggest(self, trial: optuna.Trial, name: str) -> Value:
        match self._distributions[name]:
            case optuna.distributions.CategoricalDistribution(choices=choices):
                return trial.suggest_categorical(name, choices)  # type: ignore[return-value]
            case optuna.distributions.IntDistribution(low=low, high=high, log=log, step=step):
                return trial.suggest_int(name, low, high, log=log, step=step)
            case optuna.distributions.FloatDistribution(low=low, high=high, log=log, step=step):
                return self._exactly(name, trial.suggest_float(name, low, high, log=log, step=step))
            case other:
                raise TypeError(f"a space makes no such distribution: {other}")

    def _is_drawn(self, trial: FrozenTrial) -> bool:
        known: dict[str, Value] = {}
        for name in self._distributions:
            if self.space.is_active(name, known):
                if name not in trial.params:
                    return False
                known[name] = self._exactly(name, trial.params[name])
        return True

    def _exactly(self, name: str, value: Value) -> Value:
        # Optuna adds steps in binary: 0.30000000000000004 would be another member than 0.3 and match no condition.
        parameter = self.space.search[name]
        return parameter.exactly(value) if isinstance(parameter, Range) and not isinstance(value, str) else value

    def _has_retry(self, number: int) -> bool:
        return any(trial.user_attrs.get("retry_of") == number for trial in self.trials)

    def _next_of_grid(self) -> int:
        return 1 + max((int(trial.user_attrs.get("grid", -1)) for trial in self.trials), default=-1)

    def _close(
        self,
        trial_id: int,
        state: TrialState,
        attributes: Mapping[str, Any],
        values: Sequence[float] | None = None,
    ) -> None:
        # Attributes first, because a finished trial cannot be changed.
        for key, value in attributes.items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        self.study.tell(self._storage.get_trial_number_from_id(trial_id), values, state)
        trial = self._asked.pop(trial_id, None)
        if trial is not None and (note := note_of(attributes)):
            save_note(self._storage, self.study._study_id, trial_id, note)
        for watch in self.watchers:
            watch(self._storage.get_trial(trial_id))


def _view_for_pruner(study: StudyInStorage) -> optuna.Study:
    return optuna.Study(study_name=study.study_name, storage=_ForPruner(study._storage))  # type: ignore[arg-type]
