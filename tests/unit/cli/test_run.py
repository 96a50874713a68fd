"""What a run shows at its end, with a loop in this process in the place of Ray."""

from pathlib import Path

import pytest
import yaml
from driven import SEARCH, run_without_ray

from tlm_search.search import tune


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call):
    """Run the study up to so many trials; Ctrl-C may come while the last of them ends."""
    document = {"trainer": "simulated", "pruner": "none", "search": SEARCH}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(document))
    run_without_ray(tmp_path, monkeypatch)
    drive = tune.run_driver

    def run(trials: int, *, interrupted: bool = False) -> Path:
        monkeypatch.setattr(tune, "run_driver", lambda *given, **options: drive(*given, **options) or interrupted)
        studies = ("--studies-dir", str(tmp_path / "studies"))
        code, _, err = call("run", str(tmp_path / "space.yaml"), "--trials", str(trials), *studies)
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
