import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tlm_search.errors import StoreError
from tlm_search.files import HeldError
from tlm_search.store.local import Store

DIGEST = "0123abcd"
DOCUMENT = {"metrics": {"accuracy": 0.5}, "seconds": 4.0, "labels": ["a", "b"]}


def logits(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return {
        "logits": {"validation": random.normal(size=(5, 2)).astype(np.float32)},
        "model": {"weight": random.normal(size=(3, 4)).astype(np.float32).T},
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_an_entry_is_read_as_it_was_written(store: Store) -> None:
    written = store.write("members", DIGEST, DOCUMENT, logits())
    read = store.read("members", DIGEST)
    assert read == written
    assert read is not None
    assert read.document == DOCUMENT
    assert isinstance(read.document["seconds"], float)
    for stem, tensors in logits().items():
        for name, array in tensors.items():
            np.testing.assert_array_equal(read.arrays(stem)[name], array)
    assert read.size_bytes > 0


def test_a_number_and_a_transposed_array_keep_their_shapes(store: Store) -> None:
    arrays = {"number": np.array(7), "turned": np.arange(6).reshape(2, 3).T}
    read = store.write("members", "a" * 32, {}, {"some": arrays}).arrays("some")
    assert {name: array.shape for name, array in read.items()} == {"number": (), "turned": (3, 2)}
    assert all((read[name] == array).all() for name, array in arrays.items())


def test_nothing_is_created_by_reading(store: Store) -> None:
    assert store.read("members", DIGEST) is None
    assert list(store.entries("members")) == []
    assert store.verify() == []
    assert store.kinds() == ()
    assert not store.root.exists()


def test_the_first_writer_wins(store: Store) -> None:
    store.write("members", DIGEST, {"writer": 1}, logits(1))
    second = store.write("members", DIGEST, {"writer": 2}, logits(2))
    assert second.document == {"writer": 1}
    np.testing.assert_array_equal(second.arrays("logits")["validation"], logits(1)["logits"]["validation"])
    assert [f.name for f in (store.root / "members").iterdir()] == [DIGEST]


@pytest.mark.parametrize("name", ["entry.json", "logits.safetensors", "model.safetensors"])
@pytest.mark.parametrize("harm", ["truncate", "empty", "flip", "remove"])
def test_a_damaged_entry_is_missing_and_can_be_written_again(store: Store, name: str, harm: str) -> None:
    file = store.write("members", DIGEST, DOCUMENT, logits()).folder / name
    data = bytearray(file.read_bytes())
    if harm == "remove":
        file.unlink()
    elif harm == "flip":
        data[len(data) // 2] ^= 0x10
        file.write_bytes(data)
    else:
        file.write_bytes(data[: len(data) // 2] if harm == "truncate" else b"")

    assert [problem.digest for problem in store.verify()] == [DIGEST]
    assert store.read("members", DIGEST) is None
    assert len(list((store.root / "damaged").iterdir())) == 1
    assert store.verify() == []
    store.write("members", DIGEST, DOCUMENT, logits())
    assert store.read("members", DIGEST) is not None


def test_a_writer_replaces_a_damaged_entry(store: Store) -> None:
    entry = store.write("members", DIGEST, {"writer": 1}, logits())
    (entry.folder / "logits.safetensors").write_bytes(b"")
    assert store.write("members", DIGEST, {"writer": 2}, logits()).document == {"writer": 2}


def test_every_flipped_bit_of_the_index_is_noticed(store: Store) -> None:
    file = store.write("members", DIGEST, DOCUMENT, logits()).folder / "entry.json"
    whole = file.read_bytes()
    meaning = json.loads(whole)
    for position in range(0, len(whole) - 1, 7):
        data = bytearray(whole)
        data[position] ^= 0x01
        file.write_bytes(data)
        try:
            same = json.loads(data) == meaning
        except ValueError:
            same = False
        assert bool(store.verify()) is not same, position


def test_an_entry_in_the_wrong_place_is_damaged(store: Store) -> None:
    entry = store.write("members", DIGEST, DOCUMENT, logits())
    entry.folder.rename(entry.folder.with_name("ffff"))
    assert store.read("members", "ffff") is None


def test_not_a_number_is_refused_before_anything_is_written(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.write("members", DIGEST, {"loss": float("nan")}, logits())
    assert not store.root.exists()


def test_names_cannot_leave_the_store(store: Store) -> None:
    with pytest.raises(StoreError, match="not a name in the store"):
        store.read("members", "../x")


def test_entries_and_kinds(store: Store) -> None:
    for digest in ("bb", "aa"):
        store.write("members", digest, {"name": digest}, logits())
    store.write("pretrained", "cc", {}, logits())
    (store.root / "data" / "tokens").mkdir(parents=True)
    (store.root / "members" / ".aa.unfinished").mkdir()
    assert store.kinds() == ("members", "pretrained")
    assert [entry.digest for entry in store.entries("members")] == ["aa", "bb"]


def test_removing(store: Store) -> None:
    store.write("members", DIGEST, DOCUMENT, logits())
    store.remove("members", DIGEST)
    store.remove("members", DIGEST)
    assert store.read("members", DIGEST) is None
    assert list((store.root / "members").iterdir()) == []


def test_sweeping_removes_only_what_is_old(store: Store) -> None:
    store.write("members", DIGEST, DOCUMENT, logits())
    (store.root / "members" / f".{DIGEST}.0123456789ab.tmp").mkdir()
    store.scratch("members", "ffffffff")
    assert store.sweep() == 0
    assert store.sweep(older_than_seconds=-1) == 2
    assert store.read("members", DIGEST) is not None


def test_scratch_goes_with_the_writing(store: Store) -> None:
    scratch = store.scratch("members", DIGEST)
    (scratch / "checkpoint").touch()
    assert store.scratch("members", DIGEST) == scratch
    store.write("members", DIGEST, DOCUMENT, logits())
    assert not scratch.exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_leaves_nothing_behind(store: Store, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    store.write("members", "aa", DOCUMENT, logits())
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=os.strerror(code)) as raised:
        store.write("members", DIGEST, DOCUMENT, logits())
    assert raised.value.hint is not None
    assert [f.name for f in (store.root / "members").iterdir()] == ["aa"]


def test_a_root_that_is_a_file_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "store")
    for act in (
        store.check_writable,
        lambda: store.scratch("members", DIGEST),
        lambda: store.write("members", DIGEST, {}, {}),
        lambda: store.lock("members", DIGEST).__enter__(),
    ):
        with pytest.raises(StoreError, match="cannot be written"):
            act()


def test_a_store_keeps_the_name_that_it_got_from_its_first_driver(store: Store, tmp_path: Path) -> None:
    assert store.identity() is None
    store.write("members", DIGEST, DOCUMENT, logits())
    assert store.identity() is None  # stores of earlier versions have none
    store.check_writable()
    name = store.identity()
    assert name
    store.check_writable()
    moved = Store(store.root.rename(tmp_path / "moved"))
    assert moved.identity() == name
    assert moved.kinds() == ("members",)
    store.check_writable()
    assert store.identity() not in (name, None)


def _write(root: Path, number: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    entry = Store(root).write("members", DIGEST, {"writer": number}, logits(number))
    same = entry.arrays("logits")["validation"] == logits(int(entry.document["writer"]))["logits"]["validation"]
    sys.exit(0 if same.all() else 1)


def test_ten_processes_write_one_entry(store: Store) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    barrier = context.Barrier(10)
    processes = [context.Process(target=_write, args=(store.root, number, barrier)) for number in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 10
    assert store.verify() == []
    assert [f.name for f in (store.root / "members").iterdir()] == [DIGEST]


def test_a_lock_dies_with_its_process(store: Store) -> None:
    hold = f"""
import time
from pathlib import Path
from tlm_search.store.local import Store
with Store(Path({str(store.root)!r})).lock("members", "{DIGEST}"):
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    with process:
        process.wait()
    started = time.monotonic()
    with store.lock("members", DIGEST):
        pass
    assert time.monotonic() - started < 30  # the holder would have slept for 60


def test_who_need_not_have_a_lock_does_not_wait_for_it(store: Store) -> None:
    with store.lock("members", DIGEST):
        with pytest.raises(HeldError), store.lock("members", DIGEST, wait=False):
            raise AssertionError("two hold it")
        with store.lock("members", "0" * len(DIGEST), wait=False):
            pass
    with store.lock("members", DIGEST, wait=False), pytest.raises(HeldError):
        store.lock("members", DIGEST, wait=False).__enter__()


def test_the_store_needs_no_torch() -> None:
    code = "import sys, tlm_search.store.local; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
