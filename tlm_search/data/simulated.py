"""What a study with simulated members is told in the place of prepared data. Nothing is read or written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.data.prepared import PreparedData
from tlm_search.digest import digest

if TYPE_CHECKING:
    from tlm_search.space.schema import Space

_LABELS = 4
_UNLABELLED = 10_000  # texts, where the space does not say how many


def simulated_data(space: Space, root: Path) -> PreparedData:
    """Return the facts of a study whose members are simulated: four labels, the sizes asked for, and no files."""
    per_label = {part: getattr(space.task, f"{part}_per_label") for part in ("train", "validation", "test")}
    rows = {part: number * _LABELS for part, number in per_label.items()}
    documents = space.largest_pretrain_size()
    unlabelled = space.task.unlabelled
    texts = 0 if unlabelled is None else unlabelled.documents or _UNLABELLED
    return PreparedData(
        root=root,
        tokenizer="",
        corpus=None,
        train="",
        validation="",
        test="",
        documents=documents,
        vocabulary=(space.tokenizer.vocabulary or 30_522) + space.task.markers,
        length=space.tokenizer.length,
        labels=tuple(f"label {i}" for i in range(_LABELS)),
        rows=rows,
        tokens={part: number * space.tokenizer.length for part, number in {**rows, "corpus": documents}.items()},
        special={"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
        task_fingerprint=digest(["simulated task", space.task.model_dump(mode="json", exclude={"unlabelled"})]),
        tokenizer_fingerprint=digest(["simulated tokenizer", space.tokenizer.model_dump(mode="json")]),
        corpus_fingerprint=digest(["simulated corpus", space.corpus.model_dump(mode="json")]),
        corpus_name=space.corpus.source,
        task_name=space.task.source,
        unlabelled_texts=dict.fromkeys(("available", "used"), texts) if texts else {},
        unlabelled_fingerprint=f"simulated-{texts}" if texts else "",
        unlabelled_name="" if unlabelled is None else unlabelled.source,
    )
