"""Variants: named changes of a space file for other scales, tasks or choices.

``variants`` maps words that the file invents, such as ``scale``, to named changes of the file::

    variants:
      scale:
        full: {}                                # the first is the default
        cpu: {search: {width: 64}, budget: {trials: 4}}

``scale: cpu``, in the file or by ``--set scale=cpu``, chooses the second. A change is a JSON Merge Patch (RFC 7396):
mappings are merged, other values are replaced, null removes a key. Changes are applied in the order of the words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tlm_search.space.section import Path, Problem, refusal, unknown

KEY = "variants"


@dataclass(frozen=True)
class Taken:
    """The ``data`` of a file after its ``variants`` were applied; ``names`` has the chosen name of each word."""

    data: dict[str, Any]
    variants: Mapping[str, Any]
    names: tuple[tuple[str, str], ...]

    def suffixes(self) -> list[str]:
        """Return the chosen names that are not the first of their word.

        They distinguish this study from the study of the unchanged file.
        """
        return [name for word, name in self.names if name != next(iter(self.variants[word]))]

    def origin(self, path: Path) -> Path:
        """Return where the file last gives the key at ``path``: in a chosen variant, or outside of variants."""
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
    """Apply the chosen variants to ``data``, and remove the keys that chose them.

    A wrong variant is skipped and added to ``problems``. No variant may have a key in ``taken``, the keys of a space.
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
