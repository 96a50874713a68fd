"""Texts that a tiny member learns in a second."""

import numpy as np

from tlm_search.data.markers import Markers
from tlm_search.data.tokens import TokenArray
from tlm_search.model.architecture import Architecture
from tlm_search.training.settings import Finetuning, Pretraining

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
MARKERS = Markers(25, 26, 27, 28)  # words that texts of all labels have, so spans are at random places
SHAPE = Architecture(depth=1, heads=2, head_size=8, feed_forward=32, vocabulary=40, positions=12)
CONVOLVED = Architecture(1, 2, 8, 32, 40, 12, convolution_layers=1, kernel=(3, 3), channels=4)
PRETRAINING = Pretraining(2, 8, 3e-3, 0.01, 0.1, 0.1, 0.2)
FINETUNING = Finetuning("cls", 20, 8, 5e-3, 0.01, 0.1, 0.1)


def texts_of(labels: np.ndarray, seed: int) -> TokenArray:
    """Return texts in which each label has words of its own, among common words."""
    generator = np.random.default_rng(seed)
    texts = []
    for label in labels:
        words = np.where(
            generator.random(8) < 0.5, 10 + 5 * label + generator.integers(0, 5, 8), generator.integers(25, 40, 8)
        )
        texts.append([2, *words[: generator.integers(3, 9)].tolist(), 3])
    return array_of(texts)


def array_of(texts: list[list[int]]) -> TokenArray:
    ids = np.array([token for text in texts for token in text], dtype=np.uint16)
    return TokenArray(ids, np.cumsum([0, *map(len, texts)]).astype(np.int64))


TRAIN_LABELS, TEST_LABELS = np.arange(120) % 3, np.arange(90) % 3
TRAIN, TEST = texts_of(TRAIN_LABELS, 0), texts_of(TEST_LABELS, 1)
