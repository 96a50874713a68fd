"""What all tests share."""

import pytest

pytest_plugins = ["browser", "machines", "servers"]  # they start Chromium and databases only where a test asks for them


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """One thread: two threads that share one free core wait for each other a hundred times longer than they work."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command line in this process: ``call("status", "x")`` returns exit code, standard output and error."""
    from tlm_search.cli import main as command_line

    def invoke(*arguments):
        monkeypatch.setattr("sys.argv", ["tlm-search", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return invoke
