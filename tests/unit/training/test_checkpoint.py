"""An interrupted training continues to the same bits as an undisturbed one; a damaged checkpoint is never used."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_texts import PRETRAINING, SHAPE, SPECIAL, TRAIN

from tlm_search.model.weights import Weights
from tlm_search.training.checkpoint import Checkpoint, saved_facts
from tlm_search.training.pretrain import pretrain

MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from tlm_search.training.batches import BatchSampler
from tlm_search.training.checkpoint import Checkpoint, Snapshot

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB

sampler = BatchSampler(4, batch_size=2, epochs=1, generators=[np.random.default_rng(0)])
checkpointer = Checkpoint(Path(sys.argv[1]), key=["a"], facts={}, seconds=0, sampler=sampler)
def save(rows):
    weight = torch.ones(1, rows, 1024)
    optimiser = torch.optim.AdamW([weight])
    optimiser.state[weight] = {"exp_avg": torch.ones_like(weight), "exp_avg_sq": torch.ones_like(weight)}
    before = peak()
    checkpointer.save(Snapshot({"w": weight}, {"w": weight}, optimiser, [torch.zeros(1)]))
    return 3 * weight.nbytes / 2**20, peak() - before
save(1)
size, taken = save(20_000)
print(size, taken)
"""


class KilledError(Exception):
    pass


def run(
    folder: Path,
    *,
    killed_after: int | None = None,
    seeds: tuple[int, ...] = (3,),
    key: str = "a",
    optimiser: str = "adamw",
) -> Weights:
    """Pre-train with a checkpoint after every update, or until the update after which the process dies."""

    class Dying(Checkpoint):
        updates = 0

        def is_due(self) -> bool:
            if self.updates == killed_after:
                raise KilledError
            self.updates += 1
            return super().is_due()

    def make_checkpointer(sampler, dropouts):
        return Dying(folder, key=[key], facts={"precision": "float32"}, seconds=0, sampler=sampler, dropouts=dropouts)

    settings = replace(PRETRAINING, optimiser=optimiser)
    weights, log = pretrain(SHAPE, settings, TRAIN, special=SPECIAL, seeds=seeds, make_checkpointer=make_checkpointer)
    return {**weights, "losses": torch.tensor(log.losses)}


def equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def undisturbed() -> Weights:
    weights, log = pretrain(SHAPE, PRETRAINING, TRAIN, special=SPECIAL, seeds=(3,))
    return {**weights, "losses": torch.tensor(log.losses)}


@pytest.mark.parametrize("updates", [1, 7, 15, 22])
def test_it_goes_on_to_the_same_bits(tmp_path: Path, undisturbed: Weights, updates: int) -> None:
    """The training has dropout; it dies in the first epoch, at its end, and in the second."""
    with pytest.raises(KilledError):
        run(tmp_path, killed_after=updates)
    assert saved_facts(tmp_path)["precision"] == "float32"
    assert len(list(tmp_path.iterdir())) == 1
    assert equal(run(tmp_path), undisturbed)


def test_writing_one_takes_no_copy_of_it_in_memory(tmp_path: Path) -> None:
    """Run it in its own process: the peak memory of earlier tests would hide it."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)
    size, taken = map(float, done.stdout.split())
    assert size > 100
    assert taken < size / 2


def test_it_may_be_interrupted_again_and_again(tmp_path: Path, undisturbed: Weights) -> None:
    for _ in range(4):
        with pytest.raises(KilledError):
            run(tmp_path, killed_after=5)
    assert equal(run(tmp_path), undisturbed)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_stack_goes_on_too(tmp_path: Path, optimiser: str) -> None:
    whole = run(tmp_path / "none", seeds=(3, 4), optimiser=optimiser)
    (tmp_path / "stack").mkdir()
    with pytest.raises(KilledError):
        run(tmp_path / "stack", seeds=(3, 4), killed_after=9, optimiser=optimiser)
    assert equal(run(tmp_path / "stack", seeds=(3, 4), optimiser=optimiser), whole)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "another training's"])
def test_what_is_not_whole_or_not_its_own_is_not_used(tmp_path: Path, undisturbed: Weights, damage: str) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, killed_after=5, key="b" if damage.startswith("another") else "a")
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[-1] ^= 1
    elif damage == "empty":
        data.clear()
    file.write_bytes(data)
    assert equal(run(tmp_path), undisturbed)


def test_a_folder_that_takes_nothing_costs_only_the_checkpoint(tmp_path: Path, undisturbed: Weights) -> None:
    file = tmp_path / "file"
    file.touch()
    assert equal(run(file / "folder"), undisturbed)
