import io
import re
from pathlib import Path
from typing import Any

import pytest
from driven import REFERENCE, Bench, space_of
from rich.console import Console

from tlm_search.cost.remaining import Costs, Outlook
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.search import display as room
from tlm_search.search.activity import Activity
from tlm_search.search.display import Display, Lines, Steps, line, panel
from tlm_search.search.driver import Driver
from tlm_search.search.progress import Best, Progress, Running, duration


class Clock:
    """A clock that moves when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (60, "1:00 min"), (200, "3:20 min"), (7500, "2:05 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def shown(progress: Progress) -> str:
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system=None)
    console.print(panel(progress))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_panel_before_anything_ran() -> None:
    text = shown(Progress(total=20))
    assert "0/20" in text
    assert "starting Ray" in text
    assert "none yet" in text
    assert "left" not in text


def activity(job: Running, **changes: Any) -> Activity:
    facts: dict[str, Any] = {"phase": "pre-training", "members": (1, 1), "update": 812, "updates": 2813}
    facts |= {"tokens_per_second": 12_300.0, "pretrained": 0.3}
    return Activity(**{"title": job.title, "attempt": job.attempt, **facts, **changes})


def running(title: str, *, members: int = 1, began: float = 0.0, reference: bool = False) -> Running:
    return Running(title, f"attempt at {title}", {"committee_size": members}, reference, began)


def test_the_panel_of_a_run() -> None:
    clock = Clock()
    progress = Progress(
        total=20,
        finished=10,
        pruned=2,
        failed=1,
        running=1,
        trained=12,
        reused=8,
        tokens=60_000,
        best=Best(7, 0.75, {"validation_accuracy": 0.75, "test_accuracy": 0.7}),
        baseline={"validation_accuracy": 0.5, "test_accuracy": 0.49},
        reference={"validation_accuracy": 0.8, "test_accuracy": 0.78},
        started=clock() - 70,
        first_job=clock() - 60,
        now=clock,
    )
    reference, trial = running("reference", reference=True, began=940.0), running("trial 3", members=8, began=950.0)
    progress.jobs = {"a": reference, "b": trial, "c": running("trial 4", members=4)}
    helper = activity(trial, title="helper of trial 3", members=(7, 8), phase="fine-tuning", update=4, updates=19)
    ended = activity(running("trial 2"), tokens_per_second=1e9)
    progress.look([activity(reference), activity(trial, members=(1, 4), tokens_per_second=700.0), helper, ended])
    rows = [" ".join(row.split()) for row in shown(progress).splitlines()]
    text = "\n".join(rows)
    assert "10/20, 2 pruned, 1 failed, 1 running" in text
    update = "update 812 of 2,813"
    for title, words in (
        ("reference", f"pre-training, member 1 of 1, {update}"),
        ("trial 3", f"pre-training, members 1 to 4 of 8, {update}"),
        ("helper of trial 3", "fine-tuning, members 7 to 8 of 8, update 4 of 19"),
        ("trial 4", "begins, 4 members"),
    ):
        assert any(row.startswith(title) and row.endswith(words) for row in rows)
    assert "trial 2" not in text
    assert "12 trained, 8 reused, 25,300 tokens/s" in text
    assert "best trial 7: validation accuracy 0.7500; linear baseline 0.5000; reference 0.8000" in text
    assert "0.7000" not in text  # this is the accuracy on test
    assert "time 1:10 min, about" in text
    assert " left (" in text
    bars = {row.split("━")[0].strip(): row.count("━") for row in shown(progress).splitlines()}
    assert (bars["trials"], bars["reference"]) == (room._BAR // 2, room._BAR * 812 // 2813)


def test_a_worker_that_counts_words_says_so() -> None:
    clock = Clock()
    progress = Progress(total=2, now=clock)
    job = progress.jobs["a"] = running("trial 0", members=2, began=clock())
    counting = activity(job, phase="counting words", members=(1, 2), update=0, updates=0, tokens_per_second=0.0)
    clock.seconds += 20
    progress.look([counting])
    assert [words for _, words, _ in room.rows_of_jobs(progress)] == [("counting words", "members 1 to 2 of 2")]
    assert "counting words, members 1 to 2 of 2\n" in "\n".join(row.rstrip() for row in shown(progress).splitlines())
    clock.seconds += 1
    progress.look([activity(job, members=(1, 2), update=1)])
    assert job.start == 20


def test_the_time_left_of_a_run_that_goes_on_from_a_checkpoint() -> None:
    """The worker's first report says that half of its pre-training is done after one second."""
    clock = Clock()
    costs = Costs(lambda settings: 100.0, lambda settings: 0.5, 100.0, 0.5, 100.0, known=True)
    progress = Progress(total=1, running=1, now=clock, outlook=Outlook(lambda: costs))
    job = progress.jobs["a"] = running("trial 0", began=clock())
    clock.seconds += 5
    progress.look([activity(job, update=501, updates=1000, pretrained=0.001)])
    assert progress.left is not None
    assert progress.left.seconds == pytest.approx(75, rel=0.05)


def test_nothing_is_said_of_the_time_left_before_it_is_known_how_many_jobs_run_at_once() -> None:
    costs = Costs(known=True)
    for slots in (1, 0):
        progress = Progress(total=4, slots=slots, outlook=Outlook(lambda: costs))
        progress.jobs["a"] = running("trial 0", members=2)
        progress.jobs["a"].voting = 1
        assert ("left" in line(progress)) == bool(slots)


def test_nothing_is_said_of_the_time_left_while_ray_and_the_first_worker_start() -> None:
    progress = Progress(total=4, outlook=Outlook(lambda: Costs(known=True)))
    assert "starting Ray" in line(progress)
    assert "left" not in line(progress)
    job = progress.jobs["a"] = running("trial 0")
    progress.first_job = 0.0
    assert "trial 0 begins" in line(progress)
    assert "left" not in line(progress)
    progress.look([activity(job)])
    assert "left" in line(progress)
    progress.look([])
    progress.end("a", tells=True)
    assert "left" in line(progress)


def test_many_jobs_do_not_fill_the_screen() -> None:
    progress = Progress(total=100)
    progress.jobs = {str(number): running(f"trial {number}") for number in range(60)}
    assert len(shown(progress).splitlines()) < 16
    assert "and 52 more" in shown(progress)


def test_a_line_every_thirty_seconds() -> None:
    clock = Clock()
    lines = Lines(Progress(total=2, now=clock))
    due = []
    for _ in range(100):
        clock.seconds += 1
        if (text := lines.due()) is not None:
            due.append((clock() - 1000, text))
    assert [seconds for seconds, _ in due] == [5, 35, 65, 95]
    assert due[0][1] == "[5 s] trials 0/2; starting Ray; members 0 trained, 0 reused; best none yet"


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    with display.show(Progress(total=1)):
        display.announce("[1/1] trial 0: a [bracket]")
    captured = capsys.readouterr()
    assert captured.err == "[1/1] trial 0: a [bracket]\n"
    assert captured.out == ""


def test_a_terminal_has_the_panel_below_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    display = Display()
    monkeypatch.setattr(display, "_console", console)
    progress = Progress(total=3)
    with display.show(progress):
        display.announce("trial 0 is done")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.index("trial 0 is done") < text.rindex("0/3")


def test_a_step_is_told_as_it_begins_and_every_thirty_seconds() -> None:
    clock = Clock()
    steps = Steps(clock)
    assert steps.due() is None
    due = []
    for second in range(100):
        if second in (3, 20):
            assert steps.begin("reading") == (second == 3)
        if second == 40:
            assert steps.begin("timing")
        if (text := steps.due()) is not None:
            due.append((second, text))
        clock.seconds += 1
    assert due == [(33, "[33 s] reading"), (70, "[1:10 min] timing")]


def test_steps_without_a_terminal_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with Display().steps() as say:
        for step in ("reading", "timing", "reading", "timing"):
            say(step)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "reading\ntiming\n")


@pytest.mark.parametrize("keep", [True, False])
def test_a_terminal_has_one_line_for_the_step_with_a_clock(monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    display = Display()
    monkeypatch.setattr(display, "_console", console)
    with display.steps(keep=keep) as say:
        say("reading [all]")
        say("timing")
        display.announce("too slow")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "[0 s] timing" in text
    plain = [line.strip() for line in re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "\r", text).replace("\r", "\n").splitlines()]
    assert [line for line in plain if line and not line.startswith("[0 s]")] == (
        ["reading [all]", "too slow", "timing"] if keep else ["too slow"]
    )


def test_a_simulated_run_tells_all_of_it_from_the_first_job_on(tmp_path: Path) -> None:
    """A worker reports each member; each report moves the clock by ten seconds."""
    clock = Clock()
    place = Bench(
        tmp_path, space_of(reference={**REFERENCE, "committee_size": 1}, search={"depth": 1, "committee_size": 4})
    )
    driver = Driver(place.ledger(), trials=2, announce=place.lines.append, now=clock)
    seen: list[str] = []

    class Told(SimulatedTrainer):
        def train(self, specs: Any, **where: Any) -> Any:
            for spec in specs:
                clock.seconds += 10
                jobs = list(driver.progress.jobs.values())
                member = 1 + spec.seed
                driver.look([activity(jobs[-1], members=(member, member), update=1, updates=2)] if jobs else [])
                seen.append(line(driver.progress))
            return super().train(specs, **where)

    place.trainer = Told()
    place.run(driver)
    assert "reference pre-training, member 1 of 1, update 1 of 2" in seen[0]
    assert "best none yet; the reference is in training" in seen[0]
    assert "trial 0 pre-training, member 2 of 4, update 1 of 2" in seen[2]
    assert " left (" in seen[2]
    assert "; reference 0." in seen[2]
    assert "best none yet" in seen[2]
    assert driver.progress.left is not None
    assert driver.progress.left.seconds == 0
    assert all(", test" not in text for text in [*seen, *place.lines])


def test_the_rows_of_a_line_are_those_of_the_panel() -> None:
    progress = Progress(total=1)
    progress.jobs = {"a": running("trial 0", members=2)}
    assert [words for _, words, _ in room.rows_of_jobs(progress)] == [("begins, 2 members",)]
    progress.jobs["a"].voting = 1
    assert "1 of 2 members vote" in line(progress)
