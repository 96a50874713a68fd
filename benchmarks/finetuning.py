"""Fine-tuning of one member for classification: ours, the paper's loop, and Hugging Face's Trainer.

    python benchmarks/finetuning.py [--depth 1] [--width 768] [--data pydocs] [--json]

`--data` is a task as a space names it: `pydocs`, a file, a folder, or a Hugging Face id, such as `fancyzhx/ag_news`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from contenders import LEARNING_RATE, WEIGHT_DECAY, Work, peer_config, peers, scratch, token_array
from racing import OURS, add_options, all_updates, document, race, show, work_of
from transformers import BertForSequenceClassification

from tlm_search.data.tasks import load_task
from tlm_search.members.precision import TOGETHER
from tlm_search.space.task import TaskSection
from tlm_search.training.finetune import finetune
from tlm_search.training.memory import keep_freed_memory
from tlm_search.training.settings import Execution, Finetuning
from tlm_search.training.speed import Load, faster_precision


def settings_of(work: Work) -> Finetuning:
    """Return the settings of the paper."""
    return Finetuning("cls", 1, work.batch_size, LEARNING_RATE, WEIGHT_DECAY, 0.0, work.dropout)


def ours(work: Work, members: int, execution: Execution) -> float:
    """Fine-tune with the engine; return the seconds of the timed updates."""
    clock = work.clock()
    finetune(
        work.architecture,
        settings_of(work),
        token_array(work.texts),
        np.array(work.labels),
        classes=work.classes,
        pad=work.tokenizer.pad_token_id,
        seeds=range(members),
        pretrained=None,
        execution=execution,
        keeping=lambda *_: clock,
    )
    return clock.seconds


def main() -> int:
    """Print tokens per second of the three contenders, and the ratios to ours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, updates=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    with scratch() as folder:
        each = max(250, -(-arguments.batch_size * all_updates(arguments) // 2))  # enough with two labels
        section = TaskSection(source=arguments.data, train_per_label=each, validation_per_label=20, test_per_label=20)
        split = load_task(section, Path(folder)).train
        work = work_of(arguments, split.texts, [int(label) for label in split.labels], Path(folder))
        load = Load.of(work.architecture, settings_of(work))
        precision = faster_precision(
            work.architecture, load, work.device, members=min(TOGETHER, max(arguments.members))
        )
        model = BertForSequenceClassification(peer_config(work)).to(work.device)
        execution = Execution(work.device, precision)
        contenders = {
            **{f"{OURS}{k}": partial(ours, work, k, execution) for k in arguments.members},
            **peers(work, model, masked=False, precision=precision),
        }
        seconds = race(contenders, turns=arguments.turns)
        result = document(work, seconds, precision=precision, options=vars(arguments))
    show(result, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
