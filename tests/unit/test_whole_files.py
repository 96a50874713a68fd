"""Files and folders appear complete, locks exclude others, modes follow the umask, and one module does all of it."""

import ast
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from driven import run_without_ray, space_of
from finished import finished_study

from tlm_search.data.prepare import prepare
from tlm_search.errors import StoreError
from tlm_search.export.choose import choose
from tlm_search.export.write import export_committee
from tlm_search.files import HeldError, Lock, beside, held, new_folder, put, unwritable, write_text, writing
from tlm_search.remote.mount import CACHE_VARIABLE
from tlm_search.report.evidence import Evidence
from tlm_search.space.schema import Space
from tlm_search.training.batches import BatchSampler
from tlm_search.training.checkpoint import Checkpoint, Snapshot

PACKAGE = Path(__file__).parents[2] / "tlm_search"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as unfinished:
        (unfinished / "file").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "file").read_text() == "x"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "b") as unfinished:
        (unfinished / "file").write_text("x")
        raise RuntimeError
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "c", "half a pair: \ud800")
    assert not list(tmp_path.iterdir())


def test_the_first_writer_wins(tmp_path: Path) -> None:
    with new_folder(tmp_path / "b") as late:
        (late / "file").write_text("late")
        with new_folder(tmp_path / "b") as early:
            (early / "file").write_text("early")
    assert (tmp_path / "b" / "file").read_text() == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "file", "one")
    with beside(tmp_path / "new" / "file") as unfinished:
        unfinished.write_text("two")
        assert (tmp_path / "new" / "file").read_text() == "one"
        put(unfinished, tmp_path / "new" / "file")
    assert [path.read_text() for path in (tmp_path / "new").iterdir()] == ["two"]


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "that you can write"),
        (errno.EROFS, "that you can write"),
        (errno.ENOTDIR, "that you can write"),
        (errno.ENOLCK, "that has locks"),
    ],
)
def test_the_hint_is_for_what_happened(number: int, mend: str) -> None:
    error = unwritable(StoreError, "the store", OSError(number, os.strerror(number)), otherwise="go elsewhere")
    assert error.message == f"the store cannot be written: {os.strerror(number)}"
    assert mend in str(error.hint)
    assert str(error.hint).endswith(", or go elsewhere")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for act in (lambda place: write_text(place, "x"), lambda place: new_folder(place).__enter__(), _hold):
        with pytest.raises(StoreError, match="the place cannot be written"), writing(StoreError, "the place"):
            act(tmp_path / "file" / "c")


def _hold(place: Path) -> None:
    with held(place):
        pass


def test_a_lock_excludes_other_threads_and_other_objects(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "lock"
    waited: list[str] = []

    def wait() -> None:
        with held(file, waiting=lambda: waited.append("somebody has it")):
            waited.append("mine")

    with held(file):
        with pytest.raises(HeldError, match="lock"), held(file, wait=False):
            raise AssertionError("two hold it")
        thread = threading.Thread(target=wait)
        thread.start()
        while not waited:
            pass
        assert waited == ["somebody has it"]
    thread.join()
    assert waited == ["somebody has it", "mine"]
    lock = Lock(file)
    assert lock.acquire(wait=False)
    assert not lock.acquire(wait=False)
    lock.release()
    assert lock.acquire(wait=False)
    lock.release()


def test_a_lock_that_cannot_be_made_is_not_left_half_taken(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "none" / "lock")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            lock.acquire()


@pytest.fixture(params=[0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes_against(umask: int, folder: Path) -> dict[str, str]:
    """Return files and folders below ``folder`` whose mode does not follow the umask."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.stat().st_mode & 0o777
        if mode != (0o777 if path.is_dir() else 0o666) & ~umask:
            found[path.relative_to(folder).as_posix()] = oct(mode)
    return found


def test_what_a_study_writes_has_the_modes_of_the_umask(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, url: str
) -> None:
    """A second user of the folder's group can then continue the study: journals, databases and copies of a URL too."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    run = run_without_ray(tmp_path, monkeypatch)
    for more in (1, 2):
        budget = {"trials": more}
        run(space_of(name="journal", budget=budget))
        run(space_of(name="database", budget=budget), storage=f"sqlite:///{tmp_path}/study.db")
        run(space_of(name="there", budget=budget), studies=url)
    code, _, err = call("report", "journal", "--studies-dir", str(tmp_path / "studies"), "--format", "html,csv,tex,md")
    assert (code, err) == (0, "")
    assert modes_against(umask, tmp_path) == {}
    written = {path.name for path in tmp_path.rglob("*")}
    assert {"journal.log", "journal.log.flock", "driver.lock", "study.db", "report.html"} <= written


def test_what_training_and_exports_write_has_the_modes_of_the_umask(umask: int, tmp_path: Path) -> None:
    finished = finished_study(tmp_path)
    chosen = choose(finished.record, Evidence(finished.record, finished.store))
    export_committee(finished.record, finished.store, chosen, out=tmp_path / "export")
    sampler = BatchSampler(4, batch_size=2, epochs=1, generators=[np.random.default_rng(0)])
    weights = {"w": torch.ones(1)}
    optimiser = torch.optim.AdamW([weights["w"]])
    Checkpoint(tmp_path, key=["a"], facts={}, seconds=0, sampler=sampler).save(
        Snapshot(weights, weights, optimiser, [torch.zeros(1)])
    )
    assert modes_against(umask, tmp_path) == {}
    assert list(tmp_path.glob("checkpoint-*"))


def test_prepared_data_have_the_modes_of_the_umask(umask: int, tmp_path: Path) -> None:
    rows = "\n".join(f"{label} text number {number},{label}" for number in range(40) for label in ("red", "blue"))
    (tmp_path / "task.csv").write_text(f"text,label\n{rows}\n")
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"a document {number}" for number in range(40)))
    few = {"train_per_label": 6, "validation_per_label": 4, "test_per_label": 5}
    space = Space.from_document(
        {
            "corpus": str(tmp_path / "corpus.txt"),
            "tokenizer": {"vocabulary": 100, "length": 12},
            "task": {"source": str(tmp_path / "task.csv"), **few},
            "search": {"pretrain_size": 20},
        }
    )
    prepare(space, tmp_path / "store")
    assert modes_against(umask, tmp_path) == {}


BY_HAND = {"fcntl", "filelock", "mkstemp", "NamedTemporaryFile"}
MOVES = {  # existing files or folders move to a name that is not in use
    "study/location.py": 1,  # the old study, before a new one starts
    "study/sync.py": 1,  # the journal, before another driver's replaces it
    "store/local.py": 2,  # a damaged entry, and one that is to be removed
}


def test_nobody_else_takes_locks_or_replaces_files_by_hand() -> None:
    moves: dict[str, int] = {}
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).as_posix()
        if name == "files.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            place = f"{name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not imported & BY_HAND, f"{place}: {imported}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in BY_HAND, place
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                # str.replace has two arguments and Path.replace has one; os.replace has two.
                of_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
                assert not (node.func.attr == "replace" and (of_os or len(node.args) == 1)), place
                if node.func.attr in ("rename", "renames") and node.args:
                    moves[name] = moves.get(name, 0) + 1
    assert moves == MOVES
