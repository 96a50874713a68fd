"""`kill -9` of the driver at random moments, each followed by the same command; the study is that of nobody's death."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from driven import REFERENCE, Bench, results, space_of

from tlm_search.search.resume import driver_lock
from tlm_search.space.schema import Space

TRIALS = 40
MOMENTS = 25


def space() -> Space:
    return space_of(
        sampler={"name": "tpe", "n_startup_trials": 4},
        pruner={"name": "asha", "reduction_factor": 2},
        objectives=["validation_accuracy", "parameters"],
        reference=REFERENCE,
    )


def drive(folder: Path) -> None:
    """What one process does: take the lock, mend, go on."""
    with driver_lock(folder / "study"):
        Bench(folder, space()).drive(TRIALS)


PROGRAM = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.path[:0] = [{tests!r}, {faults!r}]
from test_kills import drive
print("ready", flush=True)
drive(Path({folder!r}))
"""


@pytest.mark.timeout(240)
def test_a_killed_driver_changes_nothing(tmp_path: Path) -> None:
    drive(tmp_path / "undisturbed")
    expected = results(Bench(tmp_path / "undisturbed", space()).ledger())
    folder = tmp_path / "disturbed"
    here = Path(__file__).parent
    program = PROGRAM.format(tests=str(here.parent), faults=str(here), folder=str(folder))
    moments = random.Random(1)
    killed = 0
    for _ in range(MOMENTS):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moments.uniform(0, 0.3))
            killed += process.poll() is None
            process.kill()
    assert killed > MOMENTS // 2
    drive(folder)
    place = Bench(folder, space())
    ledger = place.ledger()
    assert results(ledger) == expected
    assert {trial.state.name for trial in ledger.trials} <= {"COMPLETE", "PRUNED", "FAIL"}
    assert place.store.verify() == []
    trained = sum(trial.user_attrs.get("trained", 0) for trial in ledger.trials)
    assert trained <= len(list(place.store.entries("members")))
