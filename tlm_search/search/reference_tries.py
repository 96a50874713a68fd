"""The tries of a study's reference: the next one, the notes of each, and the choice of the best. No Ray, no Optuna.

A reference of one trial becomes the study's note ``reference`` when it has ended. With several trials each try becomes
the note ``reference try N``. Once all have ended, the best on validation becomes the note ``reference``; nothing is
compared with a reference before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tlm_search.space.schema import Space
from tlm_search.space.settings import SETTINGS, Value
from tlm_search.study.record import REFERENCE, REFERENCE_TRY


class Notes(Protocol):
    """The attributes of a study."""

    def note(self, key: str, value: Any) -> None:
        """Set an attribute."""
        ...

    def noted(self, key: str) -> Any:
        """Return an attribute, or None."""
        ...


class ReferenceTries:
    """The tries of the reference of ``space``, numbered from 1; ``notes`` are the study's."""

    def __init__(self, notes: Notes, space: Space) -> None:
        self._notes = notes
        self._settings = dict(enumerate(space.reference_tries(), start=1))
        self._metric = space.task.metric
        self._nuisance = space.reference_nuisance()
        self._running: set[int] = set()
        self._deaths: dict[int, int] = {}
        self._chosen: Mapping[str, Any] | None = notes.noted(REFERENCE)
        self._ended: dict[int, Mapping[str, Any]] = {}
        if self.count > 1:
            noted = {number: notes.noted(f"{REFERENCE_TRY}{number}") for number in self._settings}
            self._ended = {number: attributes for number, attributes in noted.items() if attributes}
        if self._chosen is not None and "error" in self._chosen:  # every try failed, so each is tried again
            self._chosen = None
            self._ended = {number: value for number, value in self._ended.items() if "error" not in value}
        self._left = [] if self._chosen is not None else [n for n in self._settings if n not in self._ended]

    @property
    def count(self) -> int:
        """The number of tries in all."""
        return len(self._settings)

    @property
    def done(self) -> int:
        """The number of tries that have ended."""
        return self.count - self.unfinished

    @property
    def unfinished(self) -> int:
        """The number of tries that run or are left."""
        return len(self._left) + len(self._running)

    @property
    def at_once(self) -> int:
        """The number of tries that run or can begin now."""
        return len(self._running) + sum(self._is_free(number) for number in self._left)

    def settings(self, number: int) -> Mapping[str, Value]:
        """Return all settings of a try."""
        return self._settings[number]

    def begin(self) -> int | None:
        """Take the next try. None if none is left, or if all of them wait for the pre-training of a running try."""
        number = next((number for number in self._left if self._is_free(number)), None)
        if number is not None:
            self._left.remove(number)
            self._running.add(number)
        return number

    def put_back(self, number: int) -> None:
        """Make an interrupted try the next one again."""
        self._running.discard(number)
        self._left.insert(0, number)

    def deaths(self, number: int) -> int:
        """Count one more dead worker of a try; return their number in this run."""
        self._deaths[number] = self._deaths.get(number, 0) + 1
        return self._deaths[number]

    def end(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Note the result of a try, with ``error`` if it failed."""
        if self.count == 1:
            self._notes.note(REFERENCE, dict(attributes))
            self._chosen = attributes
        else:
            self._notes.note(f"{REFERENCE_TRY}{number}", dict(attributes))
        self._ended[number] = attributes
        self._running.discard(number)

    def choose(self) -> tuple[int, Mapping[str, Any]] | None:
        """Note the best try as the reference, once all have ended; return its number and result.

        None if some have not ended, if every try failed, if it was chosen before, or if the reference has only one try.
        """
        if self._chosen is not None or self.unfinished or not self.count:
            return None
        results = [(number, self._ended[number]) for number in self._settings]
        worked = [(number, result) for number, result in results if "error" not in result]
        tried = {"tried": [self._tried(result) for _, result in results]}
        if not worked:
            first = results[0][1]
            error = f"all {self.count} tries failed; the first: {first['error']}"
            self._chosen = {"settings": first["settings"], "error": error, **tried}
            self._notes.note(REFERENCE, self._chosen)
            return None
        number, best = max(worked, key=lambda entry: float(entry[1]["metrics"][f"validation_{self._metric}"]))
        self._chosen = {**best, **tried}
        self._notes.note(REFERENCE, self._chosen)
        return number, best

    def _tried(self, result: Mapping[str, Any]) -> dict[str, Any]:
        settings = {"settings": {name: result["settings"][name] for name in self._nuisance}}
        if "error" in result:
            return {**settings, "error": result["error"]}
        names = [f"{split}_{name}" for name in ("accuracy", self._metric) for split in ("validation", "test")]
        return {**settings, **{name: result["metrics"][name] for name in names}}

    def _is_free(self, number: int) -> bool:
        """Return whether a worker can begin the try without waiting for the pre-training of a running one."""
        shared = _pretraining(self._settings[number])
        if not shared["pretrain_size"] or any(_pretraining(self._settings[n]) == shared for n in self._worked):
            return True
        return all(_pretraining(self._settings[other]) != shared for other in self._running)

    @property
    def _worked(self) -> list[int]:
        return [number for number, result in self._ended.items() if "error" not in result]


def _pretraining(settings: Mapping[str, Value]) -> dict[str, Value]:
    parts = ("tokens", "architecture", "pretraining")
    return {name: value for name, value in settings.items() if SETTINGS[name].part in parts}
