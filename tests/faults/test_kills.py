"""`kill -9` at random moments, each followed by the same command; the study is that of nobody's death."""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
import yaml
from driven import REFERENCE, SEARCH, Bench, results, space_of
from killing import faults_of, finish, kill_worker, lines_until, results_of, start_command

from tlm_search.data.prepare import prepare
from tlm_search.space.schema import Space
from tlm_search.study.driver_lock import driver_lock

TRIALS, MANY_TRIALS = 80, 160  # enough trials that the study is not finished before the last kill
MOMENTS, REAL_MOMENTS, WORKERS = 25, 3, 4
WAIT_SECONDS = 60
SECTIONS: dict[str, Any] = {
    "sampler": {"name": "tpe", "n_startup_trials": 4},
    "pruner": {"name": "asha", "reduction_factor": 2},
    "objectives": ["validation_accuracy", "parameters"],
    "reference": REFERENCE,
}
WORDS = ("red", "blue", "green", "tree", "house", "river", "stone", "cloud", "bread", "horse")


def simulated(folder: Path) -> Bench:
    return Bench(folder, space_of(**SECTIONS))


def real(folder: Path) -> Bench:
    """A study of tiny BERTs, with and without pre-training, on short texts."""
    from tlm_search.members.bert_trainer import BertTrainer

    bench = Bench(folder, real_space(folder.parent))
    bench.data = prepare(bench.space, bench.store.root)
    bench.trainer = BertTrainer(threads=1, device="cpu")
    return bench


def real_space(texts: Path) -> Space:
    return Space.from_document(
        {
            "name": "test",
            "corpus": str(texts / "corpus.txt"),
            "tokenizer": {"vocabulary": 60, "length": 8},
            "task": {
                "source": str(texts / "task.csv"),
                "train_per_label": 8,
                "validation_per_label": 8,
                "test_per_label": 8,
            },
            "search": {
                "depth": {"choices": [1, 2]},
                "heads": {"choices": [1, 2]},
                "head_size": 8,
                "pretrain_size": {"choices": [0, 60]},
                "finetune_learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
                "committee_size": {"choices": [1, 2]},
            },
            "objectives": ["validation_accuracy", "parameters"],
            "pruner": {"name": "asha", "reduction_factor": 2},
        }
    )


def write_texts(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    corpus = [" ".join(draw.choices(WORDS, k=6)) for _ in range(80)]
    (folder / "corpus.txt").write_text("\n\n".join(corpus))
    rows = [f"{' '.join(draw.choices(WORDS[i % 2 * 5 :][:5], k=4))} {n},{'ab'[i % 2]}" for n, i in enumerate(range(80))]
    (folder / "task.csv").write_text("\n".join(["text,label", *rows]))


def drive(folder: Path, kind: str, trials: int, ready: Event | None = None) -> None:
    """Do what one process does: take the lock, repair the study, continue it."""
    bench = {"simulated": simulated, "real": real}[kind](folder)
    with driver_lock(folder / "study"):
        if ready is not None:
            ready.set()
        bench.drive(trials)


def kill_drivers(folder: Path, kind: str, *, trials: int, kills: int, latest: float, moments: random.Random) -> int:
    """Start a driver and kill it at a random moment, again and again; return how many were killed at work."""
    # Each driver is forked from a process that has done the slow imports, so that it is at work when it is killed.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "scipy.special", "tlm_search.members.bert_trainer", "tlm_search.search.session"]
    )
    killed = 0
    for _ in range(kills):
        ready = context.Event()
        process = context.Process(target=drive, args=(folder, kind, trials, ready))
        process.start()
        assert ready.wait(WAIT_SECONDS)
        time.sleep(moments.uniform(0, latest))
        killed += process.is_alive()
        process.kill()
        process.join()
    return killed


def compare(folder: Path, undisturbed: Path, kind: str) -> None:
    """Check that the finished trials are the same, no trial runs or waits, and no member was trained twice."""
    open_bench = {"simulated": simulated, "real": real}[kind]
    place, other = open_bench(folder), open_bench(undisturbed)
    ledger = place.ledger()
    assert results(ledger) == results(other.ledger())
    assert {trial.state.name for trial in ledger.trials} <= {"COMPLETE", "PRUNED", "FAIL"}
    assert place.store.verify() == []
    names = {entry.digest for entry in place.store.entries("members")}
    trained = sum(trial.user_attrs.get("trained", 0) for trial in ledger.trials)
    assert trained <= len(names)
    assert names == {entry.digest for entry in other.store.entries("members")}


@pytest.mark.timeout(240)
def test_a_killed_driver_changes_nothing(tmp_path: Path) -> None:
    drive(tmp_path / "undisturbed", "simulated", MANY_TRIALS)
    folder, moments = tmp_path / "disturbed", random.Random(1)
    killed = kill_drivers(folder, "simulated", trials=MANY_TRIALS, kills=MOMENTS, latest=0.2, moments=moments)
    assert killed > MOMENTS // 2
    drive(folder, "simulated", MANY_TRIALS)
    compare(folder, tmp_path / "undisturbed", "simulated")


@pytest.mark.timeout(240)
def test_a_killed_driver_of_a_real_study_changes_nothing(tmp_path: Path) -> None:
    write_texts(tmp_path)
    drive(tmp_path / "undisturbed", "real", 5)
    folder, moments = tmp_path / "disturbed", random.Random(2)
    killed = kill_drivers(folder, "real", trials=5, kills=REAL_MOMENTS, latest=0.8, moments=moments)
    assert killed
    drive(folder, "real", 5)
    compare(folder, tmp_path / "undisturbed", "real")


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_killed_drivers_and_workers_of_ray_change_nothing(tmp_path: Path) -> None:
    """Run one trial at a time, so that all runs have the same order. In the middle of the study its folder moves."""
    drive(tmp_path / "undisturbed", "simulated", TRIALS)
    document = {"name": "test", "trainer": "simulated", "search": SEARCH, **SECTIONS}
    document["resources"] = {"concurrent_trials": 1}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    moments = random.Random(3)
    before = tmp_path / "studies"
    arguments = ["run", "space.yaml", "--trials", str(TRIALS), "--studies-dir"]
    for place, moment, latest in (("studies", "/80]", 0.3), ("moved", "starting Ray", 6)):
        if before.exists():
            before.rename(tmp_path / place)
        with start_command(tmp_path, *arguments, place) as process:
            lines_until(process, moment)
            time.sleep(moments.uniform(0, latest))
            process.kill()
    process = start_command(tmp_path, *arguments, "moved")
    lines_until(process, "/80]")
    killed = 0
    while killed < WORKERS and process.poll() is None:
        killed += kill_worker(process.pid)
        try:
            lines_until(process, "/80]")  # so that no trial loses its worker three times
        except AssertionError:
            break
    code, _, err = finish(process)
    assert code == 0, err
    assert killed
    folder = tmp_path / "moved" / "test"
    assert faults_of(folder, TRIALS) == []
    expected = results(simulated(tmp_path / "undisturbed").ledger())
    found = [(params, values) for _, params, values, _ in results_of(folder)]
    assert found == [(params, tuple(values or ())) for params, values in expected]
