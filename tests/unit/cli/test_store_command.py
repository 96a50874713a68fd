"""`store ls`, `verify` and `gc` on simulated studies with their stores."""

import json
import os
from contextlib import nullcontext

import pytest
from driven import REFERENCE, SEARCH, Bench, space_of

from tlm_search.digest import digest
from tlm_search.members.word_vectors import vectors_key
from tlm_search.store.local import Store
from tlm_search.study.driver_lock import driver_lock
from tlm_search.study.location import StudyLocation


@pytest.fixture
def bench(tmp_path):
    """A finished study, and one more member that no study refers to."""
    place = Bench(tmp_path, space_of(reference=REFERENCE))
    place.drive(3)
    StudyLocation(tmp_path / "study", None, "study").write(place.space)
    return place


def orphan(store, digest="0" * 32, *, pretrained=None):
    store.write("members", digest, {"spec": {"pretrained": pretrained}}, {})


def names(store, kind="members"):
    return set(store.sizes(kind))


def gc(call, bench, *options):
    code, out, err = call("store", "gc", "--studies-dir", str(bench.folder), *options)
    assert code == 0, err
    return out


def test_ls_says_what_each_entry_is(call, bench):
    code, out, _ = call("store", "ls", "--studies-dir", str(bench.folder))
    assert code == 0
    assert f"members: {len(names(bench.store))} entries" in out
    assert "depth 4, width 32, 4 heads, pre-trained on 1,000, 4 labels, seed" in out
    rows = json.loads(call("store", "ls", "--studies-dir", str(bench.folder), "--json")[1])["entries"]
    assert {row["digest"] for row in rows} == names(bench.store)
    assert all(row["bytes"] > 0 and row["age_seconds"] >= 0 for row in rows)


def test_ls_says_what_teachers_said(call, bench):
    teaching = {"teachers": ["a" * 32, "b" * 32], "documents": 0, "corpus": ""}
    document = {"teaching": teaching, "texts": 20_400, "labels": 4, "course": {"seconds": 1.0, "flops": 1.0}}
    bench.store.write("soft_labels", "0" * 32, document, {})
    out = call("store", "ls", "--studies-dir", str(bench.folder))[1]
    assert "answers of 2 members to 20,400 texts, 4 labels" in out
    assert "soft_labels  0 needed, 1 not" in gc(call, bench)


def test_ls_says_what_was_measured(call, bench):
    shape = {"depth": 2, "heads": 4, "head_size": 16, "convolution_layers": 0}
    key = {"architecture": shape, "objective": "finetuning"}
    documents = {
        "latency": {"key": {"architecture": shape, "members": 2}, "latency_ms": 1.456},
        "precision": {"key": key, "precision": "float32"},
        "pace": {"key": {**key, "stack": 8}, "seconds": {"update": 0.1776, "text": 0.004}},
    }
    documents["members"] = {"spec": {"architecture": shape, "seed": 7}, "precision": "float32"}
    for kind, document in documents.items():
        bench.store.write(kind, "0" * 32, document, {})
    code, out, _ = call("store", "ls", "--studies-dir", str(bench.folder))
    assert code == 0
    for words in (
        "2 members: 1.46 ms",
        "1 member: finetuning in float32",
        "8 members: finetuning takes 178 ms an update",
        "seed 7\n",
    ):
        assert f"depth 2, width 64, 4 heads, {words}" in out


def test_verify_is_0_when_all_is_whole_and_1_when_not(call, bench):
    where = ["--studies-dir", str(bench.folder)]
    code, out, _ = call("store", "verify", *where)
    assert (code, "none is damaged" in out) == (0, True)
    name = min(names(bench.store))
    (bench.store.root / "members" / name / "logits.safetensors").write_bytes(b"")
    code, out, _ = call("store", "verify", *where)
    assert code == 1
    assert name in out
    assert "--fresh" in out
    code, out, _ = call("store", "verify", "--json", *where)
    assert (code, [problem["digest"] for problem in json.loads(out)["problems"]]) == (1, [name])
    assert "damaged" in call("store", "ls", *where)[1]


def test_verify_lists_damaged_data_too(call, tmp_path, monkeypatch):
    folder = tmp_path / ".store" / "data" / "tasks" / "0a1b"
    folder.mkdir(parents=True)
    monkeypatch.setattr("tlm_search.data.damage.damaged_data", lambda root: {folder: "it was changed"})
    where = ["--studies-dir", str(tmp_path)]
    code, out, _ = call("store", "verify", *where)
    assert (code, out.splitlines()[0]) == (1, "tasks 0a1b: it was changed")
    assert "1 damaged" in out
    assert f"Remove {folder}" in out
    assert "--fresh" not in out
    code, out, _ = call("store", "verify", "--json", *where)
    assert (code, json.loads(out)["problems"]) == (
        1,
        [{"kind": "tasks", "digest": "0a1b", "reason": "it was changed"}],
    )


def test_gc_removes_what_no_study_refers_to_and_only_with_yes(call, bench):
    needed = names(bench.store)
    orphan(bench.store)
    assert "--yes" in gc(call, bench)
    assert names(bench.store) == needed | {"0" * 32}
    document = json.loads(gc(call, bench, "--json"))
    assert [entry["digest"] for entry in document["entries"]] == ["0" * 32]
    assert (document["removed"], document["kept"]["members"]) == (False, len(needed))
    assert "freed" in gc(call, bench, "--yes")
    assert names(bench.store) == needed
    assert bench.store.verify() == []


def test_gc_keeps_what_needed_members_started_from(call, bench):
    needed = [e.document["spec"]["pretrained"] for e in bench.store.entries("members")]
    wanted = {digest(spec) for spec in needed if spec}
    assert wanted
    for name in [*wanted, "f" * 32]:
        bench.store.write("pretrained", name, {}, {})
    gc(call, bench, "--yes")
    assert names(bench.store, "pretrained") == wanted


def test_gc_keeps_all_pretrained_weights_while_a_needed_member_is_damaged(call, bench):
    bench.store.write("pretrained", "f" * 32, {}, {})
    (bench.store.root / "members" / min(names(bench.store)) / "entry.json").write_text("{")
    assert "verify" in gc(call, bench, "--yes")
    assert names(bench.store, "pretrained") == {"f" * 32}


def test_gc_keeps_the_word_vectors_of_needed_members_and_ls_says_what_they_are(call, tmp_path):
    place = Bench(tmp_path, space_of(search={**SEARCH, "initial_embeddings": "cooccurrence", "pretrain_epochs": 0}))
    place.drive(3)
    StudyLocation(tmp_path / "study", None, "study").write(place.space)
    specs = [e.document["spec"]["pretrained"] for e in place.store.entries("members")]
    keys = [key for spec in specs if spec and (key := vectors_key(spec))]
    wanted = {digest(key) for key in keys}
    assert wanted
    for name in [*wanted, "f" * 32]:
        place.store.write("word_vectors", name, {"key": keys[0], "seconds": 1.0}, {})
    gc(call, place, "--yes")
    assert names(place.store, "word_vectors") == wanted
    out = call("store", "ls", "--studies-dir", str(tmp_path))[1]
    assert f"width {keys[0]['width']}, vocabulary {keys[0]['vocabulary']:,}, 1,000 documents" in out
    (place.store.root / "members" / min(names(place.store)) / "entry.json").write_text("{")
    place.store.write("word_vectors", "f" * 32, {"key": keys[0]}, {})
    gc(call, place, "--yes")
    assert names(place.store, "word_vectors") == {*wanted, "f" * 32}


def test_gc_keeps_what_hybrids_are_made_of(call, tmp_path):
    place = Bench(tmp_path, space_of(search={**SEARCH, "linear_member": True}))
    place.drive(3)
    StudyLocation(tmp_path / "study", None, "study").write(place.space)
    everything = names(place.store)
    hybrids = {e.digest for e in place.store.entries("members") if "linear" in e.document["spec"]}
    assert len(everything) == 2 * len(hybrids)
    assert len(names(place.store, "linear")) == 1
    orphan(place.store)
    place.store.write("linear", "f" * 32, {"spec": {"labels": 4}, "parameters": 5}, {})
    assert "5 parameters, 4 labels" in call("store", "ls", "--studies-dir", str(place.folder))[1]
    gc(call, place, "--yes")
    assert names(place.store) == everything
    assert len(names(place.store, "linear")) == 1
    # A damaged hybrid does not name the member that it contains.
    (place.store.root / "members" / min(hybrids) / "entry.json").write_text("{")
    orphan(place.store)
    gc(call, place, "--yes")
    assert names(place.store) == everything | {"0" * 32}


@pytest.fixture
def linked(tmp_path, call):
    """Return a function: it makes a folder of studies with a link to the store of ``bench``, and a study in it."""

    def make(bench, *, parts=False):
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        if parts:
            (theirs / ".store").mkdir()
            (theirs / ".store" / "members").symlink_to(bench.store.root / "members")
        else:
            (theirs / ".store").symlink_to(bench.store.root)
        other = Bench(theirs, space_of(seed=7))
        other.drive(2)
        StudyLocation(theirs / "study", None, "study").write(other.space)
        # a command that opens a study registers its folder
        assert call("status", "study", "--studies-dir", str(theirs))[0] == 0
        return other

    return make


@pytest.mark.parametrize("parts", [False, True])
def test_gc_asks_the_studies_that_have_a_link_to_the_store(call, bench, linked, parts):
    linked(bench, parts=parts)
    needed = names(bench.store)
    orphan(bench.store)
    assert "2 studies read" in gc(call, bench, "--yes")
    assert names(bench.store) == needed


def test_gc_through_a_link_asks_the_studies_of_the_store_itself(call, bench, linked):
    other = linked(bench)
    needed = names(bench.store)
    orphan(bench.store)
    assert str(bench.folder / "study") in json.loads(gc(call, other, "--json"))["studies"]
    assert "2 studies read" in gc(call, other, "--yes")
    assert names(bench.store) == needed


@pytest.mark.parametrize("harm", ["away", "parts", "journal", "driven"])
def test_gc_refuses_where_others_cannot_be_asked(call, bench, linked, harm):
    other = linked(bench, parts=harm == "parts")
    orphan(bench.store)
    before = names(bench.store)
    if harm == "away":
        other.folder.rename(bench.folder / "renamed")
    if harm == "journal":
        (other.folder / "study" / "journal.log").write_text("{}\n")
    where = other.folder if harm == "parts" else bench.folder
    with driver_lock(other.folder / "study") if harm == "driven" else nullcontext():
        code, out, err = call("store", "gc", "--studies-dir", str(where), "--yes")
    assert (code, out) == (2, "")
    assert "theirs" in err
    assert "Traceback" not in err
    assert names(bench.store) == before
    if harm == "away":  # the hint says what to do
        for file in (bench.store.root / "studies").iterdir():
            file.unlink()
        gc(call, bench, "--yes")


def test_gc_forgets_a_folder_that_uses_another_store_now(call, bench, linked):
    other = linked(bench)
    (other.folder / ".store").unlink()
    assert "1 study read" in gc(call, bench, "--yes")


def test_gc_removes_only_what_this_program_made(call, bench, tmp_path):
    needed = names(bench.store)
    members = bench.store.root / "members"
    # a user's folder, a damaged entry, and two of a file system
    for folder in ("backup", "0" * 32, ".snapshot", ".nfs000012"):
        (members / folder).mkdir()
        (members / folder / "file").touch()
    (members / ("1" * 32)).symlink_to(members / min(needed))
    (bench.store.root / "scratch").mkdir(exist_ok=True)
    (bench.store.root / "scratch" / "notes").mkdir()
    for path in bench.store.root.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    out = gc(call, bench, "--yes")
    assert "so they stay" in out
    assert "members/backup" in out
    assert {path.name for path in members.iterdir()} == {
        *needed, "backup", "0" * 32, "1" * 32, ".snapshot", ".nfs000012"
    }  # fmt: skip
    assert (bench.store.root / "scratch" / "notes").exists()
    unknown = json.loads(gc(call, bench, "--json"))["unknown"]
    assert {"kind": "members", "name": "backup"} in unknown


@pytest.mark.parametrize("harm", ["journal", "lost", "driven"])
def test_gc_refuses_while_it_cannot_know(call, bench, harm):
    orphan(bench.store)
    before = names(bench.store)
    study = bench.folder / "study"
    where = ["store", "gc", "--studies-dir", str(bench.folder), "--yes"]
    if harm == "driven":
        with driver_lock(study):
            code, out, err = call(*where)
    else:
        (study / "journal.log").write_text("{}\n" if harm == "journal" else "")
        code, out, err = call(*where)
    assert (code, out) == (2, "")
    assert "study" in err
    assert "Traceback" not in err
    assert names(bench.store) == before


def test_gc_warns_of_trials_that_did_not_end(call, bench):
    orphan(bench.store)
    bench.driver(8).next_job("a")
    assert "Unfinished: study" in gc(call, bench)


@pytest.mark.parametrize("command", ["ls", "verify", "gc"])
def test_no_store(call, tmp_path, command):
    code, out, err = call("store", command, "--studies-dir", str(tmp_path / "none"))
    assert (code, out) == (2, "")
    assert "no store" in err
    assert Store(tmp_path / "none" / ".store").kinds() == ()


def test_linear_baselines_are_listed_and_checked(call, bench):
    name = "0" * 32
    bench.store.write("baselines", name, {"features": "word pairs", "c": 10.0}, {"logits": {}})
    where = ["--studies-dir", str(bench.folder)]
    assert "linear model of word pairs, C = 10" in call("store", "ls", *where)[1]
    assert "baselines 0 needed, 1 not" in " ".join(gc(call, bench).split())
    (bench.store.root / "baselines" / name / "logits.safetensors").write_bytes(b"")
    code, out, _ = call("store", "verify", *where)
    assert (code, f"baselines {name}" in out) == (1, True)
