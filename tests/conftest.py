"""What all tests share."""

import gc
import os
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["browser", "machines", "servers"]  # they start Chromium and databases only where a test asks for them

# Temporary folders lie in memory where there is room: nothing in them has to outlive a power cut, and a study waits for
# the disk at each of its writes.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# One thread in each process, also in those that tests start: several test workers share the processors, and threads
# that wait for each other take time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time, so that a change is blamed only for what it broke. No time limit per example, since the
# first one imports. To look for new failures: `pytest tests/property --hypothesis-profile default`.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

# A job that a shell starts in the background ignores Ctrl-C, and so would all that these tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Take what was imported out of the garbage collector's rounds: none of it goes."""
    gc.collect()
    gc.freeze()


def _use_one_torch_thread() -> None:
    """Two threads that share one free core wait for each other a hundred times longer than they work."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread_for_fixtures() -> None:
    """One thread: what a module's fixtures compute is compared bit by bit with what its tests do."""
    _use_one_torch_thread()


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """One thread, also where a test before has set another number."""
    _use_one_torch_thread()


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command line in this process: ``call("status", "x")`` returns exit code, standard output and error."""
    from tlm_search.cli import main as command_line

    heard = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def invoke(*arguments):
        monkeypatch.setattr("sys.argv", ["tlm-search", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    yield invoke
    for number, handler in heard.items():  # a command that was interrupted hears no more
        signal.signal(number, handler)


@pytest.fixture
def go_on(call, tmp_path, monkeypatch):
    """Run a command line as ``call`` does, with simulated members and without Ray, where a study merely goes on."""
    from driven import run_without_ray

    def invoke(*arguments):
        with monkeypatch.context() as patched:
            run_without_ray(tmp_path, patched)
            return call(*arguments)

    return invoke
