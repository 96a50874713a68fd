"""The whole way of a new user: the example from a CSV to a server, and the Python of README and docs on its study."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README, DOCS = (
    re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    for page in ("README.md", "docs/python.md")
)
TEAMS = ("billing", "shipping", "access")
PROGRAM = f"""#!{sys.executable}
import sys
from tlm_search.cli.main import main
if sys.argv[1] == "init":
    from tlm_search.cost import timing
    timing.MEASURING_SECONDS = 0.0  # one update of each kind
if sys.argv[1] == "run":  # each worker takes seconds to import what it needs
    sys.argv += ["--set", "resources.concurrent_trials=1"]
main()
"""


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_from_a_csv_to_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs, own = tmp_path / "programs", tmp_path / "own"
    programs.mkdir()
    (programs / "tlm-search").write_text(PROGRAM)
    (programs / "tlm-search").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    def ran(*command: str) -> str:
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{command}:\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    said = ran("sh", str(ROOT / "examples" / "own_data.sh"), "own")
    assert '"body"' in said
    assert '"team"' in said
    (answer,) = json.loads(said.splitlines()[-1])["answers"]
    assert answer["label"] == "shipping"
    assert set(answer["probabilities"]) == set(TEAMS)
    assert f"shipping\t{answer['probability']:.4f}\t" in said  # the same as `predict` printed

    # Run the Python of README and docs on the same study, whose members are already trained.
    shutil.rmtree(own / "winner")
    shutil.copy(own / "studies" / "space" / "space.yaml", own / "space.yaml")
    assert set(README) <= set(DOCS)
    monkeypatch.chdir(own)
    for example in DOCS[:2]:
        exec(example, {})
        shown = capsys.readouterr().out
        assert any(team in shown for team in TEAMS)
    for example in DOCS[2:]:
        exec(example, {})
