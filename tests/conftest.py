"""What all tests share."""

import gc
import os
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest

# they start Chromium and databases only for tests that ask for them
pytest_plugins = ["browser", "machines", "servers"]

# Temporary folders are in memory if there is space: no file has to survive a power cut, and a study waits for the disk
# at each write.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# One thread in each process, also in processes that tests start. Several test workers share the processors, and threads
# that wait for each other cost time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time, so that a change fails only for what it broke. There is no time limit per example,
# because the first one imports. To look for new failures: `pytest tests/property --hypothesis-profile default`.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

# A job that a shell starts in the background ignores Ctrl-C. The processes that these tests start and interrupt would
# inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Exempt all imported objects from garbage collection: none of them is freed."""
    gc.collect()
    gc.freeze()


def _use_one_torch_thread() -> None:
    """Two threads that share one free core would wait for each other a hundred times longer than they work."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread_for_fixtures() -> None:
    """Use one thread: tests compare their results bit by bit with those of a module's fixtures."""
    _use_one_torch_thread()


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Use one thread, even if an earlier test has set another number."""
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
    for number, handler in heard.items():  # an interrupted command has replaced these handlers
        signal.signal(number, handler)


@pytest.fixture
def go_on(call, tmp_path, monkeypatch):
    """Run a command line as ``call`` does, with simulated members and without Ray."""
    from driven import run_without_ray

    def invoke(*arguments):
        with monkeypatch.context() as patched:
            run_without_ray(tmp_path, patched)
            return call(*arguments)

    return invoke
