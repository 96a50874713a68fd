from collections.abc import Callable
from pathlib import Path

import builders
import numpy as np
import pytest
from driven import Bench, space_of

from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda **sections: Bench(tmp_path, space_of(**sections))


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    """A corpus of 40 texts and a task of three labels, whose texts use different words."""
    generator = np.random.default_rng(0)

    def text(label: int) -> list[int]:
        return [2, *(10 + 5 * label + generator.integers(0, 5, 6)).tolist(), 3]

    root = tmp_path / "store"
    TokenArray.write(root / "corpus", [text(i % 3) for i in range(40)], vocabulary=40)
    rows = {"train": 30, "validation": 12, "test": 18}
    for split, count in rows.items():
        labels = np.arange(count) % 3
        TokenArray.write(root / split, [text(int(label)) for label in labels], vocabulary=40)
        np.save(root / split / "labels.npy", labels)
    return builders.prepared_data(
        root, corpus="corpus", documents=40, vocabulary=40, length=12, labels=("a", "b", "c"), rows=rows
    )
