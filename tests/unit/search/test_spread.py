"""How members of committees show the spread of single models over seeds; with simulated members."""

from pathlib import Path

import numpy as np
import pytest
from driven import REFERENCE, SEARCH, run_without_ray, space_of

from tlm_search.committee.interval import NORMAL_QUANTILE, Spread, seed_half_width, widened
from tlm_search.study.location import read_study


def test_the_interval_of_a_single_reference_counts_other_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_without_ray(tmp_path, monkeypatch)
    space = space_of(reference=REFERENCE, budget={"trials": 6})
    folder = run(space).folder
    found = read_study(folder)
    assert found.counts_seeds
    assert found.reference is not None
    [row] = found.reference.frontier
    texts_alone = 1.96 * (row.figures["test_accuracy"] * (1 - row.figures["test_accuracy"]) / 200) ** 0.5
    assert (row.figures["test_accuracy_high"] - row.figures["test_accuracy_low"]) / 2 > texts_alone
    assert found.reference.metrics["test_accuracy_low"] == row.figures["test_accuracy_low"]
    journal = (folder / "journal.log").read_bytes()
    assert not run(space).worked
    assert (folder / "journal.log").read_bytes() == journal


def test_where_no_committee_has_two_members_texts_alone_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = {**SEARCH, "committee_size": 1}
    run = run_without_ray(tmp_path, monkeypatch)
    found = read_study(run(space_of(search=search, reference=REFERENCE, budget={"trials": 3})).folder)
    assert not found.counts_seeds


@pytest.mark.parametrize("freedom", [1, 3, 30, 1000])
def test_the_half_width_comes_near_that_of_a_normal_distribution_as_members_grow(freedom: int) -> None:
    half = seed_half_width(Spread(raw=0.02**2 + 1e-5, noise=1e-5, freedom=freedom))
    assert half > 0.9 * NORMAL_QUANTILE * 0.02
    assert freedom < 1000 or half == pytest.approx(NORMAL_QUANTILE * 0.02, rel=0.05)


def test_a_wider_interval_stays_within_0_and_1() -> None:
    assert widened(0.5, 0.47, 0.53, half_width=0.04) == pytest.approx((0.45, 0.55))
    assert widened(0.99, 0.97, 1.0, half_width=0.5) == (pytest.approx(0.99 - np.hypot(0.02, 0.5)), 1.0)
