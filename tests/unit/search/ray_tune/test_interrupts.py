import os
import queue
import signal
from pathlib import Path

import pytest
from driven import Bench, space_of

from tlm_search.search.ray_tune.interrupts import STOPPING, Interrupts
from tlm_search.study.location import StudyLocation
from tlm_search.study.record import record_of


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_signal_asks_to_stop_and_the_second_stops_at_once() -> None:
    reasons: list[str] = []
    interrupts = Interrupts(reasons.append)
    with interrupts.heard():
        interrupt()
        assert reasons == ["the study was interrupted"]
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        assert interrupts.count == 2


def test_who_interrupts_is_told_what_is_waited_for_and_once() -> None:
    said: queue.Queue[str] = queue.Queue()
    interrupts = Interrupts(lambda reason: None, said.put)
    with interrupts.heard():
        interrupt()
        assert said.get(timeout=10) == STOPPING
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        interrupts.end()
        interrupt()
    assert said.empty()


def test_a_second_signal_waits_for_what_is_being_written() -> None:
    interrupts = Interrupts(lambda reason: None)
    written = False
    with interrupts.heard(), pytest.raises(KeyboardInterrupt):
        with interrupts.put_off():
            interrupt()
            interrupt()
            written = True
        pytest.fail("it did not stop after the write")
    assert written


def test_after_the_end_nothing_is_stopped() -> None:
    interrupts = Interrupts(lambda reason: None)
    with interrupts.heard():
        interrupts.end()
        for _ in range(3):
            interrupt()
        with interrupts.put_off():
            pass
    assert interrupts.count == 3


def test_the_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts(lambda reason: None).heard():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_two_signals_while_a_trial_is_put_back_leave_none_running(tmp_path: Path) -> None:
    """`run` does this in Ray's callbacks; the announcement comes between the two halves of the change."""
    bench = Bench(tmp_path, space_of(search={"depth": 1, "heads": 1, "head_size": 8, "committee_size": 4}))
    driver = bench.driver(trials=5)
    interrupts = Interrupts(driver.stop)

    def announce(line: str) -> None:
        interrupt()
        interrupt()

    driver._announce = announce
    with interrupts.heard(), pytest.raises(KeyboardInterrupt):
        driver.next_job("a")
        with interrupts.put_off():
            driver.on_lost("a", "its worker died")
    interrupts.end()
    driver.abandon("the study was interrupted")
    record = record_of(StudyLocation.of(tmp_path / "study").open(), tmp_path / "study")
    assert not record.in_state("running")
    assert [trial.interrupted for trial in record.trials if trial.state == "failed"] == [True]
