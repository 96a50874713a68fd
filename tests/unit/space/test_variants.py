from pathlib import Path

import pytest

from tlm_search.errors import SpaceError
from tlm_search.space.document import read_document
from tlm_search.space.schema import load_space

SPACES = Path(__file__).parents[3] / "spaces"
TEXT = """\
tokenizer: {name: bert-base-uncased, length: 128}
search: {depth: {choices: [1, 2, 3]}, heads: 12, head_size: 64, pretrain_size: {low: 10, high: 40000}}
variants:
  about:
    news: {}
    relations: {task: {source: relations.json}}
  scale:
    full: {}
    cpu:
      tokenizer: {name: null, vocabulary: 512, length: 16}
      search: {heads: 2, pretrain_size: 300}
      task: {train_per_label: 5}
"""


@pytest.fixture
def load(tmp_path):
    def make(text=TEXT, **overrides):
        file = tmp_path / "gap.yaml"
        file.write_text(text)
        return load_space(file, overrides={key.replace("__", "."): value for key, value in overrides.items()})

    return make


def refused(load, text=TEXT, **overrides):
    with pytest.raises(SpaceError) as caught:
        load(text, **overrides)
    return caught.value.message


def test_the_first_of_each_word_is_the_file_as_it_stands(load):
    space = load()
    assert (space.name, space.search["heads"], space.tokenizer.length) == ("gap", 12, 128)
    assert load(scale="full", about="news") == space


def test_a_variant_merges_mappings_replaces_values_and_removes_keys(load):
    space = load(scale="cpu")
    assert (space.tokenizer.name, space.tokenizer.vocabulary, space.tokenizer.length) == (None, 512, 16)
    assert (space.search["heads"], space.search["head_size"]) == (2, 64)
    assert space.searched().keys() == {"depth"}
    assert space.task.train_per_label == 5


def test_variants_add_up_and_name_the_study(load):
    space = load(about="relations", scale="cpu")
    assert (space.task.source, space.task.train_per_label, space.name) == ("relations.json", 5, "gap-relations-cpu")
    assert load("name: mine\n" + TEXT, scale="cpu").name == "mine"
    assert load("scale: cpu\n" + TEXT).name == "gap-cpu"


def test_what_is_set_goes_before_a_variant(load):
    assert load(scale="cpu", search__heads="3").search["heads"] == 3


def test_a_variant_is_not_part_of_what_a_study_is(load):
    plain = TEXT.partition("variants:")[0]
    assert load(plain).digest == load().digest != load(scale="cpu").digest


def test_variants_can_be_set_too(load):
    assert load(variants__scale__cpu__search__heads="5", scale="cpu").search["heads"] == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"scale": "cpi"}, "--set scale: scale: unknown scale 'cpi'; did you mean cpu?; allowed: full, cpu"),
        ({"scale": "3"}, "--set scale: scale: unknown scale 3; allowed: full, cpu"),
        ({"scal": "cpu"}, "--set scal: scal: unknown key 'scal'"),
    ],
)
def test_an_unknown_choice_is_named(load, overrides, message):
    assert message in refused(load, **overrides)


def test_a_mistake_in_a_variant_is_named_with_its_line_where_it_is_taken(load):
    text = TEXT.replace("heads: 2", "heads: 0")
    assert load(text).search["heads"] == 12
    assert "gap.yaml:11: variants.scale.cpu.search.heads: given 0" in refused(load, text, scale="cpu")
    first = TEXT.replace("full: {}", "full: {search: {heads: 0}}")
    assert "gap.yaml:8: variants.scale.full.search.heads: given 0" in refused(load, first)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ("[1]", "gap.yaml:1: variants: given [1]; allowed: a mapping from a word to named changes"),
        ("{scale: {}}", "variants.scale: given {}; allowed: a mapping from names to changes"),
        ("{scale: {cpu: 3}}", "variants.scale.cpu: given 3; allowed: a mapping with the keys that it changes"),
        ("{task: {cpu: {}}}", "variants.task: given task; allowed: a word that is no key of a space"),
    ],
)
def test_badly_formed_variants(load, variants, message):
    assert message in refused(load, f"variants: {variants}\nsearch: {{depth: 1}}")


def _with_one_variant() -> list:
    found = []
    for file in sorted(SPACES.rglob("*.yaml")):
        for word, changes in (read_document(file).data.get("variants") or {}).items():
            for name in changes:
                found.append(pytest.param(file, word, name, id=f"{file.stem}-{word}-{name}"))
    return found


@pytest.mark.parametrize(("file", "word", "name"), _with_one_variant())
def test_every_variant_of_a_shipped_space_is_right(file, word, name):
    assert load_space(file, overrides={word: name})
