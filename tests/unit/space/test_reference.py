"""The trials of the reference: what is drawn for it, and what is refused."""

import json
import math
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from tlm_search.space.json_schema import json_schema
from tlm_search.space.reference import MOST_TRIALS
from tlm_search.space.schema import Space
from tlm_search.space.section import problems_of

RATE: dict[str, Any] = {"low": 5e-4, "high": 4e-3, "log": True, "role": "nuisance"}
SEARCH: dict[str, Any] = {"depth": {"choices": [1, 2]}, "finetune_learning_rate": RATE}
REFERENCE: dict[str, Any] = {"depth": 6, "finetune_learning_rate": 1e-3}


def space(**sections: Any) -> Space:
    return Space.from_document({"search": SEARCH, "reference": REFERENCE, **sections})


def problems(**sections: Any) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(ValidationError) as refused:
        space(**sections)
    return [(problem.path, problem.message) for problem in problems_of(refused.value)]


def values(made: Space, name: str) -> list[Any]:
    return [settings[name] for settings in made.reference_tries()]


def test_one_trial_is_what_there_was_before():
    old, new = space(), space(reference={**REFERENCE, "trials": 1})
    assert old.reference_tries() == (old.reference_settings(),)
    assert new == old
    # the digest of before the reference had trials
    assert new.digest == old.digest == "8434077cba60123fb6e8402a97c4c709"
    assert new.to_document()["reference"] == REFERENCE
    assert old.reference_nuisance() == ()
    assert space(reference="none").reference_tries() == ()


def test_more_trials_are_another_study_and_are_written_and_read():
    made = space(reference={**REFERENCE, "trials": 6})
    assert made.digest != space().digest
    document = made.to_document()
    assert document["reference"] == {**REFERENCE, "trials": 6}
    assert Space.from_document(json.loads(json.dumps(document))) == made
    jsonschema.Draft202012Validator(json_schema()).validate(document)


def test_the_first_try_is_as_given_and_the_others_fill_the_range():
    made = space(reference={**REFERENCE, "trials": 9})
    assert made.reference_nuisance() == ("finetune_learning_rate",)
    first, *drawn = values(made, "finetune_learning_rate")
    assert first == 1e-3
    assert len(set(drawn)) == 8
    assert all(5e-4 <= rate <= 4e-3 for rate in drawn)
    logs = sorted(math.log(rate / 5e-4) / math.log(8) for rate in drawn)
    assert max(after - before for before, after in pairwise([0, *logs, 1])) < 0.3  # no gap in the logarithms
    assert values(made, "depth") == [6] * 9


def test_tries_follow_from_the_seed_and_more_of_them_only_add():
    few, many, other = (
        values(space(reference={**REFERENCE, "trials": trials}, seed=seed), "finetune_learning_rate")
        for trials, seed in ((3, 0), (8, 0), (3, 1))
    )
    assert many[:3] == few
    assert other[0] == few[0]
    assert other[1:] != few[1:]
    # Recorded tries are identified by their place, so the settings of a place must not change.
    assert few == pytest.approx([1e-3, 8.392394e-4, 3.992118e-3])


def test_a_small_domain_has_no_more_tries_than_points():
    search = {**SEARCH, "finetune_learning_rate": {"choices": [1e-3, 2e-3, 4e-3], "role": "nuisance"}}
    made = space(search=search, reference={**REFERENCE, "trials": 50})
    assert sorted(values(made, "finetune_learning_rate")) == [1e-3, 2e-3, 4e-3]
    outside = space(search=search, reference={"depth": 6, "finetune_learning_rate": 5e-4, "trials": 50})
    assert sorted(values(outside, "finetune_learning_rate")) == [5e-4, 1e-3, 2e-3, 4e-3]


def test_rare_points_of_a_finite_domain_are_all_found():
    names = ("finetune_dropout", "pretrain_dropout", "finetune_warmup")
    search = {name: {"low": 0.0, "high": 0.4, "step": 0.1, "role": "nuisance"} for name in names}
    made = space(search=search, reference={"trials": 125})
    assert len({tuple(settings[name] for name in names) for settings in made.reference_tries()}) == 125


def test_a_nuisance_setting_that_is_left_out_is_drawn_in_every_try():
    made = space(reference={"depth": 6, "trials": 4})
    assert len(set(values(made, "finetune_learning_rate"))) == 4
    assert problems(reference={"depth": 6})[0][1].startswith("finetune_learning_rate is missing")
    assert problems(reference={"trials": 4})[0][1].startswith("depth is missing")


def test_conditions_hold_in_each_try():
    search = {
        "depth": {"choices": [1, 2]},
        "pretrain_optimiser": {"choices": ["adamw", "muon"], "role": "nuisance"},
        "pretrain_learning_rate": {**RATE, "when": {"pretrain_optimiser": ["muon"]}},
        "finetune_dropout": {"low": 0.0, "high": 0.5, "role": "nuisance", "when": {"depth": [1]}},
    }
    made = space(search=search, reference={"depth": 6, "pretrain_optimiser": "adamw", "trials": 12})
    assert made.reference_nuisance() == ("pretrain_optimiser", "pretrain_learning_rate")
    tries = made.reference_tries()
    default = tries[0]["pretrain_learning_rate"]
    assert len(tries) == 12
    with_muon = [t["pretrain_learning_rate"] for t in tries if t["pretrain_optimiser"] == "muon"]
    assert len(set(with_muon)) == 11
    assert [t["pretrain_learning_rate"] for t in tries if t["pretrain_optimiser"] == "adamw"] == [default]
    assert {t["finetune_dropout"] for t in tries} == {tries[0]["finetune_dropout"]}


def test_what_depends_on_a_drawn_setting_has_to_be_given():
    search = {
        "pretrain_optimiser": {"choices": ["adamw", "muon"], "role": "nuisance"},
        "pretrain_epochs": {"choices": [2, 4], "when": {"pretrain_optimiser": ["muon"]}},
    }
    assert space(search=search, reference={"pretrain_optimiser": "adamw"})
    reference = {"pretrain_optimiser": "adamw", "trials": 3}
    assert problems(search=search, reference=reference)[0][1].startswith("pretrain_epochs is missing")
    assert space(search=search, reference={**reference, "pretrain_epochs": 2})


@pytest.mark.parametrize(
    "search",
    [
        {"depth": {"choices": [1, 2]}},
        {**SEARCH, "finetune_learning_rate": {**RATE, "role": "scientific"}},
        {**SEARCH, "finetune_learning_rate": {**RATE, "when": {"depth": [1]}}},
        {"depth": {"choices": [1, 2]}, "committee_size": {"choices": [1, 2], "role": "nuisance"}},
    ],
    ids=["none", "scientific", "without meaning in the reference", "the committee size"],
)
def test_trials_with_nothing_to_draw_are_refused(search: Any):
    reference = {"depth": 6, "finetune_learning_rate": 1e-3, "trials": 6}
    ((path, message),) = problems(search=search, reference=reference)
    assert path == ("reference", "trials")
    assert message.startswith("given 6; allowed: 1, because search has no setting with role: nuisance")
    assert "leave trials out, or give this role to a setting that is only tuned" in message


@pytest.mark.parametrize("trials", [0, -1, 1.5, "six", True, None, MOST_TRIALS + 1])
def test_trials_are_a_whole_number(trials: Any):
    ((path, message),) = problems(reference={**REFERENCE, "trials": trials})
    assert path == ("reference", "trials")
    assert message.endswith(f"allowed: a whole number from 1 to {MOST_TRIALS}")


def test_all_that_is_wrong_is_told_at_once():
    told = problems(reference={"depth": 0, "trails": 3, "trials": 0})
    assert [path for path, _ in told] == [("reference", "depth"), ("reference", "trails"), ("reference", "trials")]
    assert "did you mean trials?" in told[1][1]


def test_an_impossible_shape_of_a_later_try_is_found():
    search = {"depth": {"choices": [1, 2]}, "heads": {"choices": [2, 4, 5], "role": "nuisance"}, "width": 40}
    reference = {"depth": 6, "width": 64, "heads": 4, "trials": 3}
    # The reference fixes its shape, so no setting is left to draw.
    assert problems(search=search, reference=reference)[0][0] == ("reference", "trials")
    fixed = {**search, "width": {"choices": [40, 80]}}
    assert len(space(search=fixed, reference={"depth": 6, "width": 40, "trials": 3}).reference_tries()) == 3
    ((path, message),) = problems(search=fixed, reference={"depth": 6, "width": 64, "trials": 3})
    assert path == ("reference",)
    assert message == "impossible: width 64 is not divided by heads 5; allowed: width = heads x head_size"


def test_documents_that_a_try_needs_are_counted():
    search = {"depth": {"choices": [1, 2]}, "pretrain_size": {"choices": [0, 500], "role": "nuisance"}}
    made = space(search=search, reference={"depth": 6, "pretrain_size": 0, "trials": 2})
    assert values(made, "pretrain_size") == [0, 500]
    assert made.largest_pretrain_size() == 500


def test_the_reference_starts_from_the_word_vectors_that_committees_have():
    fixed = space(search={**SEARCH, "initial_embeddings": "cooccurrence"}, reference={**REFERENCE, "trials": 3})
    assert values(fixed, "initial_embeddings") == ["cooccurrence"] * 3
    search = {**SEARCH, "initial_embeddings": {"choices": ["random", "cooccurrence"]}}
    ((_, message),) = problems(search=search, reference={**REFERENCE, "trials": 3})
    assert message.startswith("initial_embeddings is missing")
    given = space(search=search, reference={**REFERENCE, "initial_embeddings": "cooccurrence", "trials": 3})
    assert values(given, "initial_embeddings") == ["cooccurrence"] * 3
