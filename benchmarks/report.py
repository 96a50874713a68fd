"""How long does a report of a large study take, how much memory, and how large is its page?

A study is made up, with the given number of trials and members, whose logits are in a store. Then the report is built
in a separate process, with all tables and figures, as for a real study. Targets on two cores: 10 s, 1 GB, 6 MB.

    python benchmarks/report.py [--trials 500] [--members 16] [--rows 5000] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import builders

from tlm_search.committee.frontier import frontier
from tlm_search.report.pages.html import write_report
from tlm_search.store.local import Store
from tlm_search.study.record import StudyRecord, TrialRecord

VALIDATION_ROWS = 1000
KINDS = 20  # different members; in a real study all differ, but that takes a report no longer
LABELS = ("a", "b", "c", "d", "e")


def made_up_study(root: Path, *, trials: int, members: int, rows: int) -> tuple[StudyRecord, Store]:
    """Write the members of a study into a store below ``root``; return the study and the store."""
    store = Store(root / ".store")
    data = builders.prepared_data(store.root, vocabulary=64, length=16, labels=LABELS)
    labels = {"validation": builders.labels_of(VALIDATION_ROWS), "test": builders.labels_of(rows)}
    for split, values in labels.items():
        data.folder(split).mkdir(parents=True)
        np.save(data.folder(split) / "labels.npy", values)
    kinds = []
    for kind in range(KINDS):
        logits = {
            split: builders.logits_of(0.8 + 0.08 * kind, members=members, rows=len(values), seed=kind)
            for split, values in labels.items()
        }
        kinds.append((logits, frontier(logits["validation"], logits["test"], labels["validation"], labels["test"])))
    random = np.random.default_rng(0)

    def finished(number: int, kind: int, **params: object) -> TrialRecord:
        logits, scores = kinds[kind]
        trial = builders.trial(number, rows=200, committee_size=members, **params)
        for index, digest in enumerate(trial.members):
            arrays = {split: values[index] for split, values in logits.items()}
            course = {"losses": [[1, 8.0], [2, 4.0]]} if trial.settings["pretrain_size"] else None
            store.write("members", digest, {"pretraining": course}, {"logits": arrays})
        return replace(trial, frontier=scores, metrics={**trial.metrics, **scores[-1].metrics()})

    done = [
        finished(
            number,
            int(random.integers(KINDS)),
            depth=int(random.integers(1, 3)),
            heads=int(random.choice([2, 4, 8])),
            pretrain_size=int(random.choice([0, 1000, 4000])),
            finetune_learning_rate=float(10 ** random.uniform(-4, -2)),
        )
        for number in range(trials)
    ]
    deep = replace(finished(-1, KINDS - 3, **builders.REFERENCE), number=-1)
    sizes = {"committee_size": {"choices": sorted({1, 2, 4, 8, members})}}
    search = {**builders.SEARCH, **sizes}
    record = builders.study(done, reference_trial=deep, labels=LABELS, folder=root / "large", search=search)
    return replace(record, data=data.to_document()), store


def measure(record: StudyRecord, store: Store, out: Path) -> dict[str, float]:
    """Write the report in a separate process; return seconds, peak memory in MB and the page's size in MB."""
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        write_report(record, store, out)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit("the report failed")
    page = (out / "report.html").stat().st_size
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
        "page_mb": page / 1e6,
    }


def main() -> int:
    """Print the cost of a report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.fsync = lambda _: None  # type: ignore[assignment]  # thousands of made-up files need no power-cut safety
        record, store = made_up_study(root, trials=arguments.trials, members=arguments.members, rows=arguments.rows)
        found = measure(record, store, root / "large")
    if arguments.json:
        print(json.dumps({**vars(arguments), **found}, indent=2))
    else:
        print(
            f"{arguments.trials} trials x {arguments.members} members x {arguments.rows} test rows: "
            f"{found['seconds']:.1f} s ({found['cpu_seconds']:.1f} s of the processor), "
            f"peak {found['peak_mb']:.0f} MB, page {found['page_mb']:.2f} MB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
