"""Members learn what only a pair shows, which no linear model learns; linear models learn what each text shows."""

import builders
import numpy as np

from tlm_search.data.pairs import Pair
from tlm_search.data.rows import Split, Task
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.tokenizer import encode_pairs
from tlm_search.members.baseline import ROLES, fit_baseline, kinds_of, without_markers, words_by_role
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.members.linear import fit_linear
from tlm_search.members.spec import LinearSpec, committee_specs
from tlm_search.members.train import obtain
from tlm_search.space.settings import complete
from tlm_search.store.local import Store

RARE = [f"{first}{second}" for first in "bcd" for second in "ae"]
COMMON = ["the", "of"]
ROWS = {"train": 256, "validation": 60, "test": 120}


def next_word(rows, seed):
    """Is the word of the second text the one after that of the first, or the one before it? No word alone shows it."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    first = random.integers(0, len(RARE), rows)
    second = (first + np.where(labels == 1, 1, -1)) % len(RARE)
    return [_pair(random, RARE[a], RARE[b]) for a, b in zip(first, second, strict=True)], labels


def first_word(rows, seed):
    """Which of two words does the first text have? The second text has the other."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    return [_pair(random, RARE[label], RARE[1 - label]) for label in labels], labels


def _pair(random, first, second):
    common = random.choice(COMMON, 2)
    return Pair(f"{first} {common[0]}", f"{common[1]} {second}")


def prepared(root, task):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = wordpiece.wordpiece([*special, *RARE, *COMMON])
    (root / "tokenizer").mkdir(parents=True)
    wordpiece.save(tokenizer, root / "tokenizer")
    for seed, (split, rows) in enumerate(ROWS.items()):
        texts, labels = task(rows, seed)
        ids, firsts = zip(*encode_pairs(tokenizer, texts, length=10), strict=True)
        TokenArray.write(root / split, ids, vocabulary=13, firsts=firsts)
        np.save(root / split / "labels.npy", labels)
    facts = {"vocabulary": 13, "length": 10, "labels": ("no", "yes"), "rows": ROWS, "pairs": True}
    return builders.prepared_data(root, **facts)


def baseline_of(task):
    splits = {name: Split(*map(tuple, task(rows, seed))) for seed, (name, rows) in enumerate(ROWS.items())}
    return fit_baseline(Task("task", ("no", "yes"), **splits)).model, splits


def accuracy(scores, labels):
    return float((scores.argmax(-1) == labels).mean())


def test_members_learn_what_only_the_pair_tells(tmp_path):
    store = Store(tmp_path / "store")
    data, labels = prepared(store.root, next_word), np.arange(120) % 2
    trainer = BertTrainer(threads=1, device="cpu")
    settings = {"depth": 1, "width": 32, "head_size": 16, "feed_forward": 2, "pretrain_size": 0, "pooling": "mean"}
    settings |= {"finetune_epochs": 12, "finetune_batch_size": 16, "finetune_learning_rate": 4e-3}
    settings |= {"finetune_warmup": 0.1, "finetune_dropout": 0.0}
    shape = {"vocabulary": 13, "positions": 10, "labels": 2}
    specs = committee_specs(complete(settings), **shape, corpus="", task="task", seeds=range(1))
    (member,) = obtain(specs, store=store, data=data, trainer=trainer).members
    assert accuracy(member.test_logits, labels) > 0.85
    linear, _ = baseline_of(next_word)
    assert accuracy(linear.log_probabilities(next_word(120, 2)[0]), labels) < 0.65


def test_linear_models_tell_the_words_of_the_two_texts_apart(tmp_path):
    """Both texts have the same words: only their place tells the label."""
    linear, splits = baseline_of(first_word)
    assert linear.features == ROLES
    assert accuracy(linear.log_probabilities(splits["test"].texts), np.arange(120) % 2) == 1
    data = prepared(tmp_path / "store", first_word)
    spec = LinearSpec(task="task", tokenizer="tokenizer", labels=2)
    document, arrays = fit_linear(spec, data=data)
    assert document["validation_accuracy"] == 1
    assert accuracy(arrays["logits"]["test"], np.arange(120) % 2) == 1
    assert arrays["model"]["roles"].shape == (2,)


def test_the_words_of_a_pair():
    pair = Pair("A Cat sat", "the cat")
    words = ["cat", "sat", "the", "cat"]
    assert words_by_role(pair) == [*words, "first:cat", "first:sat", "second:the", "second:cat"]
    assert without_markers(pair).split() == ["a", *words]
    assert kinds_of([pair])[-1] == ROLES
    assert ROLES not in kinds_of(["a cat sat"])
