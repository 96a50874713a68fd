"""BatchSampler of toy documents that are worked out by hand, and what becomes of them in a study's data."""

import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from tlm_search.data import selection as room
from tlm_search.data.prepare import prepare
from tlm_search.data.selection import document_order
from tlm_search.data.tokens import TokenArray
from tlm_search.errors import DataError
from tlm_search.space.sections import CorpusSection

CLS, SEP = 8, 9


def array(*texts):
    framed = [[CLS, *text, SEP] for text in texts]
    return TokenArray(np.concatenate(framed).astype(np.uint16), np.cumsum([0, *map(len, framed)]))


def order(selection, corpus, task):
    return document_order(selection, corpus, task, vocabulary=10, special=[CLS, SEP]).tolist()


# The types 1, 2 and 3 of the task have 2/5, 1/5 and 2/5 of its tokens.
TASK = array([1, 2], [1, 3, 3])
CORPUS = array([4, 5], [1, 1, 1], [2, 3], [1, 3, 4], [2, 4])


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_overlap_counts_types(monkeypatch, block):
    monkeypatch.setattr(room, "_BLOCK", block)
    # 0, 1/3, 2/3, 2/3, 1/3 of the three types; equal documents stay in order
    assert order("overlap", CORPUS, TASK) == [2, 3, 1, 4, 0]


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_weighted_overlap_counts_tokens_of_the_task(monkeypatch, block):
    monkeypatch.setattr(room, "_BLOCK", block)
    # 0, 2/5, 1/5 + 2/5, 2/5 + 2/5, 1/5
    assert order("weighted_overlap", CORPUS, TASK) == [3, 2, 1, 4, 0]


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_tfidf_is_the_cosine(monkeypatch, block):
    monkeypatch.setattr(room, "_BLOCK", block)
    # Types 1 and 2 each occur in two of three documents, so their weights are equal: cosines with (1, 0) are 1, 0,
    # 2/sqrt(5).
    corpus = array([1], [2], [1, 1, 2])
    scores = room._tfidf_scores(corpus, array([1, 1]), vocabulary=10, special=(CLS, SEP))
    assert scores == pytest.approx([1, 0, 2 / np.sqrt(5)])
    assert order("tfidf", corpus, array([1, 1])) == [0, 2, 1]


def test_tfidf_prefers_rare_types():
    # ln(4/4) + 1 = 1 for type 1, in all three documents; ln(4/2) + 1 for type 2, in one document
    corpus = array([1, 4], [1, 2], [1, 5])
    rare = np.log(2) + 1
    scores = room._tfidf_scores(corpus, array([1, 2]), vocabulary=10, special=(CLS, SEP))
    assert scores[1] == pytest.approx(1)
    assert scores[0] == pytest.approx(1 / (1 + rare**2))
    assert order("tfidf", corpus, array([1, 2]))[0] == 1


def test_random_is_one_fixed_permutation():
    once = order("random", CORPUS, TASK)
    assert sorted(once) == [0, 1, 2, 3, 4]
    assert order("random", CORPUS, array([5])) == once


@pytest.mark.parametrize("selection", ["overlap", "weighted_overlap", "tfidf"])
def test_documents_and_tasks_without_a_known_type(selection):
    assert order(selection, array([], [4], [1]), TASK)[0] == 2
    assert order(selection, CORPUS, array([])) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("selection", ["overlap", "weighted_overlap", "tfidf"])
def test_it_agrees_with_the_definition_on_random_texts(selection):
    random = np.random.default_rng(3)
    corpus, task = (array(*(random.integers(0, 8, random.integers(1, 6)) for _ in range(n))) for n in (40, 9))
    texts = [[int(t) for t in corpus[i] if t < CLS] for i in range(40)]
    of_task = [[int(t) for t in task[i] if t < CLS] for i in range(9)]
    tokens = [t for text in of_task for t in text]
    if selection == "overlap":
        scores = [len(set(text) & set(tokens)) / len(set(tokens)) for text in texts]
    elif selection == "weighted_overlap":
        scores = [sum(tokens.count(t) for t in set(text)) / len(tokens) for text in texts]
    else:
        idf = np.array([np.log(41 / (1 + sum(t in text for text in texts))) + 1 for t in range(8)])

        def vector(text):
            values = np.bincount(text, minlength=8) * idf
            return values / np.linalg.norm(values)

        mean = np.mean([vector(text) for text in of_task], axis=0)
        scores = [float(vector(text) @ mean) for text in texts]
    assert order(selection, corpus, task) == np.argsort(-np.round(scores, 12), kind="stable").tolist()


def test_a_study_takes_its_documents_in_that_order(tmp_path, space_of):
    plain = prepare(space_of(), tmp_path / "store")
    corpus = {"source": space_of().corpus.source, "selection": "overlap", "skip": 5}
    chosen = prepare(space_of(corpus=corpus), tmp_path / "store")
    texts, train = (TokenArray.open(plain.folder(part)) for part in ("corpus", "train"))
    expected = document_order("overlap", texts, train, vocabulary=plain.vocabulary, special=plain.special.values())[5:]
    taken = TokenArray.open(chosen.folder("corpus"))
    assert [taken[i].tolist() for i in range(len(taken))] == [texts[int(i)].tolist() for i in expected]
    assert chosen.documents == 45
    # The vocabulary comes from the whole corpus, so only the order differs, and with it the name of the trained member.
    assert (chosen.tokenizer, chosen.task_fingerprint) == (plain.tokenizer, plain.task_fingerprint)
    assert chosen.corpus_fingerprint != plain.corpus_fingerprint


def test_selection_is_part_of_the_digest(space_of):
    source = space_of().corpus.source
    digests = {space_of(corpus={"source": source, **more}).digest for more in ({}, {"selection": "tfidf"}, {"skip": 1})}
    assert len(digests) == 3


def test_another_task_selects_anew_and_random_does_not(tmp_path, space_of):
    corpora = {}
    for selection in ("overlap", "random"):
        corpus = {"source": space_of().corpus.source, "selection": selection}
        for seed in (0, 1):
            data = prepare(space_of(corpus=corpus, task={"seed": seed}), tmp_path / "store")
            corpora[selection, seed] = data.corpus
    assert corpora["overlap", 0] != corpora["overlap", 1]
    assert corpora["random", 0] == corpora["random", 1] != corpora["overlap", 0]


def test_what_is_passed_over_cannot_be_trained_on(tmp_path, space_of):
    corpus = {"source": space_of().corpus.source, "selection": "random", "skip": 20}
    with pytest.raises(DataError, match="it has 30 documents after the first 20, which skip leaves out"):
        prepare(space_of(corpus=corpus), tmp_path / "store")
    with pytest.raises(ValidationError, match="at most 30, the number of documents that the section corpus leaves"):
        space_of(corpus={**corpus, "documents": 50})
    with pytest.raises(ValidationError, match="given 50; allowed: fewer than documents, which is 50"):
        CorpusSection(documents=50, skip=50)


def test_torch_is_not_needed():
    code = "import sys, tlm_search.data.selection; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
