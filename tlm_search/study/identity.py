"""Check that a study can continue with a space and data: everything that decides its results must be the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tlm_search.data.prepared import SPLITS, PreparedData
from tlm_search.data.sources.place import PYDOCS
from tlm_search.errors import StudyError
from tlm_search.space.schema import Space

if TYPE_CHECKING:
    from optuna.study import Study

_LONGEST_ECHO = 60
_ANEW = "choose another --name, or move the old study aside with --fresh; trained members are reused"
# The names of the fingerprinted data in messages.
_PARTS = {
    "task_fingerprint": "the rows of the task {task_name}",
    "corpus_fingerprint": "the corpus {corpus_name}",
    "tokenizer_fingerprint": "the vocabulary",
    "unlabelled_fingerprint": "the unlabelled texts {unlabelled_name}",
}


def check_same_space(study: Study, space: Space) -> None:
    """Refuse to continue a study with another space.

    Raises:
        StudyError: the spaces differ in more than budget, resources and names; the message lists the differences.
    """
    if study.user_attrs.get("space_digest") in (None, space.digest):
        return
    old, new = _flat(Space.from_document(study.user_attrs["space"], stored=True).identity()), _flat(space.identity())
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    changes = [f"{key}: {_short(old.get(key))} there, {_short(new.get(key))} here" for key in keys]
    more = f"; and {len(changes) - 4} more" if len(changes) > 4 else ""
    hint = _ANEW
    if old.get("task.train_per_label") and space.task.per_label is None:
        # Balanced samples were once the default of every task, and now only of pydocs.
        kept = ", ".join(f"{part}_per_label: {old[f'task.{part}_per_label']}" for part in SPLITS)
        hint = f"to continue it give task its balanced samples: {kept}; or {hint}"
    raise StudyError(f"the study {study.study_name} has another space: {'; '.join(changes[:4])}{more}", hint=hint)


def check_same_data(study: Study, data: PreparedData) -> None:
    """Refuse to continue a study with other data, because the results could not be compared.

    Raises:
        StudyError: rows, corpus, vocabulary or unlabelled texts have changed since the study began.
    """
    noted = study.user_attrs.get("data")
    if noted is None:
        return
    now = asdict(data)
    changed = [
        words.format(**now) for part, words in _PARTS.items() if _fingerprints(noted, part) != _fingerprints(now, part)
    ]
    if not changed:
        return
    back = "restore the old data"
    if PYDOCS in (data.task_name, data.corpus_name):
        back = f"{PYDOCS} consists of installed packages: restore the old versions of Python and packages"
    raise StudyError(
        f"the study {study.study_name} began with other data; changed since: {', '.join(changed)}",
        hint=f"{back}; or {_ANEW} where their data are the same",
    )


def _fingerprints(data: Mapping[str, Any], part: str) -> list[str]:
    """Return the fingerprints of a part of the data, one for each tokenizer of the study."""
    own = data.get(part, "")
    return [own, *(variant["data"].get(part, own) for variant in data.get("variants", ()))]


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, value in document.items():
        keys = {f"{section}.{key}": item for key, item in value.items()} if isinstance(value, Mapping) else {}
        flat.update(keys or {section: value})
    return flat


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {item}" for key, item in value.items() if item not in (None, False, {}))
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _LONGEST_ECHO else f"{text[: _LONGEST_ECHO - 3]}..."
