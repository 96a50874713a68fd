from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven import SEARCH, results, run_without_ray, space_of

from tlm_search.errors import StudyError
from tlm_search.search.session import Session
from tlm_search.study.location import StudyLocation, read_study

TPE = {"name": "tpe", "n_startup_trials": 4}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    run = run_without_ray(tmp_path, monkeypatch)
    return lambda **sections: run(space_of(**{"budget": {"trials": 3}, "sampler": TPE, **sections}))


def test_the_sampler_learns_from_another_study(tmp_path: Path, run: Callable[..., Session]) -> None:
    run(name="first", budget={"trials": 6})
    alone = run(name="alone", seed=7)
    session = run(name="second", seed=7, import_from="first")
    # The sampler draws fewer than six trials at random, so with six imported trials its first proposal is a different
    # one.
    assert results(session.driver._ledger)[6:] != results(alone.driver._ledger)
    record = read_study(tmp_path / "studies" / "second")
    assert session.driver.progress.finished == len(record.trials) == 3
    assert [trial.number for trial in record.trials] == [6, 7, 8]
    imported = StudyLocation.of(tmp_path / "studies" / "second").open().trials[:6]
    first = StudyLocation.of(tmp_path / "studies" / "first").open().trials
    assert [(t.params, t.values) for t in imported] == [(t.params, t.values) for t in first]
    # The trials are imported only once, so the other study may be gone.
    (tmp_path / "studies" / "first").rename(tmp_path / "gone")
    assert run(name="second", seed=7, import_from="first", budget={"trials": 4}).driver.progress.finished == 4
    assert len(StudyLocation.of(tmp_path / "studies" / "second").open().trials) == 10


def test_what_lies_outside_the_space_is_left_out(tmp_path: Path, run: Callable[..., Session]) -> None:
    run(name="wide", budget={"trials": 12}, sampler="random", search={**SEARCH, "heads": {"choices": [1, 2, 4, 8]}})
    objectives = ["validation_cross_entropy", "parameters"]
    run(name="narrow", search={**SEARCH, "depth": 1}, import_from=["wide"], objectives=objectives)
    wide = {t.number: t for t in StudyLocation.of(tmp_path / "studies" / "wide").open().trials}
    imported = [
        t for t in StudyLocation.of(tmp_path / "studies" / "narrow").open().trials if "imported_from" in t.user_attrs
    ]
    fit = [n for n, t in wide.items() if t.params["depth"] == 1 and t.params["heads"] != 8]
    assert [t.user_attrs["imported_from"] for t in imported] == [["wide", n] for n in fit]
    assert 0 < len(fit) < 12
    for trial in imported:
        metrics = wide[trial.user_attrs["imported_from"][1]].user_attrs["metrics"]
        assert trial.values == [metrics[name] for name in objectives]


@pytest.mark.parametrize(("sections", "message"), [
    ({"import_from": ["fisrt"]}, "no study fisrt under .*; did you mean first"),
    ({"import_from": ["second"]}, "second is this study itself"),
    ({"import_from": ["first"], "tokenizer": {"length": 32}}, "first has another tokenizer"),
    ({"import_from": ["first"], "search": {**SEARCH, "head_size": 16}}, "no trial of first fits this space: trial 0: "),
])  # fmt: skip
def test_what_cannot_be_imported_is_said(run: Callable[..., Session], sections: dict[str, Any], message: str) -> None:
    run(name="first")
    with pytest.raises(StudyError, match=message) as raised:
        run(name="second", **sections)
    assert raised.value.hint


def test_trials_with_other_tokens_are_left_out(tmp_path: Path, run: Callable[..., Session]) -> None:
    run(name="lengths", search={**SEARCH, "length": {"choices": [32, 64]}}, budget={"trials": 6})
    with pytest.raises(StudyError, match=r"no trial of lengths fits.*length .*; here as the section tokenizer says"):
        run(name="plain", import_from=["lengths"])
