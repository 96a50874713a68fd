"""Measure what each optional setting changes for tiny members: loss on held-out text and accuracy on the task.

Every variant differs from the default in one thing. The default masks 30% of the tokens, because with 15% such a small
training learns little. Its members are trained as in a study, one for each seed, and compared with the default's
members of the same seeds: the mean difference and its 95% interval (Student's t over the pairs). The loss is that of
BERT's masking, 15% of the tokens, with the same masks for all. Members come from a store, so a member is never trained
twice, and several processes can share the work if each takes other seeds.

    python benchmarks/choices.py --store FOLDER [--corpus pydocs] [--task pydocs] [--seeds 0 1 2 3 4] [--json]

`--corpus` and `--task` are what a space names. A pruned vocabulary is another default: run it with `--variants default
--tokenizer NAME`, with and without `--min-count`; their losses are of different vocabularies and not comparable.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from tlm_search.data.prepare import prepare
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.members.bert_trainer import PRETRAINED
from tlm_search.members.spec import MemberSpec, committee_specs
from tlm_search.members.train import MemberResult, obtain, trainer_named
from tlm_search.model.bert import encode
from tlm_search.model.hf import from_transformers
from tlm_search.model.loss import mlm_losses
from tlm_search.space.schema import Space
from tlm_search.space.settings import complete
from tlm_search.store.local import Store
from tlm_search.training import batches

HELD_OUT, HELD_OUT_BATCH = 2_000, 100  # documents
MASKED = 0.15
DEFAULT = {
    "depth": 2,
    "width": 64,
    "head_size": 64,
    "pretrain_epochs": 1,
    "pretrain_batch_size": 16,
    "pretrain_learning_rate": 3e-3,
    "masking_probability": 0.3,
    "pooling": "mean",
    "finetune_epochs": 15,
    "finetune_learning_rate": 2e-3,
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "dropout 0.1": {"pretrain_dropout": 0.1},
    "no warm-up": {"pretrain_warmup": 0.0},
    "cosine": {"pretrain_schedule": "cosine"},
    "constant": {"pretrain_schedule": "constant_with_warmup"},
    "Muon": {"pretrain_optimiser": "muon"},
    "Muon, rate 6e-3": {"pretrain_optimiser": "muon", "pretrain_learning_rate": 6e-3},
    "15% masked": {"masking_probability": 0.15},
    "45% masked": {"masking_probability": 0.45},
    "pre-norm": {"normalisation": "pre"},
    "shared layers": {"layer_weights": "shared"},
    "[CLS] pooling": {"pooling": "cls"},
}


@torch.inference_mode()
def held_out_loss(spec: MemberSpec, store: Store, data: PreparedData) -> float:
    """Return the loss of a member's pre-trained encoder on the last documents of the corpus."""
    assert spec.pretrained is not None
    entry = store.read(PRETRAINED, spec.pretrained.digest)
    assert entry is not None
    state = {name: torch.from_numpy(value) for name, value in entry.arrays("model").items()}
    weights = {name: value[None] for name, value in from_transformers(state, spec.architecture).items()}
    corpus, generators = TokenArray.open(data.folder("corpus")), [np.random.default_rng(0)]
    total = scored = 0.0
    for first in range(len(corpus) - HELD_OUT, len(corpus), HELD_OUT_BATCH):
        chosen = np.arange(first, first + HELD_OUT_BATCH)[None]
        rows = batches.assemble(corpus, chosen, length=data.length, packed=True, pad=data.special["pad"])
        batch = batches.mask(
            rows,
            probability=MASKED,
            vocabulary=data.vocabulary,
            special=[data.special[name] for name in ("pad", "cls", "sep")],
            mask_id=data.special["mask"],
            generators=generators,
        )
        hidden = encode(weights, spec.architecture, batch.tokens, read=batch.read)
        total += mlm_losses(weights, hidden, batch.targets, torch.ones(1)).item()
        scored += batch.scored.item()
    return total / scored


def measure(
    specs: Sequence[MemberSpec], members: Sequence[MemberResult], store: Store, data: PreparedData
) -> dict[str, list[float]]:
    """Return the results and costs of each member, by seed."""
    labels = data.true_labels("validation")
    return {
        "loss": [held_out_loss(spec, store, data) for spec in specs],
        "accuracy": [100 * float((member.validation_logits.argmax(-1) == labels).mean()) for member in members],
        "pretraining_seconds": [member.document["pretraining"]["seconds"] for member in members],
    }


def difference(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Return the mean difference over pairs, and its 95% interval."""
    pairs = [value - other for value, other in zip(values, others, strict=True)]
    mean, error = statistics.mean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5
    reach = float(stats.t.ppf(0.975, len(pairs) - 1)) * error
    return {"mean": round(mean, 3), "low": round(mean - reach, 3), "high": round(mean + reach, 3)}


def main() -> int:
    """Train what is missing, and print a row for each variant."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, required=True, help="folder of members and data, outside the repository")
    parser.add_argument("--corpus", default="pydocs")
    parser.add_argument("--task", default="pydocs")
    parser.add_argument("--labels", type=int, default=5)
    parser.add_argument("--train-per-label", type=int, default=30)
    parser.add_argument("--documents", type=int, default=16_000, help="documents of pre-training")
    parser.add_argument("--vocabulary", type=int, default=2_048)
    parser.add_argument("--tokenizer", help="in place of a vocabulary: a named tokenizer")
    parser.add_argument("--min-count", type=int, help="prune it to what is used so often")
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args()

    sizes = {"train_per_label": given.train_per_label, "validation_per_label": 200, "test_per_label": 1}
    tokenizer: dict[str, Any] = {"vocabulary": given.vocabulary}
    if given.tokenizer:
        tokenizer = {"name": given.tokenizer, "min_count": given.min_count}
    document = {
        "corpus": {"source": given.corpus, "documents": given.documents + HELD_OUT},
        "tokenizer": {**tokenizer, "length": given.length},
        "task": {"source": given.task, "labels": given.labels, **sizes},
        "search": {"pretrain_size": given.documents},
    }
    store, trainer = Store(given.store), trainer_named("bert", cpus=1, gpus=0)
    data = prepare(Space.from_document(document), store.root, progress=lambda line: print(line, file=sys.stderr))
    found: dict[str, dict[str, list[float]]] = {}
    parameters: dict[str, int] = {}
    for name in given.variants:
        specs = committee_specs(
            complete({**DEFAULT, "pretrain_size": given.documents, **VARIANTS[name]}),
            vocabulary=data.vocabulary,
            positions=data.length,
            labels=len(data.labels),
            corpus=data.prefix_fingerprint(given.documents),
            task=data.task_fingerprint,
            seeds=given.seeds,
        )
        members = obtain(specs, store=store, data=data, trainer=trainer).members
        found[name] = measure(specs, members, store, data)
        parameters[name] = specs[0].architecture.classifier_parameters(len(data.labels))
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    if len(given.seeds) < 2 or "default" not in found:
        return 0
    rows = [
        {
            "variant": name,
            **{key: round(statistics.mean(values), 3) for key, values in measured.items()},
            "parameters": parameters[name],
            "against_default": {key: difference(values, found["default"][key]) for key, values in measured.items()},
        }
        for name, measured in found.items()
    ]
    if given.json:
        print(json.dumps({"seeds": given.seeds, "variants": rows, "members": found}, indent=2))
        return 0
    for row in rows:
        parts = [f"{row['variant']:18s}"]
        for key in ("loss", "accuracy", "pretraining_seconds"):
            change = row["against_default"][key]
            parts.append(f"{key} {row[key]:7.3f} {change['mean']:+.3f} ({change['low']:.3f} to {change['high']:.3f})")
        print("  ".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
