"""A made-up study whose members lie in a store, with the labels they are judged by."""

from dataclasses import dataclass, replace

import builders
import numpy as np
import pytest

from tlm_search.store.local import Store
from tlm_search.study.record import StudyRecord

ROWS = 200  # of validation; test has one row more


@dataclass(frozen=True)
class Stored:
    record: StudyRecord
    store: Store

    def logits(self, trial, split):
        entries = [self.store.read("members", digest).arrays("logits")[split] for digest in trial.members]
        return np.stack(entries)


@pytest.fixture(scope="session")
def stored_study():
    """Return a function that stores the members of trials below a folder, and returns the record and the store."""

    def make(root, trials, *, labels=("a", "b", "c", "d", "e"), **changes):
        store = Store(root / "store")
        data = builders.prepared_data(store.root, vocabulary=64, length=16, labels=labels)
        for split, rows in (("validation", ROWS), ("test", ROWS + 1)):
            data.folder(split).mkdir(parents=True)
            np.save(data.folder(split) / "labels.npy", builders.labels_of(rows))
        deep = builders.reference(rows=ROWS)
        for trial in (*trials, deep):
            skill, members = builders.skill_of(trial.settings), len(trial.members)
            splits = {
                split: builders.logits_of(skill, members=members, rows=rows, seed=builders.seed_of(trial.number))
                for split, rows in (("validation", ROWS), ("test", ROWS + 1))
            }
            losses = [[1, 8.0], [2, 4.0 + skill / 10]]
            course = {"losses": losses} if trial.settings["pretrain_size"] else None
            for index, digest in enumerate(trial.members):
                logits = {split: values[index] for split, values in splits.items()}
                document = {"pretraining": course, "versions": {"torch": "9"}, "revision": "abc"}
                store.write("members", digest, document, {"logits": logits})
        record = builders.study(trials, reference_trial=deep, labels=data.labels, **changes)
        return Stored(replace(record, data=data.to_document()), store)

    return make
