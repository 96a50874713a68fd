"""Test accuracy on real tasks: a linear model, the paper's recipe, our committees and a deep reference, side by side.

    python benchmarks/accuracy.py --data-dir DIR [--task NAME ...] [--seeds 0 1 2 3] [--store FOLDER] [--json]

DIR holds copies of the data sets as the README says. A seed of a task draws other training and validation rows; the
test texts stay the same. Members keep their seeds, so all seeds of a task share their pre-training, and so do tasks
with the same corpus, tokenizer and length. Each side tries a few settings on the first seed, takes the best on
validation, and uses it for the other seeds; test is reported. The deep reference tries the same settings as the
committees, as one deep model.

``seconds`` are the seconds of one core for everything that the chosen result needs: word vectors, pre-training,
fine-tuning, teachers, answers. ``passes_linear`` is the smallest committee above the linear model on test, and its
seconds; it is empty if no committee is above. With ``--store`` trained members are stored and reused.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from tlm_search.data.prepare import prepare
from tlm_search.data.prepared import PreparedData
from tlm_search.data.sources.place import use_data_dir
from tlm_search.data.tasks import load_task
from tlm_search.members.baseline import fit_baseline
from tlm_search.members.train import trainer_named
from tlm_search.search.trial import run_trial
from tlm_search.space.schema import Space
from tlm_search.store.local import Store

WIKIPEDIA = {"source": "wikimedia/wikipedia", "config": "20231101.en", "documents": 120_000}
FEWREL = {"source": "fewrel/train_wiki.json", "entities": "marked", "validation_per_label": 20, "test_per_label": 70}
AG_NEWS = {"source": "fancyzhx/ag_news", "validation_per_label": 50, "test_per_label": 1900}
DBPEDIA = {"source": "fancyzhx/dbpedia_14", "text": "content", "validation_per_label": 20, "test_per_label": 400}
SIDES = ("linear", "paper", "ours", "reference")


@dataclass(frozen=True)
class Case:
    """A task with its corpus. ``settings`` are the settings of our committees, ``tried`` the values to try for them."""

    task: Mapping[str, Any]
    corpus: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    tried: Mapping[str, Sequence[Any]] = field(default_factory=dict)


OURS = {
    "depth": 1,
    "width": 64,
    "head_size": 32,
    "committee_size": 4,
    "pretrain_size": 120_000,
    "initial_embeddings": "cooccurrence",
    "pretrain_softmax": "sampled",
    "pretrain_epochs": 0,  # word vectors from counts are the only pre-training
    "pretrain_batch_size": 32,
    "pretrain_learning_rate": 2e-3,
    "masking_probability": 0.4,
    "pooling": "mean",
    "finetune_epochs": 15,
    "finetune_batch_size": 16,
    "finetune_dropout": 0.5,
    "linear_member": True,
}
# The settings of the paper: random embeddings, BERT's masks and first token. Sizes and rates are those of spaces/paper
# for two cores.
PAPER = {
    "depth": 1,
    "width": 64,
    "head_size": 32,
    "committee_size": 4,
    "pretrain_size": 16_000,
    "pretrain_epochs": 1,
    "pretrain_batch_size": 32,
    "pretrain_learning_rate": 1.5e-3,
    "finetune_epochs": 15,
    "finetune_batch_size": 16,
}
RATES = {"finetune_learning_rate": (5e-4, 1e-3, 2e-3)}
TRIED = {**RATES, "linear_share": (0.2, 0.35, 0.5)}
SHOWN = (*TRIED, "finetune_dropout", "self_training", "student_linear", "student_epochs")
LONG, MARKED = {"vocabulary": 32_768, "length": 96}, {"vocabulary": 32_768, "length": 64}
SPANS = {
    "committee_size": 8,
    "pooling": "spans",
    "finetune_epochs": 10,
    "finetune_batch_size": 32,
    "finetune_dropout": 0.3,
    "linear_roles": "ordered",
}
OF_SPANS = {"finetune_learning_rate": (1e-3,), "linear_share": (0.2, 0.35, 0.5)}
# With few rows the same number of epochs is too few updates.
FEW_SPANS = {**SPANS, "finetune_epochs": 30, "finetune_batch_size": 16}
OF_FEW_SPANS = {**OF_SPANS, "finetune_learning_rate": (2e-3,)}
# The linear model learns the members' answers to the unlabelled texts. Students of these members add nothing to it.
TAUGHT = {
    "pretrain_size": 19_000,
    "pretrain_epochs": 3,
    "self_training": 1,
    "student_linear": "teachers",
    "student_epochs": 0,
}
OF_TAUGHT = {"finetune_learning_rate": (1e-3,), "linear_share": (0.5,)}
OWN_TEXTS = {"source": "fancyzhx/ag_news"}
TEXTS_OF_DBPEDIA = {"source": "fancyzhx/dbpedia_14", "text": "content"}

CASES = {
    "ag_news-100": Case({**AG_NEWS, "train_per_label": 100}, WIKIPEDIA, LONG),
    "ag_news-30": Case({**AG_NEWS, "train_per_label": 30}, WIKIPEDIA, LONG),
    "ag_news-100-unlabelled": Case(
        {**AG_NEWS, "train_per_label": 100, "unlabelled": OWN_TEXTS},
        OWN_TEXTS,
        LONG,
        TAUGHT,
        OF_TAUGHT,
    ),
    "fewrel-100": Case({**FEWREL, "train_per_label": 100}, WIKIPEDIA, MARKED, SPANS, OF_SPANS),
    "fewrel-10": Case({**FEWREL, "train_per_label": 10}, WIKIPEDIA, MARKED, FEW_SPANS, OF_FEW_SPANS),
    "dbpedia-100": Case({**DBPEDIA, "train_per_label": 100}, WIKIPEDIA, LONG),
    "dbpedia-100-unlabelled": Case(
        {**DBPEDIA, "train_per_label": 100, "unlabelled": TEXTS_OF_DBPEDIA},
        TEXTS_OF_DBPEDIA,
        LONG,
        {**TAUGHT, "pretrain_size": 11_000},
        {"finetune_learning_rate": (1e-3,), "linear_share": (0.2, 0.35, 0.5)},
    ),
    "dbpedia-10": Case({**DBPEDIA, "train_per_label": 10}, WIKIPEDIA, LONG),
    "pydocs": Case(
        {"source": "pydocs", "labels": 5, "train_per_label": 30, "validation_per_label": 200, "test_per_label": 400},
        {"source": "pydocs"},
        {"vocabulary": 4096, "length": 32},
        {"pretrain_size": 60_000, "pretrain_epochs": 1, "finetune_batch_size": 8},
    ),
}


def settings_of(case: Case, side: str) -> list[dict[str, Any]]:
    """Return the settings that a side tries."""
    if side == "paper":
        # 16,000 documents, or all of a smaller corpus
        size = min(PAPER["pretrain_size"], {**OURS, **case.settings}["pretrain_size"])
        base, tried = {**PAPER, "pretrain_size": size}, dict(RATES)
    else:
        base, tried = {**OURS, **case.settings}, {**TRIED, **case.tried}
        if side == "reference":
            base.update(depth=4, committee_size=1)
    return [{**base, **dict(zip(tried, values, strict=True))} for values in product(*tried.values())]


def measure(
    name: str, seed: int, sides: Sequence[str], root: Path, chosen: dict[str, list[dict[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """Return the results of each side with the rows of ``seed``: the best of its settings on validation.

    ``chosen`` are the settings that a side may try; this function reduces them to the best.
    """
    case = CASES[name]
    document = {
        "corpus": case.corpus,
        "tokenizer": case.tokenizer,
        "task": {**case.task, "seed": seed},
        "search": {"pretrain_size": {"choices": [0, int({**OURS, **case.settings}["pretrain_size"])]}},
    }
    space, store = Space.from_document(document), Store(root)
    data = prepare(space, root, progress=say)
    found: dict[str, dict[str, Any]] = {}
    for side in sides:
        if side == "linear":
            task = load_task(space.task, root / "data")
            fit = fit_baseline(task)
            right = fit.model.log_probabilities(task.test.texts).argmax(1) == list(task.test.labels)
            kind = {"features": fit.model.features, "C": fit.strength}
            found[side] = {"test": float(right.mean()), "seconds": fit.seconds, "chosen": kind}
        else:
            found[side] = best([run(case, settings, data, store) for settings in chosen[side]])
            chosen[side] = [found[side]["settings"]]
            if "linear" in found:
                found[side]["passes_linear"] = passing(found[side], found["linear"]["test"], case, data, store)
        say(f"{name}, seed {seed}, {side}: {100 * found[side]['test']:.1f}%")
    return found


def run(case: Case, settings: Mapping[str, Any], data: PreparedData, store: Store) -> dict[str, Any]:
    """Train a committee, or find it in the store; return its result."""
    fixed = Space.from_document({"task": case.task, "search": settings}).settings({})
    trainer = trainer_named("bert", cpus=torch.get_num_threads(), gpus=0)
    *_, rung = run_trial(fixed, seed=0, data=data, store=store, trainer=trainer, prunable=False)
    return {
        "validation": rung.metrics["validation_accuracy"],
        "cross_entropy": rung.metrics["validation_cross_entropy"],
        "test": rung.metrics["test_accuracy"],
        "sizes": {scores.size: scores.mean("test", "accuracy") for scores in rung.frontier},
        "seconds": rung.metrics["training_seconds"],
        "chosen": {name: settings[name] for name in SHOWN if name in settings},
        "settings": dict(settings),
    }


def passing(
    result: Mapping[str, Any], linear: float, case: Case, data: PreparedData, store: Store
) -> dict[str, Any] | None:
    """Return the smallest committee of a result above ``linear`` on test, with its seconds; None if none is above."""
    for size in sorted(result["sizes"]):
        if result["sizes"][size] > linear:
            smaller = run(case, {**result["settings"], "committee_size": size}, data, store)
            return {"committee_size": size, "seconds": round(smaller["seconds"], 1)}
    return None


def best(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the most accurate result on validation; among equal ones that with the lower cross-entropy."""
    return max(results, key=lambda result: (result["validation"], -result["cross_entropy"]))


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds and its 95% interval (Student's t), in percent, and the mean seconds."""
    values = [100 * run["test"] for run in runs]
    reach = 0.0
    if len(values) > 1:
        reach = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return {
        "test": round(mean, 2),
        "low": round(mean - reach, 2),
        "high": round(mean + reach, 2),
        "seconds": round(statistics.mean(run["seconds"] for run in runs), 1),
        "chosen": [run["chosen"] for run in runs],
        "sizes": [run.get("sizes") for run in runs],
        "passes_linear": [run.get("passes_linear") for run in runs],
        "seeds": [round(value, 2) for value in values],
    }


def say(line: str) -> None:
    """Print a step, but not into the result."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Print a row for each task and side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder with copies of the data sets")
    parser.add_argument("--task", nargs="+", default=list(CASES), choices=list(CASES), metavar="NAME")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--store", type=Path, help="keep members here; a temporary folder when not given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.data_dir is not None:
        use_data_dir(given.data_dir)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = given.store or Path(scratch)
        for name in given.task:
            chosen = {side: settings_of(CASES[name], side) for side in given.sides if side != "linear"}
            runs = [measure(name, seed, given.sides, root, chosen) for seed in given.seeds]
            found[name] = {side: summary([run[side] for run in runs]) for side in given.sides}
            if not given.json:
                for side, row in found[name].items():
                    interval = f"{row['low']:.1f} to {row['high']:.1f}"
                    print(f"{name:24} {side:10} {row['test']:5.1f}% ({interval}) {row['seconds']:8.1f} s", flush=True)
    if given.json:
        print(json.dumps({"seeds": given.seeds, "threads": given.threads, "tasks": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
