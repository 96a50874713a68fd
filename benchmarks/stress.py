"""Kill drivers, workers and raylets hundreds of times at random moments, each time followed by the same command.

Every kind is a serial study of simulated members (of real ones: ``real``). It is continued until it is complete, and
then compared with an undisturbed study: exactly N finished trials, none running, every entry of the store verifies, no
finished member was trained again, and the same parameters and values. ``drivers`` and ``real`` run the driver and its
trials in one process; the others run ``tlm-search run`` on a Ray of this machine.

    python benchmarks/stress.py [--seed 0] [--drivers 200] [--real 20] [--ray 25] [--raylets 5] [--workers 40] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]

from driven import SEARCH, results  # noqa: E402
from killing import faults_of, finish, kill_child, kill_worker, lines_until, results_of, start_command  # noqa: E402
from test_kills import SECTIONS, compare, drive, kill_drivers, simulated, write_texts  # noqa: E402

TRIALS = {"drivers": 60, "real": 8, "ray": 150, "raylets": 150, "workers": 150}


@dataclass(frozen=True)
class Result:
    """The result of one kind: ``kills`` of processes at work, and ``faults`` found in the study afterwards."""

    kind: str
    trials: int
    kills: int
    starts: int
    faults: tuple[str, ...]
    seconds: float


def in_process(kind: str, kills: int, seed: int, folder: Path) -> Result:
    """Kill drivers that train their members themselves; when a study is complete, the next one starts."""
    member, latest = ("simulated", 0.4) if kind == "drivers" else ("real", 1.5)
    began, moments, trials = time.monotonic(), random.Random(f"{seed}{kind}"), TRIALS[kind]
    write_texts(folder)
    drive(folder / "undisturbed", member, trials)
    killed, starts, faults = 0, 0, []
    while starts < kills:
        place = folder / f"disturbed{starts}"
        here = min(25, kills - starts)
        killed += kill_drivers(place, member, trials=trials, kills=here, latest=latest, moments=moments)
        starts += here
        drive(place, member, trials)
        try:
            compare(place, folder / "undisturbed", member)
        except AssertionError as error:
            faults.append(str(error))
    return Result(kind, trials, killed, starts, tuple(faults), time.monotonic() - began)


def through_ray(kind: str, kills: int, seed: int, folder: Path) -> Result:
    """Kill drivers, raylets or workers of ``tlm-search run``."""
    began, moments, trials = time.monotonic(), random.Random(f"{seed}{kind}"), TRIALS[kind]
    folder.mkdir()
    drive(folder / "undisturbed", "simulated", trials)
    document: dict[str, Any] = {"name": "test", "trainer": "simulated", "search": SEARCH, **SECTIONS}
    (folder / "space.yaml").write_text(
        yaml.safe_dump({**document, "resources": {"concurrent_trials": 1}}, sort_keys=False)
    )
    command = ("run", "space.yaml", "--trials", str(trials))
    killed = starts = 0
    faults = []
    if kind == "workers":
        process = start_command(folder, *command)
        while killed < kills:
            try:
                lines_until(process, f"/{trials}]")
            except AssertionError:
                break
            time.sleep(moments.uniform(0, 0.1))
            killed += kill_worker(process.pid)
        starts = 1
        code, _, err = finish(process)
        faults += [] if code == 0 else [err[-500:]]
    else:
        for _ in range(kills):
            starts += 1
            with start_command(folder, *command) as process:
                try:
                    lines_until(process, "starting Ray")
                except AssertionError:
                    break  # the study is complete, so no process is left to kill
                time.sleep(moments.uniform(0, 9))
                if kind == "ray":
                    killed += process.poll() is None
                    process.kill()
                    continue
                killed += kill_child(process.pid, "/raylet")
                out, err = process.communicate(timeout=120)
                # The folder has the name of the kind, and the last line names the report in it.
                stray = [line for line in out.splitlines() if "raylet" in line.replace(str(folder), "")]
                if process.returncode not in (0, 1) or "Traceback" in err or stray:
                    faults.append(f"exit code {process.returncode}: {stray} {err[-500:]}")
        starts += 1
        code, _, err = finish(start_command(folder, *command))
        faults += [] if code == 0 else [err[-500:]]
    study = folder / "studies" / "test"
    faults += faults_of(study, trials)
    expected = results(simulated(folder / "undisturbed").ledger())
    found = [(params, values) for _, params, values, _ in results_of(study)]
    if found != [(params, tuple(values or ())) for params, values in expected]:
        faults.append("the results differ from those of an undisturbed study")
    return Result(kind, trials, killed, starts, tuple(faults), time.monotonic() - began)


KINDS: dict[str, Callable[[str, int, int, Path], Result]] = {
    "drivers": in_process,
    "real": in_process,
    "ray": through_ray,
    "raylets": through_ray,
    "workers": through_ray,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    for kind, kills in {"drivers": 200, "real": 20, "ray": 25, "raylets": 5, "workers": 40}.items():
        parser.add_argument(f"--{kind}", type=int, default=kills, help=f"how many to kill; {kills} when not given")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="tlm-search-stress-", ignore_cleanup_errors=True) as folder:
        for kind, run in KINDS.items():
            if kills := getattr(arguments, kind):
                rows.append(run(kind, kills, arguments.seed, Path(folder) / kind))
                print(_line(rows[-1]), file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps({"seed": arguments.seed, "rows": [asdict(row) for row in rows]}, indent=2))
    return 1 if any(row.faults for row in rows) else 0


def _line(row: Result) -> str:
    verdict = "; ".join(row.faults) if row.faults else "nothing lost, nothing twice"
    return f"{row.kind:8s} {row.trials:4d} trials  {row.kills:4d} killed  {row.seconds:6.1f} s  {verdict}"


if __name__ == "__main__":
    sys.exit(main())
