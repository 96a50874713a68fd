"""The three that the training benchmarks compare: the same texts, shapes, vocabulary, optimiser and updates.

Ours is the engine as `tlm-search run` uses it. `hf_trainer` is `transformers.Trainer` with its own collators: padded to
the longest text of a batch, fused AdamW. `paper_loop` is the loop of arXiv 2507.14871 as its released code has it: each
text padded to the full length, the head on every position, masks drawn on the host, AdamW with its defaults, the loss
read after each update. Both peers are `transformers`' BERT in fp32, as they run on a CPU; on a GPU, Trainer gets its
bf16. Dropout is alike: on hidden states as given, on attention probabilities nowhere.

A turn is one training of a few updates by each; turns alternate, and the median over turns counts. The first update of
a turn is not timed, on a GPU neither are those before it. Where other work runs on the machine, `--threads 1 --clock
cpu` counts processor time instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from transformers.utils import logging

from tlm_search.data.tokenizer import encode
from tlm_search.data.tokens import TokenArray
from tlm_search.data.wordpiece import save, train_wordpiece
from tlm_search.model.architecture import Architecture
from tlm_search.model.hf import bert_config
from tlm_search.model.latency import machine
from tlm_search.training.clock import GPU_WARMUP, GpuClock, UpdateClock

LEARNING_RATE, WEIGHT_DECAY, MASKED = 5e-5, 0.01, 0.15  # of the paper
PEERS = ("paper_loop", "hf_trainer")
OURS = "ours, members: "

Texts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Work:
    """What each contender does in a turn: ``updates`` timed updates of ``batch_size`` texts, after one that is not."""

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
        """Tokens of the timed updates of one member, padding not counted."""
        return sum(map(len, self.texts)) * self.updates * self.batch_size / len(self.texts)

    def clock(self) -> UpdateClock:
        """Return what notes the updates of one training."""
        return UpdateClock(self.now) if self.device == "cpu" else GpuClock()

    @property
    def classes(self) -> int:
        """Labels of the task."""
        return 1 + max(self.labels, default=0)


def tokenised(
    documents: Sequence[str], *, vocabulary: int, length: int, folder: Path
) -> tuple[PreTrainedTokenizerFast, list[list[int]]]:
    """Train a WordPiece vocabulary on the ``documents`` and cut them to ``length`` tokens."""
    tokenizer = train_wordpiece(documents, vocabulary=vocabulary)
    save(tokenizer, folder)
    return PreTrainedTokenizerFast.from_pretrained(str(folder)), list(encode(tokenizer, documents, length=length))


def token_array(texts: Texts) -> TokenArray:
    """Lay the texts out as the engine reads them."""
    ids = np.fromiter((token for text in texts for token in text), dtype=np.uint16)
    return TokenArray(ids, np.cumsum([0, *map(len, texts)]).astype(np.int64))


def paper_loop(work: Work, model: Any, *, masked: bool) -> float:
    """Train ``model`` as the paper's code does; return the seconds of the timed updates."""
    loader, clock = padded_batches(work, masked=masked), work.clock()
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    model.train()
    for batch in loader:
        optimiser.zero_grad()
        loss = model(**{name: value.to(work.device) for name, value in batch.items()}).loss
        loss.backward()
        optimiser.step()
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


def hf_trainer(work: Work, model: Any, *, masked: bool) -> float:
    """Train ``model`` with ``transformers.Trainer``; return the seconds of the timed updates."""
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
        bf16=work.device == "cuda",
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
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator, callbacks=[listener])  # type: ignore[arg-type]
    trainer.remove_callback(PrinterCallback)  # standard output is for the result
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


def race(contenders: Mapping[str, Callable[[], float]], *, turns: int) -> dict[str, list[float]]:
    """Return the seconds of each contender in each of ``turns`` turns."""
    logging.set_verbosity_error()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, run in contenders.items():
            seconds[name].append(run())
    return seconds


def document(work: Work, seconds: Mapping[str, Sequence[float]], **facts: object) -> dict[str, object]:
    """Return the result as JSON; ratios are medians over the turns of what the two took in the same turn.

    Ours stands under ``ours`` for the first number of members, and under ``stacked`` for every one.
    """
    stacked: dict[int, dict[str, Any]] = {}
    for members in (int(name.removeprefix(OURS)) for name in seconds if name.startswith(OURS)):
        own = seconds[f"{OURS}{members}"]
        ratios = {
            peer: members * statistics.median(p / o for p, o in zip(seconds[peer], own, strict=True)) for peer in PEERS
        }
        speed = members * work.timed_tokens / statistics.median(own)
        stacked[members] = {
            "tokens_per_second": round(speed, 1),
            "ratio": {peer: round(ratio, 2) for peer, ratio in ratios.items()},
        }
    first, turns = next(iter(stacked.values())), len(seconds[PEERS[0]])
    peers = {peer: round(work.timed_tokens / statistics.median(seconds[peer]), 1) for peer in PEERS}
    return {
        "tokens_per_second": {"ours": first["tokens_per_second"], **peers},
        "ratio": first["ratio"],
        "stacked": stacked,
        "updates": work.updates * turns,
        "tokens": round(work.timed_tokens * turns),
        "device": work.device,
        "machine": machine(work.device),
        "threads": torch.get_num_threads(),
        "turns": {name: [round(value, 3) for value in taken] for name, taken in seconds.items()},
        **facts,
    }


def add_options(parser: argparse.ArgumentParser, *, updates: int) -> None:
    """Add what both benchmarks take."""
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocabulary", type=int, default=30_522)
    parser.add_argument("--length", type=int, default=128, help="tokens a text is cut to")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--updates", type=int, default=updates, help="timed updates in a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--members", type=int, nargs="+", default=[1], help="of ours, stacked; the peers train one")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time of all threads")
    parser.add_argument("--data", default="pydocs", help="what to train on, as a space names it")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def work_of(arguments: argparse.Namespace, texts: Sequence[str], labels: Sequence[int], folder: Path) -> Work:
    """Lay out the work: a vocabulary trained on the ``texts``, and as many of them as a turn needs."""
    tokenizer, ids = tokenised(texts, vocabulary=arguments.vocabulary, length=arguments.length, folder=folder)
    head_size = min(64, arguments.width)
    shape = Architecture(
        depth=arguments.depth,
        heads=arguments.width // head_size,
        head_size=head_size,
        feed_forward=4 * arguments.width,
        vocabulary=arguments.vocabulary,
        positions=arguments.length,
    )
    count = arguments.batch_size * all_updates(arguments)
    now = time.process_time if arguments.clock == "cpu" else time.perf_counter
    size, updates, dropout = arguments.batch_size, arguments.updates, arguments.dropout
    where = (arguments.device, now)
    return Work(shape, ids[:count], labels[:count], size, updates, dropout, tokenizer, folder, *where)


def all_updates(arguments: argparse.Namespace) -> int:
    """Return how many updates a turn has, those that are not timed too."""
    return int(arguments.updates) + 1 + (GPU_WARMUP if arguments.device == "cuda" else 0)


def show(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the result."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    for peer in PEERS:
        print(f"{peer:20s} {result['tokens_per_second'][peer]:10.0f} tokens/s")
    for members, ours in result["stacked"].items():
        ratios = ", ".join(f"{ratio:.2f} times {peer}" for peer, ratio in ours["ratio"].items())
        print(f"{OURS + str(members):20s} {ours['tokens_per_second']:10.0f} tokens/s: {ratios}")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for what a benchmark writes."""
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
