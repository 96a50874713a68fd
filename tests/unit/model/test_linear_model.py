"""The linear model answers from token ids as scikit-learn's pipeline does from the words that they make up."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from tlm_search.data.markers import Markers
from tlm_search.data.vocabulary.words import Pieces
from tlm_search.model.linear import LinearWeights, linear_logits, parameters_of, term_keys, term_tables, with_terms

PIECES = [
    *[("", True)] * 3,  # special tokens, punctuation
    *[("hat", True), ("hats", True), ("s", False), ("s", True), ("ha", True), ("t", False), ("t", True)],
    *[("2", True), ("2", False), ("nd", False), ("ä", True), ("ma", True), ("tch", False), ("", False)],
    *[("", True)] * 4,
]
MARKERS = Markers(17, 18, 19, 20)
TABLE = Pieces(tuple(text for text, _ in PIECES), np.array([begins for _, begins in PIECES]))
LABELS = 3


def words_of(ids: Sequence[int]) -> list[tuple[int, str]]:
    """Return the words of two characters or more, put together token by token, each with its first token."""
    words, going_on = [], False
    for place, (text, begins) in enumerate(PIECES[number] for number in ids):
        if text and going_on and not begins:
            words[-1] = (words[-1][0], words[-1][1] + text)
        elif text:
            words.append((place, text))
        going_on = bool(text)
    return [word for word in words if len(word[1]) > 1]


def spans_of(ids: Sequence[int]) -> dict[str, range]:
    """Return the spans of a text in which the four markers follow each other, head first."""
    if [number for number in ids if number in MARKERS] != list(MARKERS):
        return {}
    one, two, three, four = (list(ids).index(number) for number in MARKERS)
    left, right = range(max(0, one - 4), one), range(four + 1, min(len(ids), four + 5))
    return {"head": range(one, two), "tail": range(three, four), "between": range(two, three), "l": left, "r": right}


def terms_of(ids: Sequence[int], *, pairs: bool, marked: bool = False) -> list[tuple[str, ...]]:
    words = words_of(ids)
    texts = [text for _, text in words]
    roles = [(name, text) for name, span in spans_of(ids).items() for place, text in words if place in span]
    following = list(itertools.pairwise(texts))
    return [*((text,) for text in texts), *(roles if marked else []), *(following if pairs else [])]


def padded(texts: Sequence[Sequence[int]], *, pad: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad with a token that would be a word, so that only the mask shows the end."""
    length = max(1, *map(len, texts))
    ids = torch.tensor([[*text, *[pad] * (length - len(text))] for text in texts])
    return ids, torch.arange(length) < torch.tensor([len(text) for text in texts])[:, None]


def tables(*, pairs: bool, marked: bool = False) -> LinearWeights:
    return term_tables(TABLE, pairs=pairs, markers=MARKERS if marked else None)


def keys_of(texts: Sequence[Sequence[int]], *, pairs: bool, marked: bool = False) -> list[list[int]]:
    keys, are_terms = term_keys(tables(pairs=pairs, marked=marked), *padded(texts))
    return [row[kept].tolist() for row, kept in zip(keys, are_terms, strict=True)]


def model_of(texts: Sequence[Sequence[int]], *, pairs: bool, marked: bool = False, seed: int = 0):
    """Return the tensors of a random model over the terms of ``texts``, and the same as scikit-learn's pipeline."""
    options = {"pairs": pairs, "marked": marked}
    vectoriser = TfidfVectorizer(analyzer=lambda ids: terms_of(ids, **options), sublinear_tf=True).fit(texts)
    random = np.random.default_rng(seed)
    coefficients = random.normal(size=(len(vectoriser.vocabulary_), LABELS)) * 5
    intercept = random.normal(size=LABELS)
    keys = np.zeros(len(vectoriser.vocabulary_), np.int64)
    for text, found in zip(texts, keys_of(texts, **options), strict=True):
        for term, key in zip(terms_of(text, **options), found, strict=True):
            keys[vectoriser.vocabulary_[term]] = key
    weights = with_terms(tables(**options), keys, idf=vectoriser.idf_, coefficients=coefficients, intercept=intercept)

    def expected(asked: Sequence[Sequence[int]]) -> torch.Tensor:
        scores = vectoriser.transform(asked) @ coefficients + intercept
        return torch.from_numpy(scores).log_softmax(-1).float()

    return weights, expected


TEXTS = st.lists(st.lists(st.integers(0, 16), max_size=30), min_size=1, max_size=6)


PARTS = st.lists(st.lists(st.integers(0, 16), max_size=7), min_size=5, max_size=5)


def marked_text(parts: Sequence[Sequence[int]]) -> list[int]:
    """Return five parts with the four markers between them."""
    return [*parts[0], *itertools.chain(*([number, *part] for number, part in zip(MARKERS, parts[1:], strict=True)))]


@settings(max_examples=60)
@given(TEXTS, st.lists(PARTS, max_size=4), st.booleans(), st.booleans())
def test_terms_are_the_words_roles_and_pairs_of_each_text(
    texts: list[list[int]], parts: list[list[list[int]]], pairs: bool, marked: bool
) -> None:
    texts = [*texts, *map(marked_text, parts)]
    names: dict[int, tuple[str, ...]] = {}
    for text, keys in zip(texts, keys_of(texts, pairs=pairs, marked=marked), strict=True):
        terms = terms_of(text, pairs=pairs, marked=marked)
        assert len(keys) == len(terms)
        for key, term in zip(keys, terms, strict=True):
            assert names.setdefault(key, term) == term
    assert len(set(names.values())) == len(names)


@settings(max_examples=60)
@given(TEXTS, st.lists(PARTS, max_size=3), TEXTS, st.booleans(), st.booleans())
def test_it_equals_scikit_learn(
    texts: list[list[int]], parts: list[list[list[int]]], asked: list[list[int]], pairs: bool, marked: bool
) -> None:
    texts = [*texts, *map(marked_text, parts), [4, 10, 12]]  # scikit-learn refuses texts without any word
    asked = [*asked, *map(marked_text, parts[::-1])]
    weights, expected = model_of(texts, pairs=pairs, marked=marked)
    everything = [*texts, *asked, []]
    found = linear_logits(weights, *padded(everything))
    torch.testing.assert_close(found, expected(everything), atol=1e-5, rtol=1e-5)
    for text in everything[:-1]:
        alone = linear_logits(weights, torch.tensor([text or [0]]), None)
        torch.testing.assert_close(alone, expected([text]), atol=1e-5, rtol=1e-5)


def test_ordered_roles_tell_which_entity_comes_first() -> None:
    """Head and tail have the same role in each order; the words between and around them have different roles."""
    head, tail = [17, 3, 18], [19, 7, 20]
    texts = padded([[*head, 4, *tail, 14], [*tail, 4, *head, 14]])
    found = {}
    for ordered in (False, True):
        keys, are_terms = term_keys(term_tables(TABLE, pairs=False, markers=MARKERS, ordered=ordered), *texts)
        found[ordered] = [set(row[kept].tolist()) for row, kept in zip(keys, are_terms, strict=True)]
    assert found[False][0] == found[False][1]
    assert [len(keys) for keys in found[True]] == [8, 8]
    assert len(found[True][0] & found[True][1]) == 6, "four words, the head and the tail"


def test_a_word_is_the_same_however_it_is_cut() -> None:
    (one, two, three) = keys_of([[4], [3, 5], [7, 8, 5]], pairs=False)
    assert one == two == three


def test_many_terms_are_all_found_and_no_others() -> None:
    """Some buckets hold more than one key: the table grows until no bucket holds more than are looked at."""
    random = np.random.default_rng(0)
    keys = np.unique(random.integers(-(2**63), 2**63, 5000))
    crowded = np.unique(np.concatenate([keys, np.arange(20) * 2**20]))  # keys that agree in their last bits
    weights = with_terms(
        tables(pairs=False),
        crowded[::2],
        idf=np.arange(len(crowded[::2])),
        coefficients=np.zeros((len(crowded[::2]), 2)),
        intercept=np.zeros(2),
    )
    buckets = weights["buckets"]
    begin = buckets[torch.from_numpy(crowded) & (len(buckets) - 1)]
    looked_at = weights["keys"][begin[:, None] + torch.arange(8)] == torch.from_numpy(crowded)[:, None]
    assert looked_at.sum(-1).tolist() == [1 - number % 2 for number in range(len(crowded))]
    place = (begin + looked_at.long().argmax(-1))[::2]
    assert weights["idf"][place].tolist() == list(range(len(crowded[::2]))), "each with its own numbers"


def test_long_words_and_long_texts() -> None:
    """A word may have more characters than there are powers; the other characters still count."""
    texts = [[3, *[8] * 700], [3, *[8] * 699, 5], [3] * 1000]
    first, second, third = keys_of(texts, pairs=False)
    assert len({*first, *second}) == 2
    assert len(third) == 1000
    assert len(set(third)) == 1


def test_parameters() -> None:
    weights, _ = model_of([[4, 10, 12]], pairs=True)
    terms = 2 + 1  # hats, 2nd? and the pair of both
    assert parameters_of(weights) == len(weights["idf"]) * (LABELS + 1) + LABELS
    assert len(weights["idf"]) == terms


def test_of_a_marker_that_is_missing_no_word_has_the_role() -> None:
    whole = marked_text([[4], [4], [4, 4], [4], [4]])
    keys = [set(row) for row in keys_of([whole, whole[:-3], [4]], pairs=False, marked=True)]
    assert [len(row) for row in keys] == [6, 4, 1], "left, head and between are still there"
    assert keys[0] > keys[2]


def test_it_can_be_written_as_a_graph_with_free_batch_and_length(tmp_path) -> None:
    """One graph contains models of all kinds, because writing a graph takes seconds."""
    from tlm_search.export.onnx import _quiet, open_session

    texts = [[4, 10, 12, 3, 5], [3, 3, 0, 14, 15], [1, 2], marked_text([[6], [10, 12], [4, 4], [], [3, 5, 4]])]
    kinds = itertools.product((False, True), repeat=2)
    models = [model_of(texts, pairs=pairs, marked=marked) for pairs, marked in kinds]

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for model, (weights, _) in enumerate(models):
                for name, value in weights.items():
                    self.register_buffer(f"{name}_{model}", value)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(
                linear_logits({name: getattr(self, f"{name}_{model}") for name in weights}, ids, mask.bool())
                for model, (weights, _) in enumerate(models)
            )

    ids, mask = padded(texts[:2])
    free = {0: "batch", 1: "length"}
    with _quiet():
        torch.onnx.export(
            Graph().eval(),
            (ids, mask.long()),
            tmp_path / "linear.onnx",
            input_names=["ids", "mask"],
            dynamic_shapes=(free, free),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = open_session(tmp_path / "linear.onnx", threads=1)
    for asked in (texts, texts[:1], [texts[3], texts[0] * 9]):
        ids, mask = padded(asked)
        answers = session.run(None, {"ids": ids.numpy(), "mask": mask.long().numpy()})
        for found, (_, expected) in zip(answers, models, strict=True):
            torch.testing.assert_close(torch.from_numpy(found), expected(asked), atol=1e-5, rtol=1e-5)
