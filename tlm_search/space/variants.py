"""Variants: what a file says for other scales, tasks or choices beside its own, and how one is taken.

``variants`` maps words of the file's own, such as ``scale``, to named changes of the file::

    variants:
      scale:
        full: {}                                # the first is taken where nothing is said
        cpu: {search: {width: 64}, budget: {trials: 4}}

``scale: cpu``, in the file or by ``--set scale=cpu``, takes the second. A change is a JSON Merge Patch (RFC 7396):
mappings are merged, everything else is replaced, null removes a key. Changes are made in the order of the words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tlm_search.space.section import Path, Problem, refusal, unknown

KEY = "variants"


@dataclass(frozen=True)
class Taken:
    """The ``data`` of a file once its ``variants`` are taken; ``names``: which of each word."""

    data: dict[str, Any]
    variants: Mapping[str, Any]
    names: tuple[tuple[str, str], ...]

    def suffixes(self) -> list[str]:
        """Return the names that distinguish this study from that of the unchanged file.

        They are the taken names that are not the first of their word.
        """
        return [name for word, name in self.names if name != next(iter(self.variants[word]))]

    def origin(self, path: Path) -> Path:
        """Return where in the file the key at ``path`` was last said: in a variant that was taken, or as it is."""
        for word, name in reversed(self.names):
            change = self.variants[word][name]
            for step in path:
                if not isinstance(change, Mapping) or step not in change:
                    break
                change = change[step]
            else:
                return (KEY, word, name, *path)
        return path


def take_variants(data: Mapping[str, Any], problems: list[Problem], *, taken: Collection[str]) -> Taken:
    """Return ``data`` with the changes of its variants made, and without what only chose them.

    What is wrong is added to ``problems``; that variant is then left out. The keys ``taken`` are words of the space, so
    no variant may have them.
    """
    variants = data.get(KEY, {})
    if not _is_well_formed(variants, problems, taken):
        return Taken({key: value for key, value in data.items() if key != KEY}, {}, ())
    result = {key: value for key, value in data.items() if key != KEY and key not in variants}
    names = []
    for word, changes in variants.items():
        name = data.get(word, next(iter(changes)))
        if not isinstance(name, str) or name not in changes:
            problems.append(Problem((word,), unknown(word, name, changes)))
            continue
        result = _merged(result, changes[name])
        names.append((word, name))
    return Taken(result, variants, tuple(names))


def _is_well_formed(variants: Any, problems: list[Problem], taken: Collection[str]) -> bool:
    before = len(problems)
    if not isinstance(variants, Mapping):
        problems.append(Problem((KEY,), refusal(variants, "a mapping from a word to named changes")))
        return False
    for word, changes in variants.items():
        if word in taken or word == KEY:
            problems.append(Problem((KEY, word), f"given {word}; allowed: a word that is no key of a space"))
        elif not isinstance(changes, Mapping) or not changes:
            problems.append(Problem((KEY, word), refusal(changes, "a mapping from names to changes")))
        else:
            problems += [
                Problem((KEY, word, name), refusal(change, "a mapping with the keys that it changes; {} for none"))
                for name, change in changes.items()
                if not isinstance(change, Mapping)
            ]
    return len(problems) == before


def _merged(value: Any, change: Any) -> Any:
    if not isinstance(change, Mapping):
        return change
    kept = dict(value) if isinstance(value, Mapping) else {}
    for key, new in change.items():
        if new is None:
            kept.pop(key, None)
        else:
            kept[key] = _merged(kept.get(key), new)
    return kept
