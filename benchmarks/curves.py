"""Loss curves of the engine and of a plain fp32 loop on the same texts and seeds: do they differ by more than seeds do?

The plain loop is `transformers`' BertForMaskedLM under `torch.optim.AdamW`, with every text padded to the full length,
the head on every position and masks drawn on the host. Ours is the engine as `tlm-search run` uses it; it stacks the
seeds if it stacks members of this shape. Both start from the same weights, one set for each seed, and have the same
rates, clipping and weight decay; each draws its own orders and masks.

A curve is the mean loss of each twentieth of the updates. The difference is that of the means over the seeds. The noise
is the bound that 95% of such differences would not exceed if both drew from one distribution (Student's t with the
pooled standard deviation of the seeds).

    python benchmarks/curves.py [--seeds 0 1 2 3 4] [--width 64] [--documents 24000] [--data pydocs] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import MASKED, Work, padded_batches, peer_config, scratch, token_array, tokenised
from numpy.typing import NDArray
from scipy import stats
from transformers import BertForMaskedLM

from tlm_search.data.corpora import load_corpus
from tlm_search.members.precision import TOGETHER
from tlm_search.members.stacks import stack_size
from tlm_search.model.architecture import Architecture
from tlm_search.model.hf import to_transformers
from tlm_search.model.weights import initial_weights
from tlm_search.space.sections import CorpusSection
from tlm_search.training.checkpoint import Snapshot
from tlm_search.training.clock import UpdateClock
from tlm_search.training.engine import GRADIENT_NORM, Optimisation
from tlm_search.training.memory import keep_freed_memory
from tlm_search.training.pretrain import pretrain
from tlm_search.training.settings import Execution, Pretraining
from tlm_search.training.speed import Load, faster_precision

WEIGHT_DECAY, WARMUP = 0.01, 0.06
POINTS = 20

Curve = NDArray[np.float64]


class Losses(UpdateClock):
    """Notes the loss of each update."""

    losses: Curve

    def restore(self, snapshot: Snapshot) -> bool:
        """Restore nothing; remember where the losses will be."""
        self._snapshot = snapshot
        return False

    def taken(self) -> Curve:
        """Return the losses, ``(seeds, updates)``."""
        return np.stack([loss.numpy() for loss in self._snapshot.losses], axis=1)


def ours(work: Work, settings: Pretraining, seeds: Sequence[int], execution: Execution) -> Curve:
    """Pre-train with the engine; return the loss of each seed and update."""
    losses = Losses()
    special = {role: getattr(work.tokenizer, f"{role}_token_id") for role in ("pad", "cls", "sep", "mask")}
    texts, shape = token_array(work.texts), work.architecture
    pretrain(shape, settings, texts, special=special, seeds=seeds, execution=execution, keeping=lambda *_: losses)
    return losses.taken()


def plain_loop(work: Work, settings: Pretraining, seed: int) -> Curve:
    """Pre-train with the plain loop; return the loss of each update."""
    torch.manual_seed(seed)
    model = BertForMaskedLM(peer_config(work))
    start = initial_weights(work.architecture, (seed,))
    model.load_state_dict(to_transformers({name: value[0] for name, value in start.items()}), strict=False)
    loader = padded_batches(work, masked=True)
    rates = Optimisation(settings.learning_rate, settings.weight_decay, settings.warmup, len(loader))
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay)
    model.train()
    losses = []
    for update, batch in enumerate(loader):
        for group in optimiser.param_groups:
            group["lr"] = rates.rate(update)
        optimiser.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimiser.step()
        losses.append(loss.item())
    return np.array(losses)


def compared(engine: Curve, plain: Curve) -> dict[str, Any]:
    """Compare the losses ``(seeds, updates)`` of both."""
    first, second = (
        np.stack([part.mean(axis=1) for part in np.array_split(losses, POINTS, axis=1)], axis=1)
        for losses in (engine, plain)
    )
    seeds = len(first)
    difference = first.mean(axis=0) - second.mean(axis=0)
    spread = np.sqrt((first.var(axis=0, ddof=1) + second.var(axis=0, ddof=1)) / 2)
    noise = stats.t.ppf(0.975, 2 * seeds - 2) * spread * np.sqrt(2 / seeds)
    last = [curve[:, -POINTS // 4 :].mean(axis=1) for curve in (first, second)]
    test = stats.ttest_ind(*last)
    low, high = test.confidence_interval()
    within = float((np.abs(difference) <= noise).mean())
    return {
        "ours": first.mean(axis=0).round(4).tolist(),
        "plain": second.mean(axis=0).round(4).tolist(),
        "difference": difference.round(4).tolist(),
        "noise": noise.round(4).tolist(),
        "points_within_noise": round(within, 3),
        "last_quarter": {
            "difference": round(float(last[0].mean() - last[1].mean()), 4),
            "interval": [round(float(low), 4), round(float(high), 4)],
            "seeds_deviation": round(float(np.sqrt((last[0].var(ddof=1) + last[1].var(ddof=1)) / 2)), 4),
        },
        "within_seed_noise": bool(low <= 0 <= high) and within >= 0.9,
    }


def main() -> int:
    """Print the two mean curves, their difference, the noise, and the verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=2_048)
    parser.add_argument("--length", type=int, default=32, help="tokens a text is cut to")
    parser.add_argument("--documents", type=int, default=24_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", default="pydocs", help="what to train on, as a space names it")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    with scratch() as name:
        folder = Path(name)
        documents = load_corpus(CorpusSection(source=given.data, documents=given.documents), folder).documents
        tokenizer, texts = tokenised(documents, vocabulary=given.vocabulary, length=given.length, folder=folder)
        head_size = min(64, given.width)
        shape = Architecture(
            given.depth, given.width // head_size, head_size, 4 * given.width, given.vocabulary, given.length
        )
        work = Work(shape, texts, (), given.batch_size, 0, 0.0, tokenizer, folder)
        settings = Pretraining(1, given.batch_size, given.learning_rate, WEIGHT_DECAY, WARMUP, 0.0, MASKED)
        phase = (settings.batch_size, settings.masking_probability)
        stack = stack_size(shape, [phase], device="cpu", threads=given.threads, share=1.0)
        execution = Execution(precision=faster_precision(shape, Load.of(shape, settings), members=min(stack, TOGETHER)))
        begin = time.perf_counter()
        groups = [given.seeds[first : first + stack] for first in range(0, len(given.seeds), stack)]
        engine = np.concatenate([ours(work, settings, group, execution) for group in groups])
        middle = time.perf_counter()
        plain = np.stack([plain_loop(work, settings, seed) for seed in given.seeds])
        seconds = {"ours": middle - begin, "plain": time.perf_counter() - middle}
    result = compared(engine, plain)
    facts = {"precision": execution.precision, "stacked": stack, "updates": engine.shape[1], "seconds": seconds}
    if given.json:
        print(json.dumps({**result, **facts, "options": vars(given)}, indent=2))
        return 0
    for row in zip(result["ours"], result["plain"], result["difference"], result["noise"], strict=True):
        print("ours {:.3f}   plain {:.3f}   difference {:+.3f}   noise of seeds {:.3f}".format(*row))
    print(f"last quarter: {result['last_quarter']}")
    print(f"within seed noise: {result['within_seed_noise']}   {facts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
