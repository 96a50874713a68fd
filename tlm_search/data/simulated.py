"""The data of a study with simulated members: facts without files. Nothing is read or written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tlm_search.data.prepared import PreparedData
from tlm_search.data.vocabulary.byte_level import BYTE_TOKENS
from tlm_search.digest import digest
from tlm_search.space.task import JUDGED_BY

if TYPE_CHECKING:
    from tlm_search.space.schema import Space
    from tlm_search.space.sections import TokenizerSection
    from tlm_search.space.task import TaskSection

_LABELS = 4
# Numbers of rows if the space does not give them.
_UNLABELLED = 10_000
_ROWS = {"train": 400, "validation": 200, "test": 400}


def simulated_data(space: Space, root: Path) -> PreparedData:
    """Return the facts of a simulated study: four labels, the requested sizes, and no files."""
    return PreparedData.joined([(tokens, _data(space, section, root)) for tokens, section in space.tokenizers])


def _data(space: Space, tokenizer: TokenizerSection, root: Path) -> PreparedData:
    rows = _rows(space.task)
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
        vocabulary=_vocabulary(tokenizer) + space.task.markers,
        length=tokenizer.length,
        labels=tuple(f"label {i}" for i in range(_LABELS)),
        rows=rows,
        tokens={part: number * tokenizer.length for part, number in {**rows, "corpus": documents}.items()},
        special={"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
        task_fingerprint=digest(
            ["simulated task", space.task.model_dump(mode="json", exclude={"unlabelled", *JUDGED_BY})]
        ),
        tokenizer_fingerprint=digest(["simulated tokenizer", tokenizer.model_dump(mode="json")]),
        corpus_fingerprint=digest(["simulated corpus", space.corpus.model_dump(mode="json")]),
        corpus_name=space.corpus.source,
        task_name=space.task.source,
        unlabelled_texts=dict.fromkeys(("available", "used"), texts) if texts else {},
        unlabelled_fingerprint=f"simulated-{texts}" if texts else "",
        unlabelled_name="" if unlabelled is None else unlabelled.source,
    )


def _vocabulary(tokenizer: TokenizerSection) -> int:
    if tokenizer.kind == "bytes":
        return BYTE_TOKENS
    return tokenizer.vocabulary or 30_522


def _rows(task: TaskSection) -> dict[str, int]:
    if task.per_label is not None:
        return {part: number * _LABELS for part, number in task.per_label.items()}
    asked = {"train": task.train_rows(_LABELS), "validation": task.validation, "test": task.test}
    return {part: number if isinstance(number, int) else _ROWS[part] for part, number in asked.items()}
