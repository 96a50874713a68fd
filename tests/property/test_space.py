"""Random valid spaces: they survive a trip through JSON, and every trial that they allow has complete settings."""

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tlm_search.cost.plan import DataSizes, draw, plan
from tlm_search.space.parameters import Choices, Range
from tlm_search.space.schema import Space
from tlm_search.space.settings import ONLY_WITH, SETTINGS, TOKENS, Setting

# width, heads and head_size must divide, so one shape is drawn for all three.
SHAPES = st.sampled_from(
    [
        {},
        {"width": 64},
        {"heads": {"choices": [1, 2, 3]}, "head_size": {"low": 4, "high": 12}},
        {"width": {"choices": [48, 96]}, "heads": {"choices": [2, 3, 4]}},
        {"width": {"low": 32, "high": 256, "step": 32}, "head_size": {"choices": [8, 32], "role": "nuisance"}},
    ]
)
# The setting `variant` is refused without a trainer of the user's own, whose variants may be any text.
OTHERS = sorted(set(SETTINGS) - {"width", "heads", "head_size", "variant"} - set(ONLY_WITH))


def values(setting: Setting):
    if setting.name == "convolution_kernel":
        side = st.integers(1, 99)
        return st.one_of(side, st.tuples(side, side).map(list), st.builds("{}x{}".format, side, side))
    if setting.kind is str:
        return st.sampled_from(setting.choices)
    if setting.kind is bool:
        return st.booleans()
    if setting.kind is int:
        # Committees of a thousand members are allowed, but counting them is slow.
        return st.integers(int(setting.low), 20 if setting.name == "committee_size" else int(setting.high))
    return st.floats(setting.low, setting.high)


@st.composite
def entries(draw, setting: Setting):
    value = values(setting)
    role = draw(st.sampled_from([{}, {"role": "scientific"}, {"role": "nuisance"}]))
    form = draw(st.sampled_from(["value", "fixed", "choices", "range"]))
    if form == "value":
        return draw(value)
    if form == "fixed":
        return {"value": draw(value), "role": "fixed"}
    if form == "choices" or setting.kind in (bool, str) or setting.name in TOKENS:
        unique = (lambda given: json.dumps(given)) if setting.name != "convolution_kernel" else _kernel
        return {"choices": draw(st.lists(value, min_size=1, max_size=4, unique_by=unique)), **role}
    low, high = sorted((draw(value), draw(value)))
    log = {"log": True} if low > 0 and draw(st.booleans()) else {}
    if not log and setting.kind is int and draw(st.booleans()):
        step = draw(st.integers(1, max(1, high - low)))
        return {"low": low, "high": low + (high - low) // step * step, "step": step, **role}
    return {"low": low, "high": high, **log, **role}


def _kernel(given):
    if isinstance(given, int):
        return f"{given}x{given}"
    return given if isinstance(given, str) else "x".join(map(str, given))


@st.composite
def spaces(draw):
    search = dict(draw(SHAPES))
    for name in draw(st.lists(st.sampled_from(OTHERS), unique=True, max_size=6)):
        search[name] = draw(entries(SETTINGS[name]))
    # A setting that matters only with another one is refused, or changes nothing, without it.
    possible = [name for name, (other, value) in ONLY_WITH.items() if search.get(other) == value]
    for name in draw(st.lists(st.sampled_from(possible), unique=True)) if possible else ():
        search[name] = draw(entries(SETTINGS[name]))
    # student_epochs: 0 is refused unless a linear model learns from the teachers.
    if search.get("linear_member") is not True or search.get("student_linear") != "teachers":
        search.pop("student_epochs", None)
    # A vocabulary is refused if no configuration has word pieces as tokens.
    kinds = search.get("tokenizer_kind", "wordpiece")
    listed = kinds.get("choices", [kinds.get("value")]) if isinstance(kinds, dict) else [kinds]
    if "wordpiece" not in listed:
        search.pop("vocabulary", None)
    _add_a_condition(draw, search)
    return Space.from_document(
        {
            "search": search,
            # Self-training and pooling by spans need unlabelled texts and marked entities.
            "task": {"source": "relations.json", "unlabelled": "texts.csv", "entities": "marked"},
            "seed": draw(st.integers(0, 2**32 - 1)),
            "sampler": draw(st.sampled_from(["tpe", "nsgaii", "gp", "qmc", "random"])),
            "pruner": draw(st.sampled_from(["none", "median", "asha", "hyperband"])),
            "objectives": draw(
                st.lists(st.sampled_from(["validation_accuracy", "latency_ms"]), unique=True, min_size=1)
            ),
            "constraints": draw(st.lists(st.floats(-1e9, 1e9).map("latency_ms <= {!r}".format), max_size=1)),
            "budget": {"trials": draw(st.integers(1, 5))},
        }
    )


def _add_a_condition(draw, search):
    parents = [name for name, entry in search.items() if isinstance(entry, dict) and "choices" in entry]
    children = [name for name, entry in search.items() if isinstance(entry, dict) and "value" not in entry]
    if len(parents) > 0 and len(children) > 1:
        child = draw(st.sampled_from(children))
        # vocabulary depends on tokenizer_kind already; the reverse would be a cycle.
        other = {"tokenizer_kind": "vocabulary"}.get(child)
        parent = draw(st.sampled_from([name for name in parents if name not in (child, other)] or [None]))
        if parent is not None and child in OTHERS:
            search[child] = {**search[child], "when": {parent: search[parent]["choices"][:1]}}


@given(spaces())
@settings(max_examples=60)
def test_a_space_survives_json(space):
    again = Space.from_document(json.loads(json.dumps(space.to_document(), allow_nan=False)))
    assert again == space
    assert again.digest == space.digest


@given(spaces(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_every_trial_has_complete_settings(space, generator):
    params = draw(space, generator)
    complete = space.settings(params)
    # Settings of the tokenizer come from the space's section tokenizer unless they are searched.
    assert list(complete) == [name for name in SETTINGS if name not in TOKENS or name in complete]
    assert {name for name in TOKENS if name in complete} <= {*space.fixed(), *params}
    assert complete["width"] == complete["heads"] * complete["head_size"]
    fixed = {name: value for name, value in space.fixed().items() if name in complete}
    assert {name: complete[name] for name in fixed} == fixed
    assert set(space.fixed()) - set(fixed) <= {"vocabulary"}  # the kind bytes has no vocabulary
    for name, parameter in space.searched().items():
        if space.is_active(name, params):
            assert complete[name] == params[name]
            assert parameter.contains(params[name])
            assert isinstance(parameter, Choices | Range)
        else:
            assert name not in params
            assert complete.get(name) == SETTINGS[name].default


def test_the_cheapest_trial_may_be_one_in_which_a_setting_does_not_matter():
    sizes = {"choices": [2], "when": {"pretrain_optimiser": ["muon"]}}
    search = {"depth": 1, "pretrain_optimiser": {"choices": ["muon", "adamw"]}, "committee_size": sizes}
    space = Space.from_document({"search": search, "budget": {"trials": 1}})
    costs = plan(space, DataSizes(vocabulary=1000, length=32, labels=5, train_rows=100))
    assert (costs.at_least.members, costs.at_most.members) == (1, 2)


@given(spaces())
@settings(max_examples=30)
def test_the_expected_cost_lies_between_the_bounds(space):
    costs = plan(space, DataSizes(vocabulary=1000, length=32, labels=5, train_rows=100))
    for measure in ("members", "pretraining_tokens", "finetuning_tokens", "updates", "flops"):
        least, expected, most = (getattr(c, measure) for c in (costs.at_least, costs.expected, costs.at_most))
        assert least * (1 - 1e-9) <= expected <= most * (1 + 1e-9), measure


def test_drawing_is_seeded():
    space = Space.from_document(
        {"search": {"depth": {"low": 1, "high": 96}, "finetune_dropout": {"low": 0, "high": 0.5}}}
    )
    assert draw(space, random.Random(3)) == draw(space, random.Random(3))
    assert draw(space, random.Random(3)) != draw(space, random.Random(4))
