"""Which places of a last layer are read, laid out by rows."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tlm_search.model.rows import Read, gather

ROWS, LENGTH = 3, 5


@given(st.lists(st.lists(st.integers(0, ROWS * LENGTH - 1), unique=True), min_size=1, max_size=3))
def test_every_place_stands_in_its_row_of_the_grid(places: list[list[int]]) -> None:
    read = Read.of([np.array(own, np.int64) for own in places], rows=ROWS, length=LENGTH)
    assert read.sizes == tuple(map(len, places))
    most = max(1, *(sum(place // LENGTH == row for place in own) for own in places for row in range(ROWS)))
    assert read.grid.shape == (len(places), ROWS, most)
    # What fills a row up is of the row, too.
    assert torch.equal(read.grid // LENGTH, torch.arange(ROWS)[:, None].expand(len(places), ROWS, most))
    found = gather(read.grid.flatten(1)[..., None], read.slots)[..., 0]
    for member, own in enumerate(places):
        assert read.places[member, : len(own)].tolist() == own
        assert found[member, : len(own)].tolist() == own
