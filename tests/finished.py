"""A study with real, tiny members in a store, as a search leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import builders
import numpy as np

from tlm_search.committee.calibration import fit_calibration
from tlm_search.committee.frontier import frontier
from tlm_search.committee.vote import soft_vote
from tlm_search.data.markers import HEAD, MARKERS, TAIL
from tlm_search.data.pairs import Line, Pair
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.tokenizer import (
    add_markers,
    encode,
    encode_lines,
    encode_pairs,
    marker_ids,
    open_tokenizer,
    tokenizer_fingerprint,
)
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.members.spec import committee_specs
from tlm_search.members.train import obtain
from tlm_search.space.settings import complete
from tlm_search.store.local import Store
from tlm_search.study.record import StudyRecord, TrialRecord

WORDS = [f"{first}{second}" for first in "abcdef" for second in "aeiou"]
LABELS = ("Bücher & Filme", "b|c", "1")
LENGTH = 12
SHAPE = {"depth": 1, "width": 16, "head_size": 8, "feed_forward": 2, "finetune_epochs": 2, "finetune_batch_size": 8}


@dataclass(frozen=True)
class Finished:
    """A study, its store, its test texts, and the stored logits ``(members, rows, labels)`` of test and validation."""

    record: StudyRecord
    store: Store
    texts: list[str]
    logits: np.ndarray
    validation: np.ndarray

    def answers(self, size: int = 3) -> np.ndarray:
        """Return the answers of the first ``size`` members to the test texts: their vote, calibrated on validation."""
        labels = np.arange(self.validation.shape[1]) % len(LABELS)
        return fit_calibration(soft_vote(self.validation[:size]), labels).of(soft_vote(self.logits[:size]))


def finished_study(
    root: Path, *, marked: bool = False, pairs: bool = False, context: dict | None = None, **settings
) -> Finished:
    """Return a study with these ``settings``; ``marked`` texts begin with two entities between markers.

    The second text of ``pairs`` is a text of the next label. With a ``context`` the second text is a line and the
    first is its context.
    """
    store = Store(root / ".store")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (store.root / "tokenizer").mkdir(parents=True)
    wordpiece.save(wordpiece.wordpiece([*special, *WORDS]), store.root / "tokenizer")
    if marked:
        add_markers(store.root / "tokenizer")
    tokenizer = open_tokenizer(store.root / "tokenizer")
    special = dict(zip(("pad", "unk", "cls", "sep", "mask"), range(5), strict=True))
    special |= marker_ids(tokenizer) if marked else {}
    vocabulary = 35 + (len(MARKERS) if marked else 0)
    generator = np.random.default_rng(0)
    rows, texts = {"train": 24, "validation": 12, "test": 18}, {}
    for split, count in rows.items():
        labels = np.arange(count) % 3
        texts[split] = [
            " ".join(generator.choice(WORDS[10 * label : 10 * label + 10], generator.integers(1, 16)))
            for label in labels
        ]
        if marked:
            texts[split] = [_marked(text) for text in texts[split]]
        encoded, firsts = encode(tokenizer, texts[split], length=LENGTH), None
        if pairs or context:
            kind, encoded_as = (Line, encode_lines) if context else (Pair, encode_pairs)
            both = zip(texts[split], [*texts[split][1:], texts[split][0]], strict=True)
            texts[split] = [kind(*text) for text in both]
            encoded, firsts = zip(*encoded_as(tokenizer, texts[split], length=LENGTH), strict=True)
        TokenArray.write(store.root / split, encoded, vocabulary=vocabulary, firsts=firsts)
        np.save(store.root / split / "labels.npy", labels)
    data = builders.prepared_data(
        store.root,
        vocabulary=vocabulary,
        special=special,
        length=LENGTH,
        labels=LABELS,
        rows=rows,
        tokenizer_fingerprint=tokenizer_fingerprint(store.root / "tokenizer"),
        corpus_name="/home/someone/texts",
        task_name="/home/someone/tickets.csv",
        pairs=pairs or context is not None,
        context=context,
    )
    full = complete({**SHAPE, "pretrain_size": 0, "committee_size": 3, **settings})
    specs = committee_specs(
        full, vocabulary=vocabulary, positions=LENGTH, labels=3, corpus="", task="task", seeds=range(3), marked=marked
    )
    members = obtain(specs, store=store, data=data, trainer=BertTrainer(threads=1, device="cpu")).members
    validation, test = (np.stack([getattr(m, f"{split}_logits") for m in members]) for split in ("validation", "test"))
    trial = TrialRecord(
        number=0,
        state="complete",
        settings=full,
        metrics={"latency_ms": 0.5},
        frontier=frontier(validation, test, np.arange(12) % 3, np.arange(18) % 3),
        members=tuple(member.digest for member in members),
    )
    failed = TrialRecord(number=1, state="failed", settings=full, error="DivergedError")
    record = builders.study([trial, failed], folder=root / "tiny", name="tiny")
    return Finished(
        StudyRecord(**{**vars(record), "labels": LABELS, "data": data.to_document()}),
        store,
        texts["test"],
        test,
        validation,
    )


def _marked(text: str) -> str:
    first, *rest = text.split(" ")
    return " ".join([HEAD[0], first, HEAD[1], *rest[:2], TAIL[0], *rest[2:3], TAIL[1], *rest[3:]])
