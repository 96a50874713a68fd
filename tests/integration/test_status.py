"""`status` and `dashboard` on a study that is really there."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from driven import REFERENCE, Bench, space_of

from tlm_search.study.location import StudyLocation

COMMAND = [sys.executable, "-c", "from tlm_search.cli.main import main; main()"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    place = Bench(tmp_path, space_of(reference=REFERENCE, objectives=["validation_accuracy", "parameters"]))
    place.drive(6)
    driver = place.driver(8)
    driver.next_job("a")  # the trial is still running
    StudyLocation(tmp_path / "study", None, "study").write(place.space)
    return tmp_path / "study"


def test_status(study: Path, call: Any) -> None:
    code, out, err = call("status", "study", "--studies-dir", str(study.parent), "--json")
    assert (code, err) == (0, "")
    status = json.loads(out)
    assert status["name"] == "study"
    assert status["directions"] == ["maximize", "minimize"]
    assert status["trials"] == {"complete": 6, "pruned": 0, "failed": 0, "running": 1, "waiting": 0}
    assert status["members"]["trained"] > 0
    assert status["reference"]["validation_accuracy"] > 0
    assert status["best"]["validation_accuracy"] > 0
    code, out, _ = call("status", str(study))
    assert code == 0
    assert "6 of 20 finished: 6 complete, 1 running" in out


def test_status_of_nothing(tmp_path: Path, call: Any) -> None:
    code, _, err = call("status", "nothing", "--studies-dir", str(tmp_path))
    assert code == 2
    assert "no study nothing" in err
    assert "Traceback" not in err


def test_status_needs_neither_torch_nor_ray() -> None:
    code = """
import sys
from tlm_search.study.location import StudyLocation, read_study
import tlm_search.search.ledger, tlm_search.committee.select, tlm_search.study.record
import tlm_search.report.evidence, tlm_search.store.shared
sys.exit(any(name in sys.modules for name in ("torch", "ray", "pandas", "plotly", "sklearn")))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_dashboard(study: Path) -> None:
    command = [*COMMAND, "dashboard", str(study), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            check_dashboard(process)
        finally:
            process.kill()


def check_dashboard(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    address = process.stdout.readline().split()[0]
    assert address.startswith("http://127.0.0.1:")
    studies = address.partition("/dashboard")[0] + "/api/studies"
    with urllib.request.urlopen(studies, timeout=20) as response:
        (summary,) = json.load(response)["study_summaries"]
    assert summary["study_name"] == "study"
    assert address.endswith(f"/dashboard/studies/{summary['study_id']}")
    with urllib.request.urlopen(f"{studies}/{summary['study_id']}", timeout=20) as response:
        detail = json.load(response)
    assert detail["objective_names"] == ["validation_accuracy", "parameters"]
    assert len(detail["trials"]) == 7
    assert "members:**" in detail["trials"][0]["note"]["body"]
    assert detail["trials"][0]["intermediate_values"][0]["step"] == 1
    for refused in ({"method": "DELETE"}, {"headers": {"Host": "elsewhere.example"}}):
        with pytest.raises(urllib.error.HTTPError, match="403") as caught:
            urllib.request.urlopen(urllib.request.Request(f"{studies}/{summary['study_id']}", **refused), timeout=20)
        caught.value.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_a_port_in_use_is_said_clearly(study: Path, call: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call("dashboard", str(study), "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "cannot be used" in err
    assert "--port" in err
