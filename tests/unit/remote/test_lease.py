import json
import threading
import time

import pytest

from tlm_search.files import HeldError
from tlm_search.remote.lease import Lease, Timing
from tlm_search.remote.remote import Remote

QUICK = Timing(lease=0.3, renew=0.02, look=0.01)
SLOW = Timing(lease=60, renew=0.02, look=0.01)


@pytest.fixture
def remote(url: str) -> Remote:
    return Remote(url)


def lease(remote: Remote, place: str, timing: Timing = QUICK) -> Lease:
    return Lease(remote, "a-lock", place=place, timing=timing)


def test_a_released_lease_is_free_at_once(remote: Remote) -> None:
    for place in ("a", "b", "a"):
        taken = lease(remote, place, SLOW)
        taken.acquire(wait=False)
        with taken.kept():
            pass
    assert list(remote.list()) == ["a-lock/00000003"]


def test_who_does_not_wait_is_told_who_has_it_after_a_sign_of_life(remote: Remote) -> None:
    holder = lease(remote, "a", SLOW)
    holder.acquire(wait=False)
    told: list[str] = []
    with holder.kept(), pytest.raises(HeldError, match="process") as raised:
        lease(remote, "b", SLOW).acquire(wait=False, waiting=told.append)
    assert told == [str(raised.value)]


def test_who_wants_it_now_or_not_at_all_waits_for_nothing(remote: Remote) -> None:
    patient = Timing(lease=600, renew=0.02, look=600)
    holder = lease(remote, "a", patient)
    holder.acquire_now()
    with holder.kept(), pytest.raises(HeldError, match="process"):
        lease(remote, "b", patient).acquire_now()
    lease(remote, "b", patient).acquire_now()  # the first one released it
    with pytest.raises(HeldError):
        lease(remote, "a", patient).acquire_now()  # the holder may be dead, which takes time to find out
    lease(remote, "b", patient).acquire_now()  # the holder is a dead process of the same place


def test_a_dead_holder_is_succeeded_after_the_time_of_the_lease(remote: Remote) -> None:
    lease(remote, "a").acquire(wait=False)  # this holder never renews it
    started = time.monotonic()
    lease(remote, "b").acquire(wait=True)
    assert time.monotonic() - started >= QUICK.lease
    assert json.loads(remote.read("a-lock/00000002") or b"")["place"] == "b"


def test_what_a_dead_process_left_in_the_same_place_is_taken_at_once(remote: Remote) -> None:
    lease(remote, "a", SLOW).acquire(wait=False)
    lease(remote, "a", SLOW).acquire(wait=False)
    assert "a-lock/00000002" in remote.list()


def test_a_living_holder_is_waited_for(remote: Remote) -> None:
    holder, got = lease(remote, "a"), threading.Event()
    holder.acquire(wait=False)

    def wait() -> None:
        lease(remote, "b").acquire(wait=True)
        got.set()

    thread = threading.Thread(target=wait)
    with holder.kept():
        thread.start()
        assert not got.wait(3 * QUICK.lease)
    thread.join()
    assert got.is_set()


def test_of_many_who_wait_one_gets_it(remote: Remote) -> None:
    lease(remote, "dead").acquire(wait=False)
    inside, most = [], []

    def work(place: str) -> None:
        mine = lease(remote, place)
        mine.acquire(wait=True)
        with mine.kept():
            inside.append(place)
            most.append(len(inside))
            time.sleep(0.02)
            inside.remove(place)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_a_holder_learns_that_it_lost_the_lease_and_leaves_it_alone(remote: Remote) -> None:
    holder, lost = lease(remote, "a"), threading.Event()
    holder.acquire(wait=False)
    with holder.kept(lost.set):
        assert remote.create("a-lock/00000002", b'{"place": "b", "holder": "another"}')
        assert lost.wait(30)
    assert remote.read("a-lock/00000002") == b'{"place": "b", "holder": "another"}'
    assert "released" not in json.loads(remote.read("a-lock/00000001") or b"{}")


@pytest.mark.parametrize("content", [b"", b"[", b"[]"])
def test_an_unreadable_lease_runs_out_too(remote: Remote, content: bytes) -> None:
    remote.write("a-lock/00000007", content)
    lease(remote, "a").acquire(wait=True)
    assert "a-lock/00000008" in remote.list()
