"""Vocabulary, length and kind of tokenizer as settings: which tokenizers a space has, and which are impossible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tlm_search.errors import SpaceError
from tlm_search.space.schema import Space, load_space

KINDS = {"choices": ["wordpiece", "bytes"]}


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[str], SpaceError]:
    def load(text: str) -> SpaceError:
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(SpaceError) as caught:
            load_space(tmp_path / "x.yaml")
        return caught.value

    return load


def space_of(search: dict[str, Any] | None = None, **sections: Any) -> Space:
    return Space.from_document({"search": search or {}, **sections})


def sections_of(space: Space) -> list[dict[str, Any]]:
    return [section.model_dump(mode="json") for _, section in space.tokenizers]


def test_a_space_without_them_is_as_before() -> None:
    space = space_of({"depth": {"choices": [1, 2]}}, reference={"depth": 4})
    assert space.to_document()["tokenizer"] == {"vocabulary": 4096, "name": None, "length": 64}
    assert not {"tokenizer_kind", "vocabulary", "length"} & space.settings({"depth": 1}).keys()
    assert [(dict(tokens), section) for tokens, section in space.tokenizers] == [({}, space.tokenizer)]


def test_each_combination_once_and_those_of_the_reference() -> None:
    search = {"tokenizer_kind": KINDS, "vocabulary": {"choices": [1024, 4096]}, "length": {"choices": [32, 64]}}
    reference = {"tokenizer_kind": "wordpiece", "vocabulary": 16384, "length": 64}
    space = space_of(search, reference=reference)
    assert sections_of(space) == [
        *({"vocabulary": size, "name": None, "length": length} for size in (1024, 4096) for length in (32, 64)),
        *({"kind": "bytes", "vocabulary": None, "name": None, "length": length} for length in (32, 64)),
        {"vocabulary": 16384, "name": None, "length": 64},
    ]
    assert list(space.searched()) == ["tokenizer_kind", "vocabulary", "length"]
    assert "vocabulary" not in space.settings({"tokenizer_kind": "bytes", "length": 32})


def test_one_value_takes_the_place_of_the_section() -> None:
    assert sections_of(space_of({"length": 32, "vocabulary": 100})) == [{"vocabulary": 100, "name": None, "length": 32}]
    of_bytes = {"kind": "bytes", "vocabulary": None, "name": None, "length": 256}
    assert sections_of(space_of({"tokenizer_kind": "bytes", "length": 256})) == [of_bytes]
    assert sections_of(space_of(tokenizer={"kind": "bytes", "length": 256})) == [of_bytes]
    back = space_of({"tokenizer_kind": "wordpiece"}, tokenizer={"kind": "bytes", "length": 256})
    assert sections_of(back) == [{"vocabulary": 4096, "name": None, "length": 256}]
    named = space_of({"length": {"choices": [32, 64]}}, tokenizer={"name": "bert-base-uncased"})
    assert [section["length"] for section in sections_of(named)] == [32, 64]


def test_a_condition_leaves_out_what_no_trial_has() -> None:
    search = {"tokenizer_kind": KINDS, "length": {"choices": [128, 256], "when": {"tokenizer_kind": ["bytes"]}}}
    assert [(section["length"], section.get("kind")) for section in sections_of(space_of(search))] == [
        (64, None),
        (128, "bytes"),
        (256, "bytes"),
    ]
    with_depth = {"depth": {"choices": [1, 2, 4]}, "length": {"choices": [32, 128], "when": {"depth": [4]}}}
    assert [section["length"] for section in sections_of(space_of(with_depth))] == [64, 32, 128]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("search: {vocabulary: {low: 512, high: 4096}}", ["given a range; allowed: a value or choices", "[512, 4096]"]),
        ("search: {length: 4}", ["search.length: given 4; allowed: a whole number from 8 to 512"]),
        ("search: {vocabulary: {choices: [8, 100]}}", ["search.vocabulary.choices.0: given 8"]),
        ("search: {tokenizer_kind: byte}", ["did you mean bytes?"]),
        ("tokenizer: {name: y}\nsearch: {vocabulary: 100}", ["x.yaml:2: search.vocabulary", "only length"]),
        ("tokenizer: {name: x}\nsearch: {tokenizer_kind: bytes}", ["search.tokenizer_kind: given together with 'x'"]),
        ("tokenizer: {kind: bytes}\nsearch: {vocabulary: {choices: [80, 100]}}", ["tokenizer.kind bytes"]),
        ("tokenizer: {kind: bytes}\nreference: {vocabulary: 100}", ["reference.vocabulary: given together with"]),
        ("tokenizer: {kind: bytes, vocabulary: 100}", ["tokenizer.vocabulary: given 100 together with kind bytes"]),
        ("tokenizer: {kind: bytes, name: x}", ["tokenizer.name: given 'x' together with kind bytes"]),
        ("tokenizer: {kind: bytes, strip_accents: true}", ["tokenizer.strip_accents"]),
        ("search: {vocabulary: {choices: [80, 100]}}\nreference: {depth: 4}", ["vocabulary is missing"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(refused: Callable[[str], SpaceError], text: str, messages: list[str]) -> None:
    error = str(refused(text))
    assert all(message in error for message in messages), error
