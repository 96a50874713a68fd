"""Reduce a WordPiece vocabulary to the tokens that given texts use, since embeddings are most of a tiny model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tlm_search.data.vocabulary.tokenizer import encode, open_tokenizer
from tlm_search.errors import DataError


def prune_tokenizer(folder: Path, texts: Sequence[Sequence[str]], *, length: int, min_count: int) -> None:
    """Remove the tokens that ``texts``, cut to ``length``, use less than ``min_count`` times, in ``folder``.

    The remaining ids are renumbered in their order. A word that contained a removed token is split into remaining
    tokens. Special tokens stay. So do the single characters of all used tokens that the vocabulary has, so that no word
    of the texts becomes [UNK].

    Raises:
        DataError: the vocabulary is not a WordPiece vocabulary in BERT's form.
    """
    file = folder / "tokenizer.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    model, ends = document["model"], document["post_processor"] or {}
    if (model.get("type"), ends.get("type")) != ("WordPiece", "TemplateProcessing"):
        raise DataError(
            f"min_count needs a tokenizer with word pieces, as BERT has; this one is of type {model.get('type')}",
            hint="leave min_count out, or name another tokenizer such as google-bert/bert-base-uncased",
        )
    tokenizer, counts = open_tokenizer(folder), Counter[int]()
    for part in texts:
        for ids in encode(tokenizer, part, length=length):
            counts.update(ids)
    used = {token: counts[number] for token, number in model["vocab"].items() if counts[number]}
    kept = {entry["content"] for entry in document["added_tokens"]}
    kept.update(token for token, count in used.items() if count >= min_count)
    kept.update(*(_characters(token, model["continuing_subword_prefix"]) for token in used))
    ordered = sorted(kept & model["vocab"].keys(), key=model["vocab"].__getitem__)
    numbers = {token: number for number, token in enumerate(ordered)}
    model["vocab"] = numbers
    for entry in document["added_tokens"]:
        entry["id"] = numbers.setdefault(entry["content"], len(numbers))
    for entry in ends["special_tokens"].values():
        entry["ids"] = [numbers[token] for token in entry["tokens"]]
    _write(folder, {**document, "truncation": None, "padding": None})


def _characters(token: str, prefix: str) -> set[str]:
    """Return the single-character tokens that spell ``token``. Inside a word they begin with ``prefix``."""
    inside = token.startswith(prefix) and token != prefix
    first, *others = list(token.removeprefix(prefix) if inside else token)
    return {prefix + first if inside else first, *(prefix + character for character in others)}


def _write(folder: Path, document: Mapping[str, object]) -> None:
    place = folder / "tokenizer_config.json"
    config = json.loads(place.read_text(encoding="utf-8"))
    # A model-specific class would rebuild the tokenizer from its settings, with ids of the whole vocabulary.
    config = {key: value for key, value in config.items() if key not in ("added_tokens_decoder", "backend")}
    for other in folder.iterdir():
        other.unlink()
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    text = json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2)
    place.write_text(text + "\n", encoding="utf-8")
