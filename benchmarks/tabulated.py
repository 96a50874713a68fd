"""Train every configuration of a small space on real text, and write the results of its committees as a small table.

`benchmarks/search.py` replays searches on that table. Members come from a store, as in a study, so none is trained
twice, and a run that was stopped continues. The table is written after each committee size, beginning with the
smallest.

    nice -n 19 python benchmarks/tabulated.py --store /tmp/table-store
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlm_search.committee.vote import accuracy, soft_vote
from tlm_search.data.prepare import prepare
from tlm_search.members.train import MemberResult, obtain, trainer_named
from tlm_search.search.samplers import grid_points
from tlm_search.search.trial import rungs, trial_specs
from tlm_search.space.schema import load_space
from tlm_search.store.local import Store

HERE = Path(__file__).parent


def seconds_of(members: Iterable[MemberResult], phase: str) -> float:
    """Return the fewest seconds that a phase took for one member: other work on the machine affects it least."""
    return min((member.document[phase] or {"seconds": 0.0})["seconds"] for member in members)


def main() -> int:
    """Train what is missing and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", type=Path, default=HERE / "tabulated.yaml")
    parser.add_argument("--store", type=Path, required=True, help="folder of members and data, outside the repository")
    parser.add_argument("--out", type=Path, default=HERE / "tabulated.csv")
    arguments = parser.parse_args()

    space = load_space(arguments.space)
    points = grid_points(space)
    store, trainer = Store(arguments.store), trainer_named("bert", cpus=1, gpus=0)
    store.check_writable()
    data = prepare(space, store.root, progress=lambda line: print(line, file=sys.stderr))
    validation_labels, test_labels = data.true_labels("validation"), data.true_labels("test")
    specs = [trial_specs(space.settings(point), seed=space.seed, data=data, trainer=trainer) for point in points]
    members: list[list[MemberResult]] = [[] for _ in points]
    rows: list[Mapping[str, Any]] = []
    began = time.monotonic()
    for size in rungs(len(specs[0])):
        for index, point in enumerate(points):
            known = members[index]
            known += obtain(specs[index][len(known) : size], store=store, data=data, trainer=trainer).members
            validation = soft_vote(np.stack([member.validation_logits for member in known]))
            test = soft_vote(np.stack([member.test_logits for member in known]))
            rows.append(
                {
                    **{name: point.get(name, "") for name in space.searched()},
                    "members": size,
                    "validation_accuracy": round(accuracy(validation, validation_labels), 4),
                    "test_accuracy": round(accuracy(test, test_labels), 4),
                    # For one member; members of a seed that differ only in their fine-tuning share the pre-training.
                    "pretraining_seconds": round(seconds_of(known, "pretraining"), 2),
                    "finetuning_seconds": round(seconds_of(known, "finetuning"), 2),
                }
            )
            if index % 20 == 19:
                elapsed = time.monotonic() - began
                print(f"{size} members, {index + 1} of {len(points)}, {elapsed:.0f} s", file=sys.stderr, flush=True)
        write(rows, arguments.out)
    return 0


def write(rows: Iterable[Mapping[str, Any]], out: Path) -> None:
    """Write the rows in the order of the settings."""
    ordered = sorted(rows, key=lambda row: [(value == "", value) for value in row.values()])
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ordered[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)


if __name__ == "__main__":
    sys.exit(main())
