"""Give the sampler trials of other studies as prior knowledge. They do not count, and no table shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.errors import StudyError
from tlm_search.space.schema import Space
from tlm_search.space.settings import Value, tokens_of
from tlm_search.study.location import find_study, read_study
from tlm_search.study.record import IMPORTED_FROM, StudyRecord, TrialRecord

if TYPE_CHECKING:
    from tlm_search.search.ledger import Ledger

_DONE = "imported"  # the attribute of the study with the names of the imported studies


def import_trials(ledger: Ledger, folder: Path, announce: Callable[[str], None]) -> None:
    """Give the sampler the trials of the studies in ``import_from`` that fit this space, once.

    Their members are not needed: a configuration that is proposed again is trained with the seeds of this study.

    Raises:
        StudyError: a study does not exist, has other data, or has no trial that fits the space.
    """
    done: list[str] = ledger.noted(_DONE) or []
    for name in ledger.space.import_from:
        if name in done:
            continue
        other = read_study(find_study(name, folder.parent))
        _check_comparable(other, ledger.space, folder)
        there = {tuple(trial.user_attrs[IMPORTED_FROM]) for trial in ledger.trials if IMPORTED_FROM in trial.user_attrs}
        finished, misfits, taken = other.in_state("complete"), [], 0
        for trial in finished:
            params = _params(ledger.space, trial)
            if isinstance(params, str):
                misfits.append(f"trial {trial.number}: {params}")
                continue
            taken += 1
            if (name, trial.number) not in there:  # already imported by a run that was killed here
                _add(ledger, name, trial, params, other)
        if finished and not taken:
            raise StudyError(
                f"no trial of {name} fits this space: {'; '.join(misfits[:3])}",
                hint="import a study with the same settings, or remove it from import_from",
            )
        left = f", {len(misfits)} do not fit this space ({misfits[0]})" if misfits else ""
        announce(f"{taken} trials of {name} imported{left}")
        done = [*done, name]
        ledger.note(_DONE, done)


def _check_comparable(other: StudyRecord, space: Space, folder: Path) -> None:
    if other.folder.resolve() == folder.resolve():
        raise StudyError(f"import_from: {folder.name} is this study itself", hint="remove it from import_from")
    differs = [
        key for key in ("trainer", "corpus", "tokenizer", "task") if getattr(other.space, key) != getattr(space, key)
    ]
    if differs:
        raise StudyError(
            f"{other.folder.name} has another {' and another '.join(differs)}, so its results do not apply here",
            hint="import only studies on the same data",
        )


def _params(space: Space, trial: TrialRecord) -> Mapping[str, Value] | str:
    """Return the parameters of a trial in this space, or the reason why it does not fit."""
    params: dict[str, Value] = {}
    for name, parameter in space.searched().items():
        if space.is_active(name, params):
            value = trial.settings.get(name)
            if value is None or not parameter.contains(value):
                return f"{name} {value}; allowed: {parameter.words()}"
            params[name] = value
    settings = space.settings(params)
    for name in {**settings, **tokens_of(trial.settings)}:
        if trial.settings.get(name) != settings.get(name):
            here = settings.get(name, "as the section tokenizer says")
            return f"{name} {trial.settings.get(name)}; here {here}"
    lacking = [objective.metric for objective in space.objectives if objective.metric not in trial.metrics]
    return f"it has no {', '.join(lacking)}" if lacking else params


def _add(ledger: Ledger, name: str, trial: TrialRecord, params: Mapping[str, Value], other: StudyRecord) -> None:
    reference = None if other.reference is None else other.reference.metrics
    ledger.add_finished(
        params,
        [trial.metrics[objective.metric] for objective in ledger.space.objectives],
        [constraint.violation(trial.metrics, reference) for constraint in ledger.space.constraints],
        {IMPORTED_FROM: [name, trial.number], "settings": dict(trial.settings), "metrics": dict(trial.metrics)},
    )
