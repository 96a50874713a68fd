"""A store at a URL, seen by several machines."""

from pathlib import Path

import numpy as np
import pytest
from machines import On, objects

from tlm_search.errors import StoreError
from tlm_search.remote.remote import Remote
from tlm_search.store.shared import SharedStore, open_store

DIGEST = "0123abcd"


def arrays(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    return {"logits": {"validation": np.random.default_rng(seed).normal(size=(5, 2)).astype(np.float32)}}


@pytest.fixture
def store(on: On):
    def store(machine: str) -> SharedStore:
        opened = open_store(on(machine) / ".store")
        assert isinstance(opened, SharedStore)
        return opened

    return store


def blob(url: str) -> str:
    (name,) = [name for name in objects(url) if name.endswith("-logits.safetensors")]
    return name


def test_an_entry_is_found_on_another_machine(store, url: str) -> None:
    written = store("a").write("members", DIGEST, {"writer": 1}, arrays())
    there = store("b")
    assert there.read("members", "ffff") is None
    read = there.read("members", DIGEST)
    assert read.document == written.document
    assert read.folder != written.folder
    np.testing.assert_array_equal(read.arrays("logits")["validation"], arrays()["logits"]["validation"])
    fresh = store("c")
    assert fresh.kinds() == ("members",)
    assert [(entry.digest, entry.document) for entry in fresh.entries("members")] == [(DIGEST, {"writer": 1})]
    assert fresh.sizes("members")[DIGEST] > written.size_bytes
    assert fresh.modified("members", DIGEST) is not None
    assert fresh.verify() == []
    assert not (fresh.root / "members").exists()  # this copied nothing


def test_the_first_finished_writer_wins_and_the_other_takes_its_entry(store, url: str) -> None:
    first, second = store("a"), store("b")
    first.write("members", DIGEST, {"writer": 1}, arrays(1))
    before = objects(url)
    entry = second.write("members", DIGEST, {"writer": 2}, arrays(2))
    assert entry.document == {"writer": 1}
    assert {name: data for name, data in objects(url).items() if name in before} == before
    for machine in "abc":
        read = store(machine).read("members", DIGEST)
        np.testing.assert_array_equal(read.arrays("logits")["validation"], arrays(1)["logits"]["validation"])
    assert store("c").verify() == []


def test_of_two_that_finish_together_one_wins(store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = store("a"), store("b")
    create = Remote.create

    def late(self: Remote, name: str, data: bytes) -> bool:
        # After writing its files, the second one is about to publish; at that moment the first one publishes.
        if name == "index.json":
            monkeypatch.setattr(Remote, "create", create)
            first.write("members", DIGEST, {"writer": 1}, arrays(1))
        return create(self, name, data)

    monkeypatch.setattr(Remote, "create", late)
    assert second.write("members", DIGEST, {"writer": 2}, arrays(2)).document == {"writer": 1}
    assert store("c").verify() == []
    leftovers = len([name for name in objects(url) if "-" in name and name.startswith(".store/members")])
    assert leftovers == 4  # the files of the second one do no harm
    assert store("c").sweep(older_than_seconds=-1) >= 2
    assert store("d").read("members", DIGEST).document == {"writer": 1}


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "index"])
def test_a_damaged_entry_counts_as_missing_and_is_replaced(store, url: str, harm: str) -> None:
    store("a").write("members", DIGEST, {"writer": 1}, arrays())
    remote, name = Remote(url), blob(url)
    data = bytearray(objects(url)[name])
    data[len(data) // 2] ^= 0x10
    if harm == "remove":
        remote.remove(name)
    elif harm == "index":
        remote.write(f".store/members/{DIGEST}/index.json", b'{"files": {}}')
    else:
        remote.write(name, bytes(data) if harm == "flip" else bytes(data[:10]))
    there = store("b")
    assert [problem.digest for problem in there.verify()] == [DIGEST]
    assert there.read("members", DIGEST) is None
    written = there.write("members", DIGEST, {"writer": 2}, arrays(2))
    assert written.document == {"writer": 2}
    assert there.verify() == []
    assert store("c").read("members", DIGEST).document == {"writer": 2}


def test_a_writer_of_the_same_bytes_mends_a_damaged_entry(store, url: str) -> None:
    store("a").write("members", DIGEST, {"writer": 1}, arrays())
    Remote(url).remove(blob(url))
    assert store("b").write("members", DIGEST, {"writer": 2}, arrays()).document == {"writer": 1}
    assert store("c").verify() == []


def test_a_damaged_copy_is_fetched_again(store) -> None:
    entry = store("a").write("members", DIGEST, {"writer": 1}, arrays())
    (entry.folder / "logits.safetensors").write_bytes(b"")
    assert store("a").read("members", DIGEST) == entry


def test_what_went_there_comes_back_from_a_copy(store, url: str) -> None:
    store("a").write("members", DIGEST, {"writer": 1}, arrays())
    Remote(url).remove(*objects(url))
    assert store("b").read("members", DIGEST) is None
    assert store("a").read("members", DIGEST) is not None
    assert store("b").read("members", DIGEST).document == {"writer": 1}


def test_a_copy_of_what_was_made_anew_meanwhile_is_replaced(store, url: str) -> None:
    store("a").write("members", DIGEST, {"writer": 1}, arrays(1))
    late = store("a")
    late.mirror.sizes("members")
    store("b").remove("members", DIGEST)
    late.mirror.sizes("members")
    store("c").write("members", DIGEST, {"writer": 3}, arrays(3))
    assert late.read("members", DIGEST).document == {"writer": 3}
    assert store("a").read("members", DIGEST).document == {"writer": 3}


def test_removing_and_sweeping(store, url: str) -> None:
    store("a").write("members", DIGEST, {}, arrays())
    with store("a").lock("members", DIGEST):
        pass
    Remote(url).write(f".store/members/ffff/{'0' * 64}-logits.safetensors", b"x")  # of an unfinished entry
    Remote(url).write(".store/members/backup/theirs.txt", b"x")
    assert store("b").kinds() == ("members",)
    assert store("b").sweep() == 0
    assert store("b").sweep(older_than_seconds=-1) == 2  # the released lock and the file of the unfinished entry
    assert store("b").read("members", DIGEST) is not None
    store("b").remove("members", DIGEST)
    assert store("c").read("members", DIGEST) is None
    assert list(objects(url)) == [".store/members/backup/theirs.txt"]


def test_a_lock_of_a_dead_machine_ends(store, on: On, hasty: None, url: str) -> None:
    Remote(url).create(f".store/locks/members-{DIGEST}/00000001", b'{"place": "dead", "holder": "dead"}')
    with store("a").lock("members", DIGEST):
        assert f".store/locks/members-{DIGEST}/00000002" in objects(url)


def test_unfinished_work_goes_on_elsewhere(store, url: str) -> None:
    here = store("a")
    scratch = here.scratch("pretrained", DIGEST)
    (scratch / "checkpoint-1").write_bytes(b"one")
    here.keep_scratch("pretrained", DIGEST)
    (scratch / "checkpoint-1").rename(scratch / "checkpoint-2")
    (scratch / ".unfinished").touch()
    here.keep_scratch("pretrained", DIGEST)
    assert [file.name for file in store("b").scratch("pretrained", DIGEST).iterdir()] == ["checkpoint-2"]
    (scratch / "checkpoint-2").rename(scratch / "checkpoint-0")  # as if it were an older checkpoint
    assert [file.name for file in here.scratch("pretrained", DIGEST).iterdir()] == ["checkpoint-2"]
    here.write("pretrained", DIGEST, {}, arrays())
    assert not [name for name in objects(url) if name.startswith(".store/scratch")]


def test_a_checkpoint_that_cannot_be_sent_costs_no_more(store, monkeypatch: pytest.MonkeyPatch) -> None:
    here = store("a")
    (here.scratch("pretrained", DIGEST) / "checkpoint").touch()

    def fail(self: Remote, file: Path, name: str) -> None:
        raise StoreError("away")

    monkeypatch.setattr(Remote, "upload", fail)
    here.keep_scratch("pretrained", DIGEST)
    with pytest.raises(StoreError, match="away"):
        here.write("members", DIGEST, {}, arrays())
    assert list((here.root / "members").iterdir()) == []


def test_a_server_that_overwrites_is_refused(store, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    store("a").check_writable()
    assert len(store("b").mirror.identity()) == 32
    assert store("a").mirror.identity() == store("b").mirror.identity()

    def create(self: Remote, name: str, data: bytes) -> bool:
        self.write(name, data)
        return True

    monkeypatch.setattr(Remote, "create", create)
    with pytest.raises(StoreError, match="overwrite") as raised:
        store("a").check_writable()
    assert "If-None-Match" in str(raised.value.hint)
    assert list(objects(url)) == [".store/identity.txt"]
