"""Which indices of a last layer are read, arranged by rows."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tlm_search.model.rows import Read, even, gather

ROWS, LENGTH = 3, 5


@given(st.lists(st.lists(st.integers(0, ROWS * LENGTH - 1), unique=True), min_size=1, max_size=3))
def test_every_place_stands_in_its_row_of_the_grid(indices: list[list[int]]) -> None:
    read = Read.of([np.array(own, np.int64) for own in indices], rows=ROWS, length=LENGTH)
    assert read.sizes == tuple(map(len, indices))
    most = max(1, *(sum(place // LENGTH == row for place in own) for own in indices for row in range(ROWS)))
    most = even(most, steps=4)
    assert read.grid.shape == (len(indices), ROWS, most)
    # The indices that fill a row up are of the same row.
    assert torch.equal(read.grid // LENGTH, torch.arange(ROWS)[:, None].expand(len(indices), ROWS, most))
    found = gather(read.grid.flatten(1)[..., None], read.slots)[..., 0]
    for member, own in enumerate(indices):
        assert read.indices[member, : len(own)].tolist() == own
        assert found[member, : len(own)].tolist() == own


def test_numbers_that_differ_little_become_the_same() -> None:
    assert [even(number, steps=16) for number in (0, 1, 16, 17, 33, 77, 205, 400, 614)] == [
        1, 1, 16, 17, 34, 80, 208, 400, 640,
    ]  # fmt: skip
    for number in range(1, 3000):
        assert number <= even(number, steps=16) < number * 17 / 16
