"""Fine-tuning of one member for classification: ours, the paper's loop, and Hugging Face's Trainer.

    python benchmarks/finetuning.py [--depth 1] [--width 768] [--data pydocs] [--json]

`--data` is a task as a space names it: `pydocs`, a file, a folder, or a Hugging Face id, such as `fancyzhx/ag_news`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from contenders import (
    LEARNING_RATE,
    WEIGHT_DECAY,
    Work,
    add_options,
    document,
    hf_trainer,
    paper_loop,
    peer_config,
    race,
    scratch,
    show,
    token_array,
    work_of,
)
from transformers import BertForSequenceClassification

from tlm_search.data.tasks import load_task
from tlm_search.space.sections import TaskSection
from tlm_search.training.finetune import finetune
from tlm_search.training.memory import keep_freed_memory
from tlm_search.training.settings import Execution, Finetuning
from tlm_search.training.speed import Load, UpdateClock, faster_precision


def settings_of(work: Work) -> Finetuning:
    """Return the settings of the paper."""
    return Finetuning("cls", 1, work.batch_size, LEARNING_RATE, WEIGHT_DECAY, 0.0, work.dropout)


def ours(work: Work, execution: Execution) -> float:
    """Fine-tune with the engine; return the seconds of the timed updates."""
    clock = UpdateClock(work.now)
    finetune(
        work.architecture,
        settings_of(work),
        token_array(work.texts),
        np.array(work.labels),
        classes=work.classes,
        pad=work.tokenizer.pad_token_id,
        seeds=(0,),
        pretrained=None,
        execution=execution,
        keeping=lambda *_: clock,
    )
    return clock.ends[-1] - clock.ends[0]


def main() -> int:
    """Print tokens per second of the three and the ratios to ours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, updates=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    with scratch() as folder:
        section = TaskSection(source=arguments.data, train_per_label=250, validation_per_label=20, test_per_label=20)
        split = load_task(section, Path(folder)).train
        work = work_of(arguments, split.texts, [int(label) for label in split.labels], Path(folder))
        precision = faster_precision(work.architecture, Load.of(work.architecture, settings_of(work)))
        model = BertForSequenceClassification(peer_config(work))
        contenders = {
            "ours": lambda: ours(work, Execution(arguments.device, precision)),
            "paper_loop": lambda: paper_loop(work, model, masked=False),
            "hf_trainer": lambda: hf_trainer(work, model, masked=False),
        }
        seconds = race(contenders, turns=arguments.turns)
        result = document(work, seconds, precision=precision, options=vars(arguments))
    show(result, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
