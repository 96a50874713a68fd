from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tlm_search.space.schema import Space

WORDS = ["the", "of", "model", "data", "value", "graph", "table", "index", "layer", "field", "query", "label", "point"]


def sentence(number: int) -> str:
    """Return a different text for each number."""
    picked = [WORDS[(number * step + step * step) % len(WORDS)] for step in range(1, 9)]
    return f"{' '.join(picked)} number {number}"


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    file = tmp_path / "task.csv"
    rows = [f'"{label} {sentence(i)}",{label}' for i in range(20) for label in ("red", "blue", "green")]
    file.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    file = tmp_path / "corpus.jsonl"
    file.write_text("".join(json.dumps({"text": sentence(i)}) + "\n" for i in range(50)), encoding="utf-8")
    return file


@pytest.fixture
def space_of(task_file: Path, corpus_file: Path) -> Callable[..., Space]:
    def make(**sections: object) -> Space:
        task = {"source": str(task_file), "train_per_label": 6, "validation_per_label": 4, "test_per_label": 5}
        document = {
            "corpus": str(corpus_file),
            "tokenizer": {"vocabulary": 100, "length": 12},
            "search": {"pretrain_size": 40},
            **sections,
        }
        document["task"] = {**task, **sections.get("task", {})}  # type: ignore[dict-item]
        return Space.from_document(document)

    return make
