"""The few shapes to which a GPU's batches are filled up."""

from dataclasses import replace

import numpy as np
import pytest
from small_texts import array_of

from tlm_search.data.tokens import TokenArray
from tlm_search.training import batches
from tlm_search.training.batches import BatchSampler
from tlm_search.training.shapes import Shape, Shapes

SHAPE = Shape(full=False, rows=8, queries=16, reads=100)


def test_a_shape_holds_what_is_no_larger() -> None:
    assert SHAPE.holds(SHAPE)
    assert SHAPE.holds(Shape(full=True, rows=7, queries=12, reads=90))
    for other in ({"rows": 9}, {"queries": 17}, {"reads": 101}):
        assert not SHAPE.holds(replace(SHAPE, **other))
    assert not replace(SHAPE, full=True).holds(SHAPE)  # without a mask all tokens of a row see each other


def test_candidates_count_as_a_size_of_the_shape() -> None:
    small, large = Shape(False, 4, 2, 8, 16), Shape(False, 4, 2, 8, 24)
    assert large.holds(small)
    assert not small.holds(large)
    assert large.excess(small) == 0.5
    assert small.roomy(4).candidates >= 24
    assert Shape(False, 4, 2, 8).roomy(4).candidates == 0


def test_the_first_shape_has_room_for_the_next_batches() -> None:
    shapes = Shapes(64, most_rows=9)
    first = shapes.choose(SHAPE)
    assert first.rows == 9 and first.holds(SHAPE) and first.queries > 16 and first.reads > 100
    for other in ({}, {"rows": 7}, {"queries": 18}, {"reads": 110}):
        assert shapes.choose(replace(SHAPE, **other)) == first


def test_no_rows_are_added_where_none_may_be() -> None:
    shapes = Shapes(64, most_rows=None)
    assert shapes.choose(SHAPE).rows == 8
    assert shapes.choose(replace(SHAPE, rows=7)).rows == 7


def test_what_is_often_filled_up_by_much_gets_its_own_shape() -> None:
    """It gets one as soon as the filling has cost as much as another recording; a little filling never costs that."""
    shapes = Shapes(64, most_rows=32)
    first = shapes.choose(SHAPE)
    small, close = replace(SHAPE, rows=5), replace(first, reads=first.reads - 2)
    chosen = [shapes.choose(small) for _ in range(100)]
    assert chosen[0] == first and chosen[-1] == small
    spent = chosen.count(first) * first.excess(small)
    assert 8 < spent < 11  # updates; a recording takes about as long as these
    assert {shapes.choose(close) for _ in range(1000)} == {first}


def test_there_are_no_more_shapes_than_asked_for() -> None:
    shapes = Shapes(2, most_rows=64)
    found = {shapes.choose(replace(SHAPE, rows=rows)) for rows in (8, 32, 8, 32)}
    assert len(found) == 2
    larger = replace(SHAPE, rows=60)
    assert [shapes.choose(larger) for _ in range(100)] == [larger] * 100  # it is computed in its own shape
    assert Shapes(0, most_rows=64).choose(SHAPE) == SHAPE


@pytest.mark.parametrize(("members", "texts_each"), [(1, 16), (8, 16), (1, 32), (8, 32)])
def test_few_shapes_serve_a_training_on_short_texts(members: int, texts_each: int) -> None:
    """Packed texts of 8 to 48 tokens have about two hundred shapes; each would be computed or recorded by itself."""
    texts = short_texts(1000)
    generators = [np.random.default_rng(member) for member in range(members)]
    shapes, chosen, own, used = Shapes(64, most_rows=texts_each), set(), set(), []
    for order in BatchSampler(len(texts), batch_size=texts_each, epochs=10, generators=generators):
        rows = batches.assemble(texts, order, length=48, packed=True, pad=0)
        options = {"probability": 0.15, "vocabulary": 900, "special": (0, 1, 2), "mask_id": 3}
        batch = batches.mask(rows, generators=generators, **options)
        shape = shapes.choose(batch.shape)
        assert shape.holds(batch.shape) and shape.rows <= texts_each
        used.append(shape.rows / batch.shape.rows)
        chosen.add(shape)
        own.add(batch.shape)
    assert len(chosen) <= 12 < len(own)
    assert np.mean(used) < 1.3


def short_texts(count: int) -> TokenArray:
    generator = np.random.default_rng(0)
    return array_of([generator.integers(5, 900, size).tolist() for size in generator.integers(8, 48, count)])
