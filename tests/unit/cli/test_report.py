from pathlib import Path

import builders
import pandas as pd
import pytest
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.errors import UserError


@pytest.mark.parametrize("trials", [[], [builders.trial(0), builders.trial(1, heads=8)]])
def test_report_writes_into_the_study_and_prints_where(monkeypatch, tmp_path, trials):
    record = builders.study(trials, folder=tmp_path / "made-up")
    monkeypatch.setattr("tlm_search.study.location.find_study", lambda name, studies_dir: Path(studies_dir) / name)
    monkeypatch.setattr("tlm_search.study.location.read_study", lambda folder: record)
    result = CliRunner().invoke(app, ["report", "made-up", "--studies-dir", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert Path(result.stdout.strip()) == tmp_path / "made-up" / "report.html"
    assert {file.name for file in (tmp_path / "made-up" / "tables").iterdir()} >= {"trials.csv", "frontiers.csv"}
    assert not list(tmp_path.rglob(".*"))


@pytest.fixture
def two(monkeypatch, tmp_path):
    """Two made-up studies that the command reads; returns a function that runs it."""
    running = [builders.trial(0), builders.trial(1, state="running")]
    records = {
        "first": builders.study(folder=tmp_path / "first", name="first", reference_trial=builders.reference()),
        "second": builders.study(running, folder=tmp_path / "second", name="second", seed=7),
    }
    monkeypatch.setattr("tlm_search.study.location.find_study", lambda name, studies_dir: Path(studies_dir) / name)
    monkeypatch.setattr("tlm_search.study.location.read_study", lambda folder: records[folder.name])

    def run(*arguments):
        return CliRunner().invoke(app, ["report", *arguments, "--studies-dir", str(tmp_path)], catch_exceptions=False)

    return run


def test_only_the_formats_that_are_asked_for_are_written(two, tmp_path):
    result = two("first", "--format", "csv,md", "--out", str(tmp_path / "out"))
    assert Path(result.stdout.strip()) == tmp_path / "out"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"tables", "report.md"}
    assert {file.suffix for file in (tmp_path / "out" / "tables").iterdir()} == {".csv"}
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith("# first\n")
    assert "| Test accuracy |" in text
    assert "```bibtex\n@article{tiny-language-models," in text


def test_a_wrong_format_ends_with_2_and_says_what_is_allowed(two, tmp_path):
    with pytest.raises(UserError, match="pdf is not a format"):
        two("first", "--format", "pdf")
    assert not (tmp_path / "first").exists()


def test_a_study_that_runs_is_reported_and_says_so(two, tmp_path):
    assert two("second").exit_code == 0
    assert "1 trial is still running" in (tmp_path / "second" / "report.html").read_text()


def test_several_studies_stand_side_by_side(two, tmp_path):
    result = two("first", "second", "first")
    page = Path(result.stdout.strip())
    assert page == tmp_path / "first" / "beside-second" / "report.html"
    text = page.read_text()
    for words in ("first and second", "first: best committee", "second: best committee", "How the studies differ"):
        assert words in text
    assert "second: The study is not finished" in text
    joined = pd.read_csv(page.parent / "tables" / "frontiers.csv")
    assert set(joined["study"]) == {"first", "second"}
