"""Data for several tokenizers: each is prepared once, with the same rows; and bytes as tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest

from tlm_search.cost.plan import DataSizes, committee_cost, plan
from tlm_search.data.damage import damaged_data
from tlm_search.data.pairs import Pair
from tlm_search.data.prepare import prepare
from tlm_search.data.prepared import PreparedData, facts_of
from tlm_search.data.vocabulary.byte_level import BYTE_TOKENS, byte_tokenizer
from tlm_search.data.vocabulary.tokenizer import (
    add_markers,
    encode,
    encode_pairs,
    marker_ids,
    open_tokenizer,
    write_byte_tokenizer,
)
from tlm_search.data.vocabulary.words import pieces_of
from tlm_search.errors import StoreError, StudyError
from tlm_search.space.schema import Space
from tlm_search.study.identity import check_same_data

SpaceOf = Callable[..., Space]
TOKENS = {"tokenizer_kind": {"choices": ["wordpiece", "bytes"]}, "vocabulary": {"choices": [80, 100]}, "length": 40}


def test_each_tokenizer_is_prepared_once_and_sources_are_read_once(tmp_path: Path, space_of: SpaceOf) -> None:
    steps: list[str] = []
    space = space_of(search=TOKENS)
    data = prepare(space, tmp_path / "store", progress=steps.append)
    assert [step.split(" on ")[0] for step in steps if step.startswith("training")] == [
        "training a vocabulary of 80",
        "training a vocabulary of 100",
    ]
    assert sum(step.startswith("reading") for step in steps) == 2
    small, large, of_bytes = data.all()
    assert (small.vocabulary, large.vocabulary, of_bytes.vocabulary) == (80, 100, BYTE_TOKENS)
    assert small.labels == of_bytes.labels
    assert len({each.task_fingerprint for each in data.all()}) == 3
    for part in ("train", "validation", "test"):
        labels = [np.load(each.folder(part) / "labels.npy").tolist() for each in data.all()]
        assert labels[0] == labels[1] == labels[2]
    assert prepare(space, tmp_path / "store", progress=steps.append) == data
    assert sum(step.startswith("reading") for step in steps) == 2
    # The preparation for the section alone is found in the store: it has the same name as always.
    alone = prepare(space_of(tokenizer={"vocabulary": 80, "length": 40}), tmp_path / "store", progress=steps.append)
    assert alone == small
    assert sum(step.startswith("reading") for step in steps) == 2


def test_it_travels_as_json_and_a_configuration_finds_its_own(tmp_path: Path, space_of: SpaceOf) -> None:
    space = space_of(search=TOKENS)
    made = prepare(space, tmp_path / "store")
    document = json.loads(json.dumps(made.to_document()))
    data = PreparedData.from_document(document, tmp_path / "store")
    assert data == made
    settings = space.settings({"tokenizer_kind": "bytes"})
    assert data.of(settings).of(settings).vocabulary == facts_of(document, settings)["vocabulary"] == BYTE_TOKENS
    assert DataSizes.of_data(data).tokens(settings) == DataSizes.of_space(space).tokens(settings) == (BYTE_TOKENS, 40)
    with pytest.raises(StoreError, match="not prepared for tokenizer_kind bytes, length 8"):
        data.of({**settings, "length": 8})
    document["variants"][2]["data"]["tokenizer"] = "../../etc"
    with pytest.raises(StoreError, match="tokenizer cannot be taken"):
        PreparedData.from_document(document, tmp_path / "store")


def test_a_plan_counts_each_configuration_with_its_own(space_of: SpaceOf) -> None:
    space = space_of(search={"pretrain_size": 40, "length": {"choices": [16, 64]}}, budget={"trials": 2})
    whole, sizes = plan(space, DataSizes.of_space(space)), DataSizes.of_space(space)
    short, long = (committee_cost(space.settings({"length": length}), sizes) for length in (16, 64))
    assert long.finetuning_tokens == 4 * short.finetuning_tokens
    assert long.pretraining_tokens == 4 * short.pretraining_tokens
    assert (whole.at_least.finetuning_tokens, whole.at_most.finetuning_tokens) == (
        short.finetuning_tokens,
        2 * long.finetuning_tokens,
    )
    assert "every text has 16 or 64 tokens" in whole.assumptions


def test_a_study_goes_on_with_the_same_tokens_alone(tmp_path: Path, space_of: SpaceOf) -> None:
    data = prepare(space_of(search=TOKENS), tmp_path / "store")

    study = optuna.create_study()
    document = json.loads(json.dumps(data.to_document()))
    study.set_user_attr("data", document)
    check_same_data(study, data)
    document["variants"][1]["data"]["tokenizer_fingerprint"] = "another"
    study.set_user_attr("data", document)
    with pytest.raises(StudyError, match="changed since: the vocabulary"):
        check_same_data(study, data)


def test_damage_of_each_is_found(tmp_path: Path, space_of: SpaceOf) -> None:
    data = prepare(space_of(search=TOKENS), tmp_path / "store")
    folder = data.all()[2].folder("tokenizer")
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " ")
    assert list(damaged_data(tmp_path / "store")) == [folder]


def test_bytes_are_those_of_the_text() -> None:
    tokenizer = byte_tokenizer()
    texts = ["Hé, WORLD", "", "日本", "a\x00b\n"]
    for text, ids in zip(texts, encode(tokenizer, texts, length=512), strict=True):
        assert [number - 5 for number in ids[1:-1]] == list(text.encode())
        assert (ids[0], ids[-1]) == (2, 3)
        assert tokenizer.decode(ids) == text
    assert tokenizer.get_vocab_size() == BYTE_TOKENS == 261
    [(ids, first)] = encode_pairs(tokenizer, [Pair("ab", "c")], length=16)
    assert (ids, first) == ([2, 102, 103, 3, 104, 3], 4)
    assert len(next(iter(encode(tokenizer, ["long " * 1000], length=64)))) == 64


def test_bytes_with_marked_entities_and_their_words(tmp_path: Path) -> None:
    write_byte_tokenizer(tmp_path)
    add_markers(tmp_path)
    tokenizer = open_tokenizer(tmp_path)
    markers = list(marker_ids(tokenizer).values())
    assert markers == [261, 262, 263, 264]
    ids = next(iter(encode(tokenizer, ["[E1] Bob [/E1] is"], length=32)))
    assert [number for number in ids if number in markers] == markers[:2]
    pieces = pieces_of(tokenizer, special=[*range(5), *markers])
    # Letters are parts of words, in lower case; spaces, dots and markers separate words.
    assert [pieces.texts[5 + ord(letter)] for letter in "aZ9 ."] == ["a", "z", "9", "", ""]
    assert pieces.texts[261] == ""
    assert not pieces.begins[5 + ord("a")]
