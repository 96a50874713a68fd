import io
import time

import pytest
from rich.console import Console

from tlm_search.cli.display import Display, duration, panel
from tlm_search.search.progress import Best, Progress


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (60, "1:00 min"), (200, "3:20 min"), (7500, "2:05 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def shown(progress: Progress) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(panel(progress))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_panel_before_anything_ran() -> None:
    text = shown(Progress(total=20))
    assert "0/20" in text
    assert "none yet" in text
    assert "left" not in text


def test_the_panel_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {"validation_accuracy": 0.75, "test_accuracy": 0.7}
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = Progress(
        total=20,
        finished=10,
        finished_before=5,
        pruned=2,
        failed=1,
        running=2,
        trained=12,
        reused=8,
        tokens=60_000,
        best=Best(7, 0.75, metrics),
        reference={"validation_accuracy": 0.8, "test_accuracy": 0.78},
        started=now - 70,
        first_job=now - 60,
    )
    text = " ".join(shown(progress).split())
    assert "10/20, 2 pruned, 1 failed, 2 running" in text
    assert "1:10 min, about 2:00 min left" in text
    assert "12 trained, 8 reused" in text
    assert "tokens/s" in text
    assert "trial 7: validation 0.7500, test 0.7000; reference: validation 0.8000, test 0.7800" in text


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    with display.show(Progress(total=1)):
        display.announce("[1/1] trial 0: a [bracket]")
    captured = capsys.readouterr()
    assert captured.err == "[1/1] trial 0: a [bracket]\n"
    assert captured.out == ""
