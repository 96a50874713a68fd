"""Masked-language-model pre-training of one member: ours, the paper's loop, and Hugging Face's Trainer.

    python benchmarks/pretraining.py [--depth 1] [--width 768] [--device cpu] [--data pydocs] [--json]

`--data` is a corpus as a space names it: `pydocs`, a file, a folder of text or Parquet files, or a Hugging Face id.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from contenders import (
    LEARNING_RATE,
    MASKED,
    WEIGHT_DECAY,
    Work,
    peer_config,
    peers,
    scratch,
    token_array,
)
from racing import OURS, add_options, all_updates, document, race, show, work_of
from transformers import BertForMaskedLM

from tlm_search.data.corpora import load_corpus
from tlm_search.members.precision import TOGETHER
from tlm_search.space.sections import CorpusSection
from tlm_search.training.memory import keep_freed_memory
from tlm_search.training.pretrain import pretrain
from tlm_search.training.settings import Execution, Pretraining
from tlm_search.training.speed import Load, faster_precision


def settings_of(work: Work) -> Pretraining:
    """Return the settings of the paper."""
    return Pretraining(1, work.batch_size, LEARNING_RATE, WEIGHT_DECAY, 0.0, work.dropout, MASKED)


def ours(work: Work, members: int, execution: Execution) -> float:
    """Pre-train with the engine; return the seconds of the timed updates."""
    names = {role: getattr(work.tokenizer, f"{role}_token_id") for role in ("pad", "cls", "sep", "mask")}
    clock = work.clock()
    pretrain(
        work.architecture,
        settings_of(work),
        token_array(work.texts),
        special=names,
        seeds=range(members),
        execution=execution,
        keeping=lambda *_: clock,
    )
    return clock.seconds


def main() -> int:
    """Print tokens per second of the three contenders, and the ratios to ours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, updates=4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    with scratch() as folder:
        documents = max(4000, arguments.batch_size * all_updates(arguments))
        corpus = load_corpus(CorpusSection(source=arguments.data, documents=documents), Path(folder))
        work = work_of(arguments, corpus.documents, (), Path(folder))
        load = Load.of(work.architecture, settings_of(work))
        precision = faster_precision(
            work.architecture, load, work.device, members=min(TOGETHER, max(arguments.members))
        )
        model = BertForMaskedLM(peer_config(work)).to(work.device)
        execution = Execution(work.device, precision)
        contenders = {
            **{f"{OURS}{k}": partial(ours, work, k, execution) for k in arguments.members},
            **peers(work, model, masked=True, precision=precision),
        }
        result = document(
            work,
            race(contenders, turns=arguments.turns),
            precision=precision,
            options=vars(arguments),
        )
    show(result, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
