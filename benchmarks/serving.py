"""Measure how fast an export answers: a load test over HTTP, and ``predict`` on 10,000 texts.

A committee of eight one-layer members answers in two ways: with its members together, and member by member, as eight
models behind one address would. A six-layer model of the same width is measured for comparison. Weights are random,
because the time does not depend on them. Folders that ``tlm-search export`` wrote can be measured instead, such as a
committee, the smallest one that is as accurate as the deep model, and the deep model (``export --trial -1``). The
processor's time is printed too: on a busy machine it says more than the clock's.

    python benchmarks/serving.py [--committee DIR --deep DIR] [--seconds 8]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.tokenizer import open_tokenizer
from tlm_search.export.committee import Committee
from tlm_search.export.folder import CARD, CHECK, CONFIG, LABELS, MODEL, MODEL_TYPE, new_export, write_json
from tlm_search.model.architecture import Architecture
from tlm_search.model.weights import classifier_weights, initial_weights

WIDTH, LENGTH, VOCABULARY, CLASSES = 128, 64, 8192, 8
TEXTS, WORDS = 10_000, 50
CLIENTS = (1, 16)
PROGRAM = "from tlm_search.cli.main import main; main()"
# The same server, but its committee is called once for each member, as eight separate models behind it would be.
ONE_BY_ONE = (
    """
import numpy as np
from tlm_search.export import committee
from tlm_search.model.inference import split
Committee = committee.Committee
class Members(Committee):
    def answers(self, texts):
        shared = (self.architecture, self.pooling, self.labels, self.length, self.pad, self.tokenizer, {})
        each = np.stack([Committee(one, *shared).answers(texts).probabilities for one in split(self.weights)])
        said = each.mean(0)
        return committee.Answers(said, (each.argmax(-1) != said.argmax(-1)).mean(0).astype(np.float32))
committee.Committee = Members
"""
    + PROGRAM
)


def write_export(out: Path, *, depth: int, members: int, pooling: str = "cls") -> Path:
    """Write an export of untrained members over made-up words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(VOCABULARY - 5))]
    shape = Architecture(depth, 8, WIDTH // 8, 4 * WIDTH, VOCABULARY, LENGTH)
    seeds, labels = range(members), [f"label {i}" for i in range(CLASSES)]
    fresh = {**initial_weights(shape, seeds), **classifier_weights(shape, CLASSES, seeds)}
    weights = {name: value for name, value in fresh.items() if not name.startswith("mlm.")}
    config = {"model_type": MODEL_TYPE, "architecture": shape.to_document(), "pooling": pooling, "length": LENGTH}
    config |= {"pad_token_id": 0, "members": list(map(str, seeds))}
    with new_export(out) as folder:
        wordpiece.save(wordpiece.wordpiece(words), folder)
        committee = Committee.of(config, weights, open_tokenizer(folder), labels=labels, expected={})
        write_json(folder / CONFIG, config)
        write_json(folder / LABELS, labels)
        save_file(weights, folder / MODEL, {"format": "pt"})
        expected = {"texts": ["w1 w2"], "probabilities": committee.probabilities(["w1 w2"]).tolist()}
        write_json(folder / CHECK, expected)
    return out


def texts(count: int) -> list[str]:
    drawn = np.random.default_rng(0).integers(0, VOCABULARY - 5, (count, WORDS - 2))
    return [" ".join(f"w{i}" for i in row) for row in drawn]


@contextmanager
def serving(folder: Path, program: str) -> Iterator[tuple[str, int, int]]:
    """Start a server; give its host, its port and its process id."""
    command = [sys.executable, "-c", program, "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            if " at http://" not in line:
                raise SystemExit(line + server.stderr.read())
            host, port = line.split(" at http://")[1].split()[0].rsplit(":", 1)
            yield host, int(port), server.pid
        finally:
            server.kill()


async def load(host: str, port: int, *, clients: int, seconds: float) -> list[float]:
    """Let this many clients send one text after another; return the seconds of each request."""
    bodies = [json.dumps({"texts": [text]}).encode() for text in texts(256)]
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def ask(client: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        turn = client
        while time.perf_counter() < end:
            body = bodies[turn % len(bodies)]
            turn += clients
            begin = time.perf_counter()
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            writer.write(f"{head}\r\n\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert answer.startswith("HTTP/1.1 200"), answer
            size = next(line for line in answer.lower().splitlines() if line.startswith("content-length:"))
            await reader.readexactly(int(size.split(":")[1]))
            times.append(time.perf_counter() - begin)
        writer.close()

    await asyncio.gather(*(ask(client) for client in range(clients)))
    return times


def cpu_seconds(pid: int) -> float:
    """Return the seconds of processor time that a process has used (Linux only)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def predict_seconds(folder: Path) -> tuple[float, float]:
    """Return the seconds of ``tlm-search predict`` on 10,000 texts, with start and output, and its processor time."""
    command = [sys.executable, "-c", PROGRAM, "predict", str(folder), "--json"]
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, input="\n".join(texts(TEXTS)), text=True, stdout=subprocess.DEVNULL, check=True)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def described(folder: Path) -> str:
    """Describe an export, with the accuracy that its card states."""
    config = json.loads((folder / CONFIG).read_text())
    shape = config["architecture"]
    card = (folder / CARD).read_text() if (folder / CARD).is_file() else ""
    accuracy = re.search(r"test accuracy \(95% interval over texts\) \| ([^|]*) \|", card)
    words = f"members {len(config['members'])}, depth {shape['depth']}, width {shape['heads'] * shape['head_size']}"
    return f"{words}, pooling {config['pooling']}" + (f", test accuracy {accuracy[1]}" if accuracy else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--committee", type=Path, action="append", metavar="DIR", help="an export; may be repeated")
    parser.add_argument("--deep", type=Path, metavar="DIR", help="the deep model's export")
    parser.add_argument("--seconds", type=float, default=8, help="of each load")
    given = parser.parse_args()
    if (given.committee is None) != (given.deep is None):
        parser.error("--committee and --deep go together")
    with tempfile.TemporaryDirectory() as scratch:
        if given.committee:
            committees, deep = {folder.name: folder for folder in given.committee}, given.deep
        else:
            committees = {"committee": write_export(Path(scratch) / "committee", depth=1, members=8)}
            deep = write_export(Path(scratch) / "deep", depth=6, members=1)
        for name, folder in {**committees, "deep": deep}.items():
            print(f"{name}: {described(folder)}")
        print(f"{os.cpu_count()} cores; requests of one text of {WORDS} tokens")
        print(f"{'':24} clients  requests/s   p50 ms   p99 ms   CPU ms a request")
        models = {}
        for name, folder in committees.items():
            models[name] = (folder, PROGRAM)
            if len(json.loads((folder / CONFIG).read_text())["members"]) > 1:
                models[f"{name}, one by one"] = (folder, ONE_BY_ONE)
        models["deep"] = (deep, PROGRAM)
        for clients in CLIENTS:
            for name, (folder, program) in models.items():
                with serving(folder, program) as (host, port, pid):
                    asyncio.run(load(host, port, clients=clients, seconds=1))
                    before = cpu_seconds(pid)
                    times = asyncio.run(load(host, port, clients=clients, seconds=given.seconds))
                    cpu = 1000 * (cpu_seconds(pid) - before) / len(times)
                cuts = statistics.quantiles(times, n=100)
                rate = len(times) / given.seconds
                latencies = f"{1000 * cuts[49]:8.2f} {1000 * cuts[98]:8.2f}"
                print(f"{name:24} {clients:7} {rate:11.0f} {latencies} {cpu:18.2f}", flush=True)
        if not given.committee:
            pooled = Path(scratch) / "mean"
            committees["committee, mean pooling"] = write_export(pooled, depth=1, members=8, pooling="mean")
        for name, folder in {**committees, "deep": deep}.items():
            seconds, cpu = predict_seconds(folder)
            print(
                f"predict, {TEXTS:,} texts of {WORDS} tokens, {name}: {seconds:.1f} s, {cpu:.1f} s of CPU", flush=True
            )


if __name__ == "__main__":
    main()
