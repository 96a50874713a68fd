"""How long do a six-layer BERT and committees of 1 to 16 one-layer BERTs of its width take for an answer?

Every model is a classifier for texts of full length. Its weights are random, because the time does not depend on them.
`predict` and `serve` use two forms (in both, the last layer is computed for the first token alone): `stacked`, all
members as one model, and `member by member`; they choose by the number of tokens. The form `transformers` runs one
plain `BertForSequenceClassification` after another. Batches have 1 or 32 texts, with one thread or all. All models of
one setting take turns of a few calls in one process, so that other work on the machine slows all of them alike.

    python benchmarks/latency.py [--width 128] [--length 64] [--members 1 2 4 8 16] [--device cpu] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch

from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import Answer, committee_answer, machine, race, transformers_answer
from tlm_search.training.memory import keep_freed_memory

DEEP = 6
BATCHES = (1, 32)
LABELS, VOCABULARY, POOLING = 8, 8192, "cls"


@dataclass(frozen=True)
class Row:
    """One measurement; ``ratio`` is its median over that of the deep model's fastest form in the same setting."""

    threads: int
    texts: int
    depth: int
    members: int
    form: str
    p50_ms: float
    p95_ms: float
    ratio: float


def shape(depth: int, *, width: int, length: int) -> Architecture:
    """Return a BERT of ``width`` with heads of 64, or one head."""
    size = min(64, width)
    return Architecture(depth, width // size, size, 4 * width, VOCABULARY, length)


def one_after_another(answer: Answer, times: int) -> Answer:
    """Return a function that calls this many such models one after another."""
    return lambda: torch.stack([answer() for _ in range(times)]).mean(0)


def forms(architecture: Architecture, *, members: int, texts: int, device: str) -> Iterator[tuple[str, Answer]]:
    """Yield each way to compute ``members`` such models."""
    ways = {"stacked": True, "member by member": False} if members > 1 else {"one model": True}
    for name, stacked in ways.items():
        yield (
            name,
            committee_answer(
                architecture,
                members=members,
                labels=LABELS,
                pooling=POOLING,
                texts=texts,
                stacked=stacked,
                device=device,
            ),
        )
    plain = transformers_answer(architecture, labels=LABELS, attention="sdpa", texts=texts, device=device)
    yield "transformers", one_after_another(plain, members)


def measure(
    *, width: int, length: int, sizes: Sequence[int], threads: int, texts: int, seconds: float, device: str
) -> Iterator[Row]:
    """Race the deep model and the committees in one setting."""
    models = [(DEEP, 1), *((1, size) for size in sizes)]
    answers = {
        (depth, members, form): answer
        for depth, members in models
        for form, answer in forms(shape(depth, width=width, length=length), members=members, texts=texts, device=device)
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        taken = race({str(key): answer for key, answer in answers.items()}, seconds=seconds)
    finally:
        torch.set_num_threads(before)
    deep = min(taken[str(key)].p50_ms for key in answers if key[0] == DEEP)
    for key in answers:
        time = taken[str(key)]
        yield Row(threads, texts, *key, round(time.p50_ms, 3), round(time.p95_ms, 3), round(time.p50_ms / deep, 3))


def main() -> int:
    """Print the milliseconds of every form and the ratios to the deep model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--length", type=int, default=64, help="tokens of a text")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="sizes of the committees")
    parser.add_argument("--seconds", type=float, default=5, help="of each setting; large models take longer")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args()
    keep_freed_memory()
    rows: list[Row] = []
    for threads in given.threads:
        for texts in BATCHES:
            print(f"measuring: threads {threads}, texts {texts}", file=sys.stderr)
            shared = {"width": given.width, "length": given.length, "sizes": given.members, "seconds": given.seconds}
            rows += measure(**shared, threads=threads, texts=texts, device=given.device)
    if given.json:
        print(
            json.dumps(
                {"machine": machine(given.device), "options": vars(given), "rows": [asdict(r) for r in rows]}, indent=1
            )
        )
        return 0
    print("threads  texts  model            form                 p50 ms    p95 ms  ratio to BERT-6")
    for row in rows:
        model = f"{row.members} x BERT-{row.depth}"
        print(
            f"{row.threads:7d}  {row.texts:5d}  {model:15s}  {row.form:16s}  {row.p50_ms:9.2f} {row.p95_ms:9.2f}"
            f"  {row.ratio:6.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
