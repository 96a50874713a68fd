"""Write a log in the form of HDFS, as a CSV with the columns time, host, message and label, for ``spaces/logs.yaml``.

    python studies/logs/write_lines.py lines.csv

60 hosts with 110 lines each. A block is allocated, received, stored, read and deleted. About 3% of the lines are
anomalies of four kinds. Two are lines that a normal log has too, at a wrong moment: a block is deleted before it was
stored, or stored twice. The third is an exception, which is harmless after a lost connection. The words of the fourth
give it away.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

HOSTS, LINES, SEED = 60, 110, 0
SHARE = 0.22  # of the lives of a block with an anomaly


def life(draw: random.Random) -> Iterator[tuple[str, str]]:
    """Yield the lines of one block, each with its label."""
    block = f"blk_{draw.randrange(10**9, 10**10)}"
    peer = f"10.251.{draw.randrange(256)}.{draw.randrange(256)}"
    size = draw.randrange(10**6, 67 * 10**6)
    added = "INFO dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: blockMap updated:"
    stored = f"{added} {peer}:50010 is added to {block} size {size}"
    deleted = f"INFO dfs.FSDataset: Deleting block {block} file /mnt/hadoop/dfs/data/current/{block}"
    refused = f"WARN dfs.DataNode$DataXceiver: Got exception while serving {block} to /{peer}"
    kind = draw.choice(("early", "twice", "exception", "words")) if draw.random() < SHARE else "normal"
    yield (
        f"INFO dfs.FSNamesystem: BLOCK* NameSystem.allocateBlock: /user/root/part-{draw.randrange(1000):05d}. {block}",
        "normal",
    )
    source = f"/{peer}:{draw.randrange(32768, 61000)}"
    yield f"INFO dfs.DataNode$DataXceiver: Receiving block {block} src: {source} dest: /{peer}:50010", "normal"
    yield f"INFO dfs.DataNode$PacketResponder: Received block {block} of size {size} from /{peer}", "normal"
    yield (
        f"INFO dfs.DataNode$PacketResponder: PacketResponder {draw.randrange(3)} for block {block} terminating",
        "normal",
    )
    if kind == "early":
        yield deleted, "anomaly"
        return
    yield stored, "normal"
    if kind == "twice":
        yield stored, "anomaly"
    for _ in range(draw.randrange(3)):
        yield f"INFO dfs.DataNode$DataXceiver: {peer}:50010 Served block {block} to /{peer}", "normal"
    if kind == "exception":
        yield refused, "anomaly"
    elif draw.random() < 0.1:
        yield f"WARN dfs.DataNode$DataXceiver: Connection reset by peer /{peer}", "normal"
        yield refused, "normal"
    if kind == "words":
        yield (
            f"WARN dfs.FSDataset: Unexpected error trying to delete block {block}. BlockInfo not found in volumeMap.",
            "anomaly",
        )
        return
    yield deleted, "normal"


def lines(draw: random.Random) -> Iterator[tuple[str, str, str, str]]:
    """Yield time, host, message and label of each line, host by host."""
    for host in range(HOSTS):
        time, written = datetime(2008, 11, 9, 20, 36), 0
        while written < LINES:
            for message, label in life(draw):
                time += timedelta(seconds=draw.randrange(1, 9))
                yield time.isoformat(), f"node-{host:02d}", message, label
                written += 1


def main(file: Path) -> None:
    """Write the log to ``file``."""
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("time", "host", "message", "label"))
        writer.writerows(lines(random.Random(SEED)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
