"""Read FewRel in its original layout: ``{relation: [{tokens, h, t}, ...]}``; h and t are [name, id, [[positions]]]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlm_search.data.markers import HEAD, TAIL
from tlm_search.data.rows import Labelled
from tlm_search.data.sources.files import read_json
from tlm_search.errors import DataError

NAMES = "pid2name.json"  # next to the data file: the names of the relations


def is_fewrel(value: Any) -> bool:
    """Return whether ``value``, read from JSON, has the layout of FewRel."""
    if not isinstance(value, dict) or not value:
        return False
    instances = next(iter(value.values()))
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        return False
    return {"tokens", "h", "t"} <= set(instances[0])


def read_fewrel(file: Path, value: Any, *, marked: bool = False) -> Labelled:
    """Return a text and a label for each instance of ``value``, read from ``file``.

    The text is ``head ; tail ; sentence``. It names both entities without special tokens, and before the sentence, so
    that cutting the text never removes them. If ``marked``, the text is the sentence with ``[E1] head [/E1]`` and
    ``[E2] tail [/E2]`` around the first mention of each entity. The label is the relation's name from
    ``pid2name.json`` if the same folder has this file, else the relation's id.

    Raises:
        DataError: the file has another layout, or an entity to mark has no position in its sentence.
    """
    if not is_fewrel(value):
        raise DataError(f"{file}: it does not have FewRel's layout", hint="expected: {relation: [{tokens, h, t}, ...]}")
    beside = file.parent / NAMES
    names = read_json(beside) if beside.is_file() else {}
    texts: list[str] = []
    labels: list[str] = []
    for relation, instances in value.items():
        label = str(names[relation][0]) if relation in names else str(relation)
        for number, instance in enumerate(instances, 1):
            try:
                text = _marked(instance) if marked else _prefixed(instance)
            except (KeyError, IndexError, TypeError) as error:
                raise DataError(f"{file}: {relation}, instance {number}: it lacks tokens, h or t") from error
            except ValueError as error:
                raise DataError(
                    f"{file}: {relation}, instance {number}: {error}",
                    hint="correct it, or leave out entities: marked, which needs the positions of both entities",
                ) from error
            texts.append(text)
            labels.append(label)
    return Labelled(texts, labels)


def _prefixed(instance: Mapping[str, Any]) -> str:
    return f"{instance['h'][0]} ; {instance['t'][0]} ; {' '.join(instance['tokens'])}"


def _marked(instance: Mapping[str, Any]) -> str:
    """Return the sentence with its markers. If an entity contains the other, its markers are outside.

    Raises:
        ValueError: an entity has no position in the sentence.
    """
    tokens = instance["tokens"]
    spans = [(*_place(instance[key], key, tokens), pair) for key, pair in (("h", HEAD), ("t", TAIL))]
    # Sorted by position. At the same position ends come before beginnings, and the longer entity's marker is outside.
    signs = []
    for order, (first, last, (begin, end)) in enumerate(spans):
        signs += [(first, 1, -last, order, begin), (last + 1, 0, -first, -order, end)]
    words, taken = [], 0
    for place, *_, sign in sorted(signs):
        words += [*tokens[taken:place], sign]
        taken = place
    return " ".join([*words, *tokens[taken:]])


def _place(entity: Any, key: str, tokens: Sequence[str]) -> tuple[int, int]:
    places = entity[2][0] if len(entity) > 2 and entity[2] else []
    if not places or not all(type(place) is int and 0 <= place < len(tokens) for place in places):
        raise ValueError(f"{key} has the positions {places} in a sentence of {len(tokens)} tokens")
    return min(places), max(places)
