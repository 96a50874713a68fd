"""FewRel in its original layout: ``{relation: [{tokens, h, t}, ...]}``, h and t being [name, id, [[positions]]]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlm_search.data.files import read_json
from tlm_search.data.sampling import Labelled
from tlm_search.errors import DataError

NAMES = "pid2name.json"  # beside the file: what its relations are called


def is_fewrel(value: Any) -> bool:
    """Say whether ``value``, read from JSON, has the layout of FewRel."""
    if not isinstance(value, dict) or not value:
        return False
    instances = next(iter(value.values()))
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        return False
    return {"tokens", "h", "t"} <= set(instances[0])


def read_fewrel(file: Path, value: Any) -> Labelled:
    """Return a text and a label for each instance of ``value``, read from ``file``.

    The text is ``head ; tail ; sentence``: it says which two entities are meant, in words that any tokenizer knows, and
    before the sentence, so that no cut loses them. The label is the relation's name in ``pid2name.json`` where that
    lies beside the file, else its id.

    Raises:
        DataError: the file has another layout.
    """
    if not is_fewrel(value):
        raise DataError(f"{file}: it has not FewRel's layout", hint="expected: {relation: [{tokens, h, t}, ...]}")
    beside = file.parent / NAMES
    names = read_json(beside) if beside.is_file() else {}
    texts: list[str] = []
    labels: list[str] = []
    for relation, instances in value.items():
        label = str(names[relation][0]) if relation in names else str(relation)
        for number, instance in enumerate(instances, 1):
            try:
                text = f"{instance['h'][0]} ; {instance['t'][0]} ; {' '.join(instance['tokens'])}"
            except (KeyError, IndexError, TypeError) as error:
                raise DataError(f"{file}: {relation}, instance {number}: it lacks tokens, h or t") from error
            texts.append(text)
            labels.append(label)
    return Labelled(texts, labels)
