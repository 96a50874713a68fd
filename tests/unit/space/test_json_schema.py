import json
from pathlib import Path

import jsonschema
import pytest

from tlm_search.space.document import parse, read_document
from tlm_search.space.json_schema import json_schema
from tlm_search.space.schema import load_space
from tlm_search.space.settings import SETTINGS

SPACES = Path(__file__).parents[3] / "spaces"
FILES = sorted(SPACES.rglob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


def test_the_shipped_schema_is_what_the_command_prints():
    # Made by: tlm-search schema > spaces/space.schema.json
    assert (SPACES / "space.schema.json").read_text() == json.dumps(json_schema(), indent=2) + "\n"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_fits_every_shipped_space_and_what_it_resolves_to(file):
    VALIDATOR.validate(read_document(file).data)
    VALIDATOR.validate(load_space(file).to_document())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_shipped_space_names_it(file):
    first = file.read_text().splitlines()[0]
    path = first.removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / path).resolve() == SPACES / "space.schema.json"


def test_every_setting_is_described_with_its_limits():
    search = VALIDATOR.schema["properties"]["search"]["properties"]
    assert list(search) == list(SETTINGS)
    assert search["depth"]["description"] == "transformer layers (a whole number from 1 to 96; default 1)"
    assert search["linear_member"]["description"].endswith("(true or false; default false)")


@pytest.mark.parametrize(
    "text",
    [
        "search: {depth: 3, convolution_kernel: [16, 3], feed_forward: 1e0}",
        "search: {depth: {low: 1, high: 3, step: 1, role: nuisance}}",
        "search: {depth: {choices: [1], when: {pooling: [cls]}}}",
        "search: {linear_member: {choices: [false, true]}}",
        "search: {variant: nb}",
        "search: {own_C: 3, own_kind: nb, own_fast: true}",
        "search: {own_C: {low: 0, high: 1e2, log: true, step: 0.5, when: {own_kind: [nb]}}}",
        "points: [{own_C: 3}]",
        "reference: none",
        "sampler: {name: gp, n_startup_trials: 3}",
        "pruner: asha",
        "corpus: file.txt",
        "pruner: {name: none}",
        "sampler: {n_startup_trials: 3}",
        "scale: cpu\nvariants: {scale: {full: {}, cpu: {seed: 1}}}",
        "constraints: [latency_ms <= 5, parameters<=10e6, parameters <= 2_000_000, beats_reference]",
    ],
)
def test_it_accepts(text):
    VALIDATOR.validate(parse(text, place="").data)


@pytest.mark.parametrize(
    "text",
    [
        "sede: 3",
        "search: {dpth: 3}",
        "search: {depth: 0}",
        "search: {own_: 0}",
        "search: {own_C: [1]}",
        "search: {own_C: {low: a, high: b}}",
        "search: {variant: ''}",
        "search: {depth: {choices: []}}",
        "search: {depth: {low: 1}}",
        "search: {pooling: {low: 1, high: 2}}",
        "reference: {depth: 0}",
        "sampler: tpa",
        "sampler: {name: gp, popsize: 3}",
        "sampler: {population_size: 10}",
        "constraints: [latency_ms <= --1]",
        "scale: 3\nvariants: {scale: {full: {}}}",
        "scale: cpu",
        "objectives: [test_accuracy]",
        "constraints: [latency_ms < 5]",
        "budget: {trials: 0}",
        "corpus: {documents: 0}",
    ],
)
def test_it_underlines(text):
    assert not VALIDATOR.is_valid(parse(text, place="").data)
