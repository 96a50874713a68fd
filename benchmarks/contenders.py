"""The three contenders of the training benchmarks: the same texts, shapes, vocabulary, optimiser and updates.

Ours is the engine as `tlm-search run` uses it. `hf_trainer` is `transformers.Trainer` with its own collators: padded to
the longest text of a batch, fused AdamW. `paper_loop` is the loop of arXiv 2507.14871 as in its released code: each
text padded to the full length, the head on every position, masks drawn on the host, AdamW with its defaults, the loss
read after each update; on a GPU under fp16 autocast. Both peers are `transformers`' BERT, by default in fp32 on a CPU.
Trainer uses bf16 on a GPU, and on a CPU if ours trains in bf16 there: `hf_trainer_bf16`. Dropout is the same for all:
on hidden states as given, on attention probabilities none.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    BertConfig,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import encode
from tlm_search.data.vocabulary.wordpiece import save, train_wordpiece
from tlm_search.model.architecture import Architecture
from tlm_search.model.hf import bert_config
from tlm_search.training.clock import UpdateClock, clock_of

LEARNING_RATE, WEIGHT_DECAY, MASKED = 5e-5, 0.01, 0.15  # those of the paper

Texts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Work:
    """The work of each contender in a turn: an update that is not timed, then ``updates`` of ``batch_size`` texts."""

    architecture: Architecture
    texts: Texts
    labels: Sequence[int]
    batch_size: int
    updates: int
    dropout: float
    tokenizer: PreTrainedTokenizerFast
    folder: Path
    device: str = "cpu"
    now: Callable[[], float] = time.perf_counter

    @property
    def timed_tokens(self) -> float:
        """The tokens of the timed updates of one member, without padding."""
        return sum(map(len, self.texts)) * self.updates * self.batch_size / len(self.texts)

    def clock(self) -> UpdateClock:
        """Return a clock that notes the updates of one training."""
        return clock_of(self.device, self.now)

    @property
    def classes(self) -> int:
        """The number of labels of the task."""
        return 1 + max(self.labels, default=0)


def tokenised(
    documents: Sequence[str], *, vocabulary: int, length: int, folder: Path
) -> tuple[PreTrainedTokenizerFast, list[list[int]]]:
    """Train a WordPiece vocabulary on the ``documents`` and cut them to ``length`` tokens."""
    tokenizer = train_wordpiece(documents, vocabulary=vocabulary)
    save(tokenizer, folder)
    return PreTrainedTokenizerFast.from_pretrained(str(folder)), list(encode(tokenizer, documents, length=length))


def token_array(texts: Texts) -> TokenArray:
    """Arrange the texts as the engine reads them."""
    ids = np.fromiter((token for text in texts for token in text), dtype=np.uint16)
    return TokenArray(ids, np.cumsum([0, *map(len, texts)]).astype(np.int64))


def paper_loop(work: Work, model: Any, *, masked: bool) -> float:
    """Train ``model`` as the paper's code does; return the seconds of the timed updates."""
    loader, clock = padded_batches(work, masked=masked), work.clock()
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    scaler = torch.amp.GradScaler(work.device, enabled=work.device == "cuda")
    model.train()
    for batch in loader:
        optimiser.zero_grad()
        with torch.autocast(work.device, torch.float16, enabled=work.device == "cuda"):
            loss = model(**{name: value.to(work.device) for name, value in batch.items()}).loss
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        loss.item()
        clock.is_due()
    return clock.seconds


def padded_batches(work: Work, *, masked: bool) -> DataLoader[Any]:
    """Return one epoch of batches as the paper's code makes them: every text padded to the full length."""
    pad = work.tokenizer.pad_token_id
    length = work.architecture.positions
    rows = [list(text) + [pad] * (length - len(text)) for text in work.texts]
    collate = _host_masks(work) if masked else _stacked_labels
    data = [(torch.tensor(row), torch.tensor(len(text)), label) for row, text, label in _examples(work, rows)]
    return DataLoader(data, batch_size=work.batch_size, shuffle=True, collate_fn=collate)  # type: ignore[arg-type]


def peers(work: Work, model: Any, *, masked: bool, precision: str) -> dict[str, Callable[[], float]]:
    """Return the peers by name. Trainer in bf16 is one of them if ours trains in bf16 on a CPU."""
    found = {
        "paper_loop": lambda: paper_loop(work, model, masked=masked),
        "hf_trainer": lambda: hf_trainer(work, model, masked=masked, bf16=work.device == "cuda"),
    }
    if work.device == "cpu" and precision == "bfloat16":
        found["hf_trainer_bf16"] = lambda: hf_trainer(work, model, masked=masked, bf16=True)
    return found


def hf_trainer(work: Work, model: Any, *, masked: bool, bf16: bool) -> float:
    """Train ``model`` with ``transformers.Trainer``; return the seconds of the timed updates."""
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # the first Trainer of a process decides the precision of all
    collator: Any = (
        DataCollatorForLanguageModeling(work.tokenizer, mlm_probability=MASKED)
        if masked
        else DataCollatorWithPadding(work.tokenizer)
    )
    arguments = TrainingArguments(
        output_dir=str(work.folder / "trainer"),
        per_device_train_batch_size=work.batch_size,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        use_cpu=work.device == "cpu",
        bf16=bf16,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
    )
    rows: list[dict[str, Any]] = [{"input_ids": list(text)} for text in work.texts]
    if not masked:
        rows = [{**row, "label": label} for row, label in zip(rows, work.labels, strict=True)]
    clock = work.clock()
    listener = _Listener(clock)
    # In bf16 a model's forward stays wrapped for every later user of the model.
    own = copy.deepcopy(model)
    trainer = Trainer(model=own, args=arguments, train_dataset=rows, data_collator=collator, callbacks=[listener])  # type: ignore[arg-type]
    trainer.remove_callback(PrinterCallback)  # standard output has only the result
    trainer.train()
    return clock.seconds


class _Listener(TrainerCallback):
    def __init__(self, clock: UpdateClock) -> None:
        self.clock = clock

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        self.clock.is_due()


def peer_config(work: Work) -> BertConfig:
    """Return the configuration of the peers' model."""
    names = tuple(map(str, range(work.classes)))
    options = bert_config(work.architecture, labels=names, pad=work.tokenizer.pad_token_id)
    return BertConfig(**options, hidden_dropout_prob=work.dropout, attention_probs_dropout_prob=0.0)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for the files of a benchmark."""
    return tempfile.TemporaryDirectory(prefix="tlm-search-benchmark-")


def _examples(work: Work, rows: Sequence[Sequence[int]]) -> list[tuple[Sequence[int], Sequence[int], int]]:
    labels = work.labels or [0] * len(rows)
    return list(zip(rows, work.texts, labels, strict=True))


def _stacked_labels(batch: Sequence[tuple[Tensor, Tensor, int]]) -> dict[str, Tensor]:
    ids, mask = _stacked(batch)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([label for *_, label in batch])}


def _host_masks(work: Work) -> Callable[[Sequence[tuple[Tensor, Tensor, int]]], dict[str, Tensor]]:
    tokenizer = work.tokenizer
    special = torch.tensor([tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id])

    def collate(batch: Sequence[tuple[Tensor, Tensor, int]]) -> dict[str, Tensor]:
        ids, mask = _stacked(batch)
        labels = ids.clone()
        chosen = (torch.rand(ids.shape) < MASKED) & ~torch.isin(ids, special)
        labels[~chosen] = -100
        fate = torch.rand(ids.shape)
        ids[chosen & (fate < 0.8)] = tokenizer.mask_token_id
        scrambled = chosen & (fate >= 0.9)
        ids[scrambled] = torch.randint(work.architecture.vocabulary, ids.shape)[scrambled]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    return collate


def _stacked(batch: Sequence[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor]:
    ids = torch.stack([row for row, _, _ in batch])
    lengths = torch.stack([size for _, size, _ in batch])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()
