"""Masked-language-model pre-training of one member: ours, the paper's loop, and Hugging Face's Trainer.

    python benchmarks/pretraining.py [--depth 1] [--width 768] [--device cpu] [--data pydocs] [--json]

`--data` is a corpus as a space names it: `pydocs`, a file, a folder of text or Parquet files, or a Hugging Face id.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from contenders import (
    LEARNING_RATE,
    MASKED,
    WEIGHT_DECAY,
    Work,
    document,
    hf_trainer,
    paper_loop,
    peer_config,
    race,
    scratch,
    token_array,
    tokenised,
)
from transformers import BertForMaskedLM

from tlm_search.data.corpora import load_corpus
from tlm_search.model.architecture import Architecture
from tlm_search.space.sections import CorpusSection
from tlm_search.training.memory import keep_freed_memory
from tlm_search.training.pretrain import pretrain
from tlm_search.training.settings import Execution, Pretraining
from tlm_search.training.speed import UpdateClock, faster_precision


def ours(work: Work, execution: Execution) -> float:
    """Pre-train with the engine; return the seconds of the timed updates."""
    settings = Pretraining(1, work.batch_size, LEARNING_RATE, WEIGHT_DECAY, 0.0, work.dropout, MASKED)
    names = {role: getattr(work.tokenizer, f"{role}_token_id") for role in ("pad", "cls", "sep", "mask")}
    clock = UpdateClock()
    pretrain(
        work.architecture,
        settings,
        token_array(work.texts),
        special=names,
        seeds=(0,),
        execution=execution,
        keeping=lambda *_: clock,
    )
    return clock.ends[-1] - clock.ends[0]


def main() -> int:
    """Print tokens per second of the three and the ratios to ours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocabulary", type=int, default=30_522)
    parser.add_argument("--length", type=int, default=128, help="tokens a text is cut to")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--updates", type=int, default=4, help="timed updates in a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--data", default="pydocs", help="the corpus, as a space names it")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    with scratch() as folder:
        count = arguments.batch_size * (arguments.updates + 1)
        section = CorpusSection(source=arguments.data, documents=max(4000, count))
        documents = load_corpus(section, Path(folder)).documents
        tokenizer, texts = tokenised(
            documents, vocabulary=arguments.vocabulary, length=arguments.length, folder=Path(folder)
        )
        head_size = min(64, arguments.width)
        shape = Architecture(
            depth=arguments.depth,
            heads=arguments.width // head_size,
            head_size=head_size,
            feed_forward=4 * arguments.width,
            vocabulary=arguments.vocabulary,
            positions=arguments.length,
        )
        work = Work(
            shape,
            texts[:count],
            (),
            arguments.batch_size,
            arguments.updates,
            arguments.dropout,
            tokenizer,
            Path(folder),
        )
        precision = faster_precision(shape, "pretraining")
        model = BertForMaskedLM(peer_config(work))
        contenders = {
            "ours": lambda: ours(work, Execution(arguments.device, precision)),
            "paper_loop": lambda: paper_loop(work, model, masked=True),
            "hf_trainer": lambda: hf_trainer(work, model, masked=True),
        }
        result = document(
            work,
            race(contenders, turns=arguments.turns),
            precision=precision,
            depth=arguments.depth,
            width=arguments.width,
            dropout=arguments.dropout,
            data=arguments.data,
        )
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        for name, speed in result["tokens_per_second"].items():  # type: ignore[attr-defined]
            ratio = result["ratio"].get(name)  # type: ignore[attr-defined]
            print(f"{name:12s} {speed:10.0f} tokens/s" + (f"   ours is {ratio:.2f} times as fast" if ratio else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
