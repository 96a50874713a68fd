"""How much single models of a study differ by their seeds, estimated from the members of its committees.

One model, such as the reference, cannot show what another seed would change. The members of a configuration differ
only in their seeds, so they can. No Ray, no Optuna here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tlm_search.committee.frontier import right_share
from tlm_search.committee.interval import Spread, member_spread, seed_half_width
from tlm_search.committee.metrics import Metric, metric_of
from tlm_search.committee.pool import pool_of
from tlm_search.committee.vote import Integers
from tlm_search.data.prepared import PreparedData
from tlm_search.digest import digest
from tlm_search.members.trainer import KIND
from tlm_search.search.reference_tries import Notes
from tlm_search.store.local import Store
from tlm_search.study.record import SEED_SPREAD, StudyRecord

MOST_CONFIGURATIONS = 8  # the best on validation; worse ones vary more with the seed than the shown models


def note_seed_spread(notes: Notes, record: StudyRecord, data: PreparedData, store: Store) -> bool:
    """Note how much the seed of a model changes its test metrics, unless noted before; return whether it was noted now.

    It comes from the mean square of single members around the mean of their configuration, over the best configurations
    and the confirmations. Nothing is noted if no configuration has two members.
    """
    committees = _committees(record)
    noted, name = notes.noted(SEED_SPREAD), digest([list(members) for members in committees])
    if not committees or (noted is not None and noted["of"] == name):
        return False
    metric, labels = metric_of(record.space.task, data.labels), data.true_labels("test")
    found = [logits for members in committees if (logits := _logits(members, store)) is not None]
    if not found:
        return False
    spreads = {of: pooled(found, labels, replace(metric, name=of)) for of in metric.with_interval}
    notes.note(SEED_SPREAD, {"of": name, **{of: seed_half_width(spread) for of, spread in spreads.items()}})
    return True


def _committees(record: StudyRecord) -> list[tuple[str, ...]]:
    pool = pool_of(record.trials, record.reference, constraints=record.space.constraints)
    best = [candidate.trial.number for candidate in pool.best()[:MOST_CONFIGURATIONS]]
    members = [trial.members for trial in record.trials if trial.number in best]
    members += [entry.result.members for entry in record.confirmations]
    return [digests for digests in members if len(digests) > 1]


def _logits(members: Sequence[str], store: Store) -> np.ndarray | None:
    entries = [store.read(KIND, member) for member in members]
    return None if None in entries else np.stack([e.arrays("logits")["test"] for e in entries if e is not None])


def pooled(committees: Iterable[np.ndarray], labels: Integers, metric: Metric) -> Spread:
    """Return the mean square of single members around the mean of their committee.

    Each entry of ``committees`` has the logits of its members on test, (members, rows, classes). ``noise`` is the part
    of the mean square that the texts cause.
    """
    spreads = []
    for logits in committees:
        shares = [right_share(member[None], labels, size=1, metric=metric) for member in logits]
        spreads.append(member_spread(np.stack(shares), scale=1 / (len(logits) - 1)))
    freedom = sum(spread.freedom for spread in spreads)
    raw, noise = (sum(getattr(s, part) * s.freedom for s in spreads) / freedom for part in ("raw", "noise"))
    return Spread(raw, noise, freedom)
