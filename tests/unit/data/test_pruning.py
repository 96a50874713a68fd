"""A pruned vocabulary: what it keeps, what becomes of words whose piece goes, and that nothing else changes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tlm_search.data.prepare import prepare
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.pruning import prune_tokenizer
from tlm_search.data.vocabulary.tokenizer import copy_tokenizer, encode, open_tokenizer, special_ids, vocabulary_size
from tlm_search.errors import DataError
from tlm_search.space.schema import Space

PIECES = [
    "[PAD]", "[unused0]", "fox", "##es", "a", "b", "f", "o", "s", "x", "[UNK]", "[CLS]",
    "##a", "##b", "##o", "##s", "##x", "##e", "[SEP]", "[MASK]", "zebra", "bo", "##ox", "漢",
]  # fmt: skip
TEXTS = [["Foxes box", "fox bob", "fox a"], ["fox a boab"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "made").mkdir()
    copy_tokenizer(tmp_path / "made", str(tmp_path / "named"))
    return tmp_path / "made"


def words_of(folder: Path, text: str) -> list[str]:
    tokenizer = open_tokenizer(folder)
    (ids,) = encode(tokenizer, [text], length=20)
    return [tokenizer.id_to_token(number) for number in ids]


def test_it_keeps_what_is_used_often_and_the_characters_of_the_rest(folder: Path) -> None:
    assert words_of(folder, "foxes box") == ["[CLS]", "fox", "##es", "bo", "##x", "[SEP]"]
    prune_tokenizer(folder, TEXTS, length=20, min_count=3)
    found = open_tokenizer(folder).get_vocab()
    # fox occurs 4 times and bo 3 times, so they stay; ##es occurs once, so only its characters stay. zebra and
    # [unused0] go.
    assert sorted(found, key=found.__getitem__) == [
        "[PAD]", "fox", "a", "b", "f", "[UNK]", "[CLS]",
        "##a", "##b", "##o", "##s", "##x", "##e", "[SEP]", "[MASK]", "bo",
    ]  # fmt: skip
    assert sorted(found.values()) == list(range(len(found)))
    assert words_of(folder, "foxes box") == ["[CLS]", "fox", "##e", "##s", "bo", "##x", "[SEP]"]
    assert words_of(folder, "zebra") == ["[CLS]", "[UNK]", "[SEP]"]
    assert vocabulary_size(open_tokenizer(folder)) == len(found)


def test_no_word_of_the_texts_becomes_unknown(folder: Path) -> None:
    prune_tokenizer(folder, TEXTS, length=20, min_count=100)
    tokenizer = open_tokenizer(folder)
    for text in (*TEXTS[0], *TEXTS[1]):
        assert "[UNK]" not in words_of(folder, text)
        assert tokenizer.decode(tokenizer.encode(text).ids) == text.lower()


def test_what_lies_beyond_the_cut_is_not_used(folder: Path) -> None:
    prune_tokenizer(folder, [["a a a a fox"]], length=6, min_count=1)
    assert "fox" not in open_tokenizer(folder).get_vocab()


def test_transformers_loads_it_with_the_same_ids(folder: Path) -> None:
    from transformers import AutoTokenizer

    prune_tokenizer(folder, TEXTS, length=20, min_count=3)
    loaded = AutoTokenizer.from_pretrained(folder)
    tokenizer = open_tokenizer(folder)
    assert len(loaded) == vocabulary_size(tokenizer)
    assert loaded("Foxes box")["input_ids"] == next(encode(tokenizer, ["Foxes box"], length=20))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    found = special_ids(tokenizer, config, "pruned")
    roles = {role: getattr(loaded, f"{role}_token_id") for role in ("pad", "unk", "cls", "sep", "mask")}
    assert found == roles
    assert [tokenizer.id_to_token(number) for number in roles.values()] == list(wordpiece.SPECIAL)


def test_what_transformers_saved_with_a_class_of_its_own_loads_with_the_same_ids_too(folder: Path) -> None:
    from transformers import AutoTokenizer, BertTokenizerFast

    named = BertTokenizerFast(str(folder.parent / "named" / "vocab.txt"))
    for file in folder.iterdir():
        file.unlink()
    named.save_pretrained(str(folder))
    prune_tokenizer(folder, TEXTS, length=20, min_count=3)
    ids = next(encode(open_tokenizer(folder), ["Foxes box"], length=20))
    assert AutoTokenizer.from_pretrained(folder)("Foxes box")["input_ids"] == ids


def test_other_vocabularies_are_refused(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["type"] = "BPE"
    (folder / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="this one is of type BPE"):
        prune_tokenizer(folder, TEXTS, length=20, min_count=3)


def test_a_named_tokenizer_is_pruned_to_what_the_texts_use(tmp_path: Path, space_of: Callable[..., Space]) -> None:
    trained = prepare(space_of(), tmp_path / "store")
    named = {"name": str(trained.folder("tokenizer")), "length": 12}
    whole, pruned, harder = (
        prepare(space_of(tokenizer={**named, **more}), tmp_path / "store")
        for more in ({}, {"min_count": 1}, {"min_count": 20})
    )
    assert whole.task_fingerprint == trained.task_fingerprint
    assert whole.vocabulary > pruned.vocabulary > harder.vocabulary
    assert len({data.tokenizer_fingerprint for data in (whole, pruned, harder)}) == 3
    texts = []
    for data in (whole, pruned, harder):
        tokenizer = open_tokenizer(data.folder("tokenizer"))
        arrays = [TokenArray.open(data.folder(part)) for part in ("corpus", "train")]
        assert data.vocabulary == len(tokenizer.get_vocab()) > max(int(array.ids.max()) for array in arrays)
        texts.append([tokenizer.decode(array[0].tolist()) for array in arrays])
    assert texts[0] == texts[1]
    assert all(short and long.startswith(short) for short, long in zip(texts[2], texts[0], strict=True))
