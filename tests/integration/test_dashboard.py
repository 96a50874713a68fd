"""Optuna Dashboard on a study while it grows, looked at in a real browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import OpenPage
from driven import REFERENCE, run_without_ray, space_of

SPACE: dict[str, Any] = {
    "objectives": ["validation_accuracy", "latency_ms"],
    "constraints": ["parameters <= 1e6"],
    "reference": REFERENCE,
}


@contextmanager
def served(studies: Path, name: str) -> Iterator[str]:
    command = [sys.executable, "-c", "from tlm_search.cli.main import main; main()", "dashboard", name, "--port", "0"]
    with subprocess.Popen(
        [*command, "--studies-dir", str(studies)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()
            _, problems = process.communicate()
            assert problems == ""


@pytest.mark.timeout(300)
def test_the_dashboard_of_a_study_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_page: OpenPage
) -> None:
    run = run_without_ray(tmp_path, monkeypatch)
    run(space_of(**SPACE, budget={"trials": 3}))
    with served(tmp_path / "studies", "test") as address:
        opened = open_page(address, height=1600)
        page = opened.page
        page.get_by_text("validation_accuracy").first.wait_for()
        page.get_by_text("latency_ms").first.wait_for()
        page.get_by_text("report.html").first.wait_for()
        page.get_by_text("committee size").first.wait_for()  # the axis of the frontier
        with page.context.expect_page() as report:
            page.evaluate("id => window.open(id)", _report_address(page, address))
        report.value.get_by_text("Which committee").or_(report.value.locator("h1")).first.wait_for()

        page.screenshot(path=tmp_path / "dashboard.png", full_page=True)

        run(space_of(**SPACE, budget={"trials": 5}))
        page.goto(f"{address}/trials")
        page.get_by_text("Trial 4", exact=True).first.wait_for()
        page.get_by_text("members:").first.wait_for()  # the note on a trial
        assert page.get_by_text("Cost of all members:").first.is_visible()
        assert page.get_by_role("cell", name="pretrain_size").first.is_visible()
        page.screenshot(path=tmp_path / "trial.png", full_page=True)
        assert opened.problems == []
        assert opened.requests_outside == []


def _report_address(page: Any, address: str) -> str:
    study = address.rpartition("/")[2]
    found = page.evaluate(f"fetch('/api/studies/{study}').then(r => r.json()).then(s => s.artifacts[0].artifact_id)")
    return f"/artifacts/{study}/{found}"
