"""What a run shows at its end, with a loop in this process in the place of Ray."""

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from driven import SEARCH, run_without_ray

from tlm_search.search.ray_tune import run as tune


class Said(NamedTuple):
    out: str
    err: str


@pytest.fixture
def said() -> list[Said]:
    """The output of each ``run``."""
    return []


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call, said: list[Said]):
    """Run the study up to ``count`` trials; Ctrl-C may come while the last of them ends."""
    document = {"trainer": "simulated", "pruner": "none", "search": SEARCH}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(document))
    run_without_ray(tmp_path, monkeypatch)
    drive = tune.run_driver

    def run(trials: int, *options: str, interrupted: bool = False) -> Path:
        monkeypatch.setattr(tune, "run_driver", lambda *given, **options: drive(*given, **options) or interrupted)
        studies = ("--studies-dir", str(tmp_path / "studies"))
        code, out, err = call("run", str(tmp_path / "space.yaml"), "--trials", str(trials), *studies, *options)
        said.append(Said(out, err))
        assert code == (130 if interrupted else 0), err
        return tmp_path / "studies" / "space" / "report.html"

    return run


def test_a_report_that_is_older_than_a_trial_is_written_again(run) -> None:
    page = run(2)
    before = page.read_text()
    assert run(3, interrupted=True).read_text() == before
    assert run(3).read_text() != before
    written = page.stat().st_mtime_ns
    assert run(3).stat().st_mtime_ns == written


def test_the_line_of_a_trial_shows_validation_and_not_test(run, said) -> None:
    run(1)
    line = next(line for line in said[-1].err.splitlines() if line.startswith("[1/1]"))
    assert "validation accuracy 0." in line
    assert "test" not in line


def test_on_a_terminal_sentences_break_between_words_and_commands_do_not(run, said, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    run(2)
    lines = said[-1].out.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("    tlm-search", "report: ", " \x1b[1m"))) <= 60
    assert any(len(line) > 60 for line in lines if line.startswith("    tlm-search"))


def test_a_run_that_stops_says_once_how_to_continue(run, said) -> None:
    run(1)
    run(9, "--time-budget", "0.001s")
    assert "continue the study" not in said[-1].out
    assert said[-1].err.count("continue with: tlm-search run") == 1
