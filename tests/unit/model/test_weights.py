"""Fresh weights, and embedding tables that start from word vectors."""

import numpy as np
import pytest
import torch

from tlm_search.model.architecture import Architecture
from tlm_search.model.weights import initial_weights, rotation

SHAPE = Architecture(depth=1, heads=2, head_size=8, feed_forward=32, vocabulary=40, positions=12)
SEEDS = (3, 4)


def test_word_vectors_take_the_places_of_rows_and_nothing_else() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    vectors[:5] = vectors[7] = 0
    fresh, started = initial_weights(SHAPE, SEEDS), initial_weights(SHAPE, SEEDS, word_vectors=vectors)
    own = torch.from_numpy(vectors.any(axis=1))
    for name, value in fresh.items():
        if name != "embeddings.words":
            torch.testing.assert_close(started[name], value, rtol=0, atol=0)
    torch.testing.assert_close(started["embeddings.words"][:, ~own], fresh["embeddings.words"][:, ~own], rtol=0, atol=0)
    for table in started["embeddings.words"]:
        np.testing.assert_allclose((table @ table.T)[own][:, own], (vectors @ vectors.T)[own][:, own], atol=1e-4)
    assert (started["embeddings.words"][0] - started["embeddings.words"][1])[own].abs().max() > 0.5


@pytest.mark.parametrize("width", [1, 16, 64])
def test_a_rotation_is_orthogonal_and_of_its_seed(width: int) -> None:
    turned = rotation(width, 5)
    torch.testing.assert_close(turned @ turned.T, torch.eye(width))
    torch.testing.assert_close(turned, rotation(width, 5), rtol=0, atol=0)
    if width > 1:
        assert (turned - rotation(width, 6)).abs().max() > 0.1
