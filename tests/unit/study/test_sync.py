"""Studies at a URL, seen by several machines, without Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven import Bench, run_without_ray, space_of
from machines import On, objects

from tlm_search.api import Study
from tlm_search.errors import StoreError, StudyError
from tlm_search.remote.lease import Lease
from tlm_search.remote.mount import mount
from tlm_search.remote.remote import Remote
from tlm_search.search import session
from tlm_search.store.shared import open_store
from tlm_search.study.driver_lock import driver_lock
from tlm_search.study.garbage import find_garbage, remove_garbage
from tlm_search.study.location import find_study, read_study
from tlm_search.study.storages import open_storage
from tlm_search.study.sync import Sender, StudyCopy

Run = Callable[..., session.Session]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: On, url: str) -> Run:
    """``run("a", 3)`` runs the study on a machine up to this many trials."""
    driven = run_without_ray(tmp_path, monkeypatch)

    def run(machine: str, trials: int, **options: Any) -> session.Session:
        on(machine)
        seed = options.pop("seed", 0)
        return driven(space_of(budget={"trials": trials}, seed=seed), studies=url, **options)

    return run


def finished(url: str, name: str = "test") -> dict[int, Any]:
    trials = read_study(find_study(name, url)).trials
    return {trial.number: trial.values for trial in trials if not trial.interrupted and trial.state == "complete"}


def test_a_study_goes_on_on_another_machine_and_back(run: Run, on: On, url: str) -> None:
    run("a", 3)
    on("b")
    first = finished(url)
    assert len(first) == 3
    assert find_study(f"{url}/test", "studies") == find_study("test", url)
    run("b", 5)
    on("a")
    second = finished(url)
    assert len(second) == 5
    assert second.items() >= first.items()
    session = run("a", 6)
    assert session.driver.progress.finished == 6
    on("c")
    record = read_study(find_study("test", url))
    assert len(record.trials) == 6
    members = {digest for trial in record.trials for digest in trial.members}
    assert sum(trial.trained for trial in record.trials) == len(members)  # no member was trained twice
    assert open_store(on("c") / ".store").verify() == []
    assert not run("c", 6).worked
    assert len(Study.open("test", studies_dir=url).record.trials) == 6
    names = [name for name in objects(url) if name.startswith("test/")]
    assert {"test/study.json", "test/space.yaml"} <= set(names)
    assert not [name for name in names if "driver" in name or ".lock" in name or "journal.log" in name]


def test_a_study_that_is_not_there_is_said_with_the_nearest(run: Run, on: On, url: str) -> None:
    run("a", 1)
    on("b")
    with pytest.raises(StudyError, match=f"no study tets under {url}; did you mean test"):
        find_study("tets", url)
    assert not (on("b") / "tets").exists()


def test_what_a_killed_driver_had_not_sent_goes_up_with_the_next_run(
    run: Run, on: On, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("a", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Sender, "send_journal", lambda self: None)
        run("a", 4)
    on("b")
    assert len(finished(url)) == 2
    on("a")
    assert len(finished(url)) == 4
    run("a", 5)
    on("b")
    assert len(finished(url)) == 5


def test_a_past_that_was_never_sent_gives_way(run: Run, on: On, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("a", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Sender, "send_journal", lambda self: None)
        run("a", 4)
    run("b", 6)
    there = finished(url)
    run("a", 6)
    assert finished(url) == there
    assert len(list((on("a") / "test").glob("journal.log.*.aside"))) == 1


def test_a_second_driver_is_refused(run: Run, on: On, url: str, hasty: None) -> None:
    run("a", 1)
    with driver_lock(on("a") / "test"):
        with pytest.raises(StudyError, match=r"is being run by process \d+ on"):
            run("b", 2)
        with pytest.raises(StudyError, match=r"is being run by process \d+ on"):
            run("a", 2)
    run("b", 2)


def test_a_dead_driver_of_another_machine_is_succeeded(run: Run, on: On, url: str, hasty: None) -> None:
    run("a", 1)
    on("a")
    Lease(Remote(url).below(".store/locks"), "driver-test", place="dead").acquire(wait=False)
    run("b", 2)
    assert len(finished(url)) == 2


def test_a_driver_that_was_superseded_cannot_append(run: Run, on: On, url: str) -> None:
    run("a", 1)
    sender = Sender(on("a") / "test", Remote(f"{url}/test"))
    run("b", 2)
    there = finished(url)
    with (on("a") / "test" / "journal.log").open("a") as journal:
        journal.write("{}\n")
    with pytest.raises(StudyError, match="another driver has taken over"):
        sender.send_journal()
    on("c")
    assert finished(url) == there


def test_a_driver_that_lost_its_lease_is_stopped(
    run: Run, on: On, url: str, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    run("a", 1)
    stopped, told = threading.Event(), []
    monkeypatch.setattr("os.kill", lambda pid, number: stopped.set())
    with driver_lock(on("a") / "test", told.append):
        assert Remote(url).create(".store/locks/driver-test/99999999", b"{}")
        assert stopped.wait(30)
    assert "another driver runs the study test now" in told[0]


def test_the_copy_of_a_living_driver_is_left_alone(run: Run, on: On, url: str) -> None:
    run("a", 2)
    folder = on("a") / "test"
    with driver_lock(folder):
        with (folder / "journal.log").open("a") as journal:
            journal.write('{"of": "the driver"}\n')
        ahead = (folder / "journal.log").read_bytes()
        Remote(url).write("test/journal/9", b"")
        StudyCopy(folder).pull()
        assert (folder / "journal.log").read_bytes() == ahead


def test_fresh_moves_the_old_study_aside(run: Run, on: On, url: str) -> None:
    run("a", 3)
    run("b", 2, fresh=True, seed=1)
    run("a", 1, fresh=True, seed=2)
    on("c")
    assert [len(finished(url, name)) for name in ("test", "test.1", "test.2")] == [1, 3, 2]
    on("a")
    assert [len(finished(url, name)) for name in ("test", "test.1", "test.2")] == [1, 3, 2]


def test_a_begun_study_without_facts_is_put_aside(run: Run, on: On, url: str) -> None:
    Remote(url).write("test/journal/0000000000000000", b"half\n")
    run("a", 1)
    on("b")
    assert len(finished(url)) == 1
    assert [name for name in objects(url) if name.startswith(".aside/test-")]


def test_another_space_is_refused(run: Run) -> None:
    run("a", 1)
    with pytest.raises(StudyError, match="another space"):
        run("b", 1, seed=1)


def test_garbage_is_what_no_study_there_needs(run: Run, on: On, url: str) -> None:
    import numpy as np

    run("a", 2)
    store = open_store(on("a") / ".store")
    needed = store.sizes("members")
    store.write("members", "ffff", {"spec": {"pretrained": None}}, {"logits": {"x": np.zeros(1)}})
    assert set(find_garbage(on("b")).entries) == {("members", "ffff")}
    garbage, _ = remove_garbage(on("b"))
    assert garbage.studies == ("test",)
    assert open_store(on("c") / ".store").sizes("members") == needed
    assert len(finished(url)) == 2


def test_a_remote_that_goes_away_ends_the_run_in_words(
    run: Run, on: On, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("a", 1)

    def fail(self: Remote, name: str, data: bytes) -> bool:
        raise StoreError("memory:// cannot be written: no route")

    with monkeypatch.context() as patch:
        patch.setattr("tlm_search.study.sync.Sender.send_journal", lambda self: fail(Remote(url), "", b""))
        with pytest.raises(StoreError, match="no route"):
            run("a", 3)
    run("a", 3)
    on("b")
    assert len(finished(url)) == 3


def test_a_folder_that_is_no_copy_sends_nothing(tmp_path: Path) -> None:
    Bench(tmp_path, space_of()).drive(1)
    Sender(tmp_path / "study", None).send()
    StudyCopy(tmp_path / "study").pull()
    open_storage(tmp_path / "study")
    with pytest.raises(StoreError):
        mount("nosuch://host/x")
