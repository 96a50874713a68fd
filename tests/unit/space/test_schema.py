import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tlm_search.space.objectives import Constraint
from tlm_search.space.parameters import Choices, Range
from tlm_search.space.schema import Space, load_space

CONDITIONAL = {
    "convolution_kernel": {"choices": [3, [16, 3]], "when": {"convolution_layers": [2, 3]}},
    "convolution_layers": {"choices": [0, 2, 3]},
    "convolution_channels": {"choices": [8, 32], "when": {"convolution_kernel": ["16x3"]}},
}


def space(**sections):
    return Space.from_document(sections)


def test_defaults():
    empty = space()
    assert empty.to_document() == space(**empty.to_document()).to_document()
    assert (empty.corpus.source, empty.task.source, empty.tokenizer.vocabulary) == ("pydocs", "pydocs", 4096)
    assert [(objective.metric, objective.direction) for objective in empty.objectives] == [
        ("validation_accuracy", "maximize")
    ]
    assert (empty.sampler.name, empty.pruner.name) == ("tpe", "median")
    assert empty.budget.seconds is None
    assert empty.reference_settings() is None
    assert empty.settings({})["depth"] == 1


def test_true_and_false_stay_what_they_are_through_every_trip():
    """A 1 instead of true would be another setting, another trial and another digest."""
    written = space(
        search={"linear_member": {"choices": [False, True]}, "depth": {"choices": [1, 2]}},
        reference={"linear_member": True, "depth": 4},
        points=[{"linear_member": True, "depth": 1}],
    )
    read = Space.from_document(json.loads(json.dumps(written.to_document())))
    assert read == written
    for one in (written, read):
        assert [type(choice) for choice in one.searched()["linear_member"].values()] == [bool, bool]
        assert one.searched()["linear_member"].words() == "one of false, true"
        assert one.points[0]["linear_member"] is one.reference_settings()["linear_member"] is True
        assert one.settings({"linear_member": False, "depth": 1})["linear_member"] is False
    assert space(search={"linear_member": True}).settings({})["linear_member"] is True
    assert "linear_member" not in json.dumps(space(search={"depth": 1}).to_document())


def test_a_pruner_is_the_default_only_where_it_was_measured_to_help():
    assert space(sampler="gp").pruner.name == "none"
    assert space(objectives=["validation_accuracy", "latency_ms"]).pruner.name == "none"
    assert space(constraints=["latency_ms <= 5"]).pruner.name == "none"
    assert space(objectives=["validation_accuracy", "latency_ms"], pruner="asha").pruner.name == "asha"
    assert space(pruner="none").pruner.name == "none"


def test_shorthands():
    short = space(
        corpus="a.txt", task="b.csv", sampler="gp", pruner="asha", objectives=["latency_ms"], reference="none"
    )
    long = space(
        corpus={"source": "a.txt"},
        task={"source": "b.csv"},
        sampler={"name": "gp"},
        pruner={"name": "asha"},
        objectives=[{"metric": "latency_ms", "direction": "minimize"}],
    )
    assert short == long
    assert short.identity() == long.identity()


def test_what_came_later_is_not_in_the_document_unless_it_is_given():
    """Documents name studies and prepared data, also those of earlier versions."""
    of_default = {"vocabulary": 4096, "name": None, "length": 64}
    assert space().to_document()["tokenizer"] == of_default
    assert space().tokenizer.model_dump(mode="json", exclude={"length"}) == {"vocabulary": 4096, "name": None}
    pruned = space(tokenizer={"name": "bert", "min_count": 5})
    assert pruned.to_document()["tokenizer"] == {"vocabulary": None, "name": "bert", "min_count": 5, "length": 64}
    assert Space.from_document(pruned.to_document()) == pruned


def test_a_named_tokenizer_has_no_vocabulary_to_train():
    assert space(tokenizer={"name": "bert-base-uncased"}).tokenizer.vocabulary is None


@pytest.mark.parametrize(
    ("time", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1d", 86400), (None, None)]
)
def test_time(time, seconds):
    assert space(budget={"time": time}).budget.seconds == seconds


def test_the_three_forms_of_an_entry():
    search = {
        "depth": {"value": 2, "role": "fixed"},
        "heads": {"choices": [2, 4.0], "role": "nuisance"},
        "feed_forward": {"low": 1, "high": 4, "step": 0.5},
        "pretrain_size": 4000.0,
    }
    made = space(search=search)
    assert made.search == {
        "depth": 2,
        "heads": Choices(choices=(2, 4), role="nuisance"),
        "feed_forward": Range(low=1.0, high=4.0, step=0.5),
        "pretrain_size": 4000,
    }
    assert made.fixed() == {"depth": 2, "pretrain_size": 4000}
    assert list(made.searched()) == ["heads", "feed_forward"]
    assert isinstance(made.fixed()["pretrain_size"], int)


def test_numbers_take_the_type_of_their_setting():
    made = space(search={"depth": {"low": 1, "high": 3.0}, "feed_forward": {"choices": [1, 2]}, "finetune_warmup": 0})
    depth, feed_forward = made.search["depth"], made.search["feed_forward"]
    assert isinstance(depth, Range)
    assert depth.whole
    assert isinstance(feed_forward, Choices)
    assert all(isinstance(value, float) for value in feed_forward.choices)
    assert isinstance(made.search["finetune_warmup"], float)


@pytest.mark.parametrize(("given", "kernel"), [(3, "3x3"), ([16, 3], "16x3"), ("5x1", "5x1")])
def test_kernels(given, kernel):
    assert space(search={"convolution_kernel": given}).search == {"convolution_kernel": kernel}


def test_ranges():
    steps = Range(low=0.1, high=0.5, step=0.1)
    assert list(steps.values()) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert steps.contains(0.3)
    assert not steps.contains(0.35)
    assert not steps.contains("0.3")
    whole = Range(low=2, high=8, step=3)
    assert list(whole.values()) == [2, 5, 8]
    assert not whole.contains(3)
    assert not whole.contains(5.0)
    assert Range(low=1, high=10**9).size() == 10**9
    assert Range(low=0.0, high=1.0).size() is None
    assert Range(low=1.0, high=1.0).size() == 1
    with pytest.raises(ValueError, match="has no list of values"):
        list(Range(low=0.0, high=1.0).values())


def test_parents_come_before_their_children():
    assert list(space(search=CONDITIONAL).searched()) == [
        "convolution_layers",
        "convolution_kernel",
        "convolution_channels",
    ]


def test_what_depends_on_something_inactive_is_inactive():
    made = space(search=CONDITIONAL)
    params = {"convolution_layers": 0, "convolution_kernel": "16x3", "convolution_channels": 32}
    assert not made.is_active("convolution_kernel", params)
    assert not made.is_active("convolution_channels", params)
    assert made.settings(params)["convolution_kernel"] == "3x3"
    assert made.settings({**params, "convolution_layers": 2})["convolution_channels"] == 32
    assert made.settings({"convolution_layers": 0})["convolution_channels"] == 16
    with pytest.raises(KeyError):
        made.settings({"convolution_layers": 2})


def test_a_fixed_parent_decides_for_all_trials():
    fixed = {**CONDITIONAL, "convolution_layers": 0}
    assert space(search=fixed).searched() == {}
    assert list(space(search={**fixed, "convolution_layers": 2}).searched()) == [
        "convolution_kernel",
        "convolution_channels",
    ]


def test_impossible_combinations_that_no_trial_has_are_allowed():
    heads = {"choices": [3], "when": {"depth": [2]}}
    width = {"choices": [48, 96]}
    assert space(search={"depth": {"choices": [1, 2]}, "heads": heads, "width": width}).searched()
    assert space(search={"depth": {"low": 1, "high": 9}, "heads": heads, "width": width}).searched()
    with pytest.raises(ValidationError, match="width 64 is not divided by heads 3"):
        space(search={"depth": {"low": 1, "high": 9}, "heads": heads, "width": 64})


def test_the_reference_inherits_what_is_fixed():
    made = space(
        search={
            "depth": {"choices": [1, 2]},
            "heads": 2,
            "committee_size": {"low": 1, "high": 8},
            "finetune_epochs": 3,
        },
        reference={"depth": 6},
    )
    settings = made.reference_settings()
    assert settings is not None
    assert (settings["depth"], settings["heads"], settings["finetune_epochs"], settings["committee_size"]) == (
        6,
        2,
        3,
        1,
    )


def test_the_reference_gives_two_of_the_shape():
    made = space(search={"width": {"choices": [32, 64]}, "head_size": 16}, reference={"heads": 12, "head_size": 64})
    settings = made.reference_settings()
    assert settings is not None
    assert (settings["width"], settings["heads"], settings["head_size"]) == (768, 12, 64)
    fixed_heads = space(search={"heads": 4}, reference={"width": 96, "head_size": 32}).reference_settings()
    assert fixed_heads is not None
    assert fixed_heads["heads"] == 3


def test_the_reference_leaves_out_what_does_not_matter_in_it():
    assert space(search=CONDITIONAL, reference={"convolution_layers": 0}).reference_settings()
    with pytest.raises(ValidationError, match="convolution_kernel, convolution_channels are missing"):
        space(search=CONDITIONAL, reference={"convolution_layers": 2})
    with pytest.raises(ValidationError, match="convolution_channels is missing"):
        space(search=CONDITIONAL, reference={"convolution_layers": 2, "convolution_kernel": [16, 3]})
    assert space(search=CONDITIONAL, reference={"convolution_layers": 2, "convolution_kernel": 3})


def test_a_fixed_committee_size_holds_for_the_reference_too():
    settings = space(search={"committee_size": 4}, reference={"depth": 6}).reference_settings()
    assert settings is not None
    assert settings["committee_size"] == 4


def test_constraints():
    made = space(constraints=["latency_ms <= 5", "validation_accuracy>=0.5", "beats_reference"], reference={"depth": 6})
    latency, accuracy, beats = made.constraints
    metrics = {"latency_ms": 7, "validation_accuracy": 0.6}
    assert latency.violation(metrics) == 2
    assert accuracy.violation(metrics) == pytest.approx(-0.1)
    assert beats.violation(metrics, {"validation_accuracy": 0.55}) == pytest.approx(-0.05)
    assert beats.violation(metrics, {"validation_accuracy": 0.65}) == pytest.approx(0.05)
    assert beats.violation({"validation_accuracy": 0.5}, {"validation_accuracy": 0.5}) == 0
    assert beats.violation(metrics, None) == 1
    assert [str(constraint) for constraint in made.constraints] == [
        "latency_ms <= 5.0",
        "validation_accuracy >= 0.5",
        "beats_reference",
    ]
    assert isinstance(latency, Constraint)


def test_documents_keep_everything(tmp_path: Path):
    made = space(
        search={**CONDITIONAL, "pretrain_learning_rate": {"low": 1e-5, "high": 1e-3, "log": True, "role": "nuisance"}},
        reference={"convolution_layers": 0, "pretrain_learning_rate": 1e-4},
        constraints=["parameters <= 10e6"],
        points=[{"convolution_layers": 2, "convolution_kernel": [16, 3]}],
        sampler={"name": "nsgaii", "population_size": 8},
        tokenizer={"name": "bert-base-uncased"},
    )
    text = json.dumps(made.to_document(), allow_nan=False)
    again = Space.from_document(json.loads(text))
    assert again == made
    assert again.digest == made.digest
    (tmp_path / "space.yaml").write_text(text)  # JSON is YAML
    assert load_space(tmp_path / "space.yaml") == made


def test_identity():
    base = {"search": {"depth": {"choices": [1, 2]}}}
    digest = space(**base).digest
    for same in (
        {"name": "x"},
        {"description": "x"},
        {"points": [{"depth": 1}]},
        {"resources": {"cpus_per_trial": 2}},
        {"budget": {"trials": 7}},
        {"baseline": "none"},
        {"baseline": "linear"},
    ):
        assert space(**base, **same).digest == digest
    for other in ({"seed": 1}, {"sampler": "random"}, {"task": {"labels": 3}}, {"reference": {"depth": 6}}):
        assert space(**base, **other).digest != digest


def test_marked_entities_are_in_the_identity_and_others_as_before():
    """The golden digests were computed at commit 04973ea, before marked entities existed."""
    assert space().digest == "5a0b5546761d48117e999cefb95e37b2"
    plain = {"task": {"source": "a.csv", "train_per_label": 100}, "search": {"pooling": "mean"}}
    assert space(**plain).digest == "19e88b636a5e79000ec22170f15d8344"
    assert "entities" not in space(**plain, name="x").identity()["task"]
    marked = space(**{**plain, "task": {"source": "a.csv", "entities": "marked"}, "search": {"pooling": "spans"}})
    assert marked.identity()["task"]["entities"] == "marked"
    assert Space.from_document(json.loads(json.dumps(marked.to_document()))) == marked


def test_a_space_cannot_be_changed():
    with pytest.raises(ValidationError):
        space().seed = 3


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "nsgaiii", "gp", "cmaes", "qmc", "random", "grid"])
@pytest.mark.parametrize("pruner", ["none", "median", "asha", "hyperband"])
def test_every_sampler_goes_with_every_pruner(sampler, pruner):
    made = space(search={"depth": {"low": 1, "high": 4}}, sampler=sampler, pruner=pruner)
    assert (made.sampler.name, made.pruner.name) == (sampler, pruner)


SELF_TRAINED = {
    "task": {"unlabelled": "texts.csv"},
    "search": {"self_training": {"choices": [0, 1]}, "student_epochs": {"choices": [2, 3]}, "teachers": 2},
}


def test_settings_of_students_matter_only_with_self_training():
    made = space(**SELF_TRAINED)
    assert list(made.searched()) == ["self_training", "student_epochs"]
    assert not made.is_active("student_epochs", {"self_training": 0})
    assert made.settings({"self_training": 1, "student_epochs": 2})["student_epochs"] == 2
    without = made.settings({"self_training": 0})
    assert without == space(search={}).settings({})
    assert (without["student_epochs"], without["teachers"]) == (3, 4)
    assert Space.from_document(made.to_document()) == made
    fixed = space(**{**SELF_TRAINED, "search": {**SELF_TRAINED["search"], "self_training": 0}})
    assert fixed.searched() == {}
    assert space(**SELF_TRAINED, reference={"self_training": 0}).reference_settings()["self_training"] == 0
    with pytest.raises(ValidationError, match="student_epochs is missing"):
        space(**SELF_TRAINED, reference={"self_training": 1})


def test_unlabelled_texts_are_part_of_a_space_only_where_they_are_given():
    assert space(task={"unlabelled": None}).digest == space().digest == "5a0b5546761d48117e999cefb95e37b2"
    assert space(**{**SELF_TRAINED, "search": {}}).digest != space().digest
    assert space(task={"unlabelled": "x.csv"}).task == space(task={"unlabelled": {"source": "x.csv"}}).task


def test_the_baseline_is_linear_or_none():
    assert space().baseline == "linear"
    assert "baseline" not in space().identity()
    assert Space.from_document(space(baseline="none").to_document()).baseline == "none"
    for wrong in ("deep", None, True, 3):
        with pytest.raises(ValidationError, match="one of linear, none"):
            space(baseline=wrong)
