from pathlib import Path

import builders
import pytest
from typer.testing import CliRunner

from tlm_search.cli.main import app


@pytest.mark.parametrize("trials", [[], [builders.trial(0), builders.trial(1, heads=8)]])
def test_report_writes_into_the_study_and_prints_where(monkeypatch, tmp_path, trials):
    record = builders.study(trials, folder=tmp_path / "made-up")
    monkeypatch.setattr("tlm_search.search.folder.find_study", lambda name, studies_dir: studies_dir / name)
    monkeypatch.setattr("tlm_search.search.folder.read_study", lambda folder: record)
    result = CliRunner().invoke(app, ["report", "made-up", "--studies-dir", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert Path(result.stdout.strip()) == tmp_path / "made-up" / "report.html"
    assert {file.name for file in (tmp_path / "made-up" / "tables").iterdir()} >= {"trials.csv", "frontiers.csv"}
    assert not list(tmp_path.rglob(".*"))
