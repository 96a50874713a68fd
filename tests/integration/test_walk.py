"""The whole way of a new user: a CSV, init, run, best, export, predict, serve, and the Python of README and docs."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
README, EXAMPLES = (
    re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    for page in ("README.md", "docs/python.md")
)
PROGRAM = "from tlm_search.cli.main import main; main()"
TEAMS = {
    "billing": ["invoice", "refund", "payment", "card", "price", "charged"],
    "shipping": ["parcel", "courier", "address", "late", "arrived", "box"],
    "access": ["password", "login", "account", "locked", "email", "code"],
}
FILLER = ["please", "help", "my", "the", "was", "not", "today", "again", "hello", "thanks"]


def write_tickets(file):
    generator = np.random.default_rng(0)
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "body", "team"])
        for number in range(240):
            team = list(TEAMS)[number % 3]
            words = [*generator.choice(TEAMS[team], 3), *generator.choice(FILLER, 6)]
            generator.shuffle(words)
            rows.writerow([number, " ".join([*words, str(number)]), team])


def start(here, *arguments, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    ended = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, **options)
    assert ended.returncode == 0, f"{arguments}:\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_from_a_csv_to_a_server(tmp_path, call, monkeypatch):
    def here(*arguments):
        code, out, err = call(*arguments)
        assert code == 0, f"{arguments}:\n{out}\n{err}"
        return out

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tlm_search.cost.timing.MEASURING_SECONDS", 0.0)  # one of each kind
    write_tickets(tmp_path / "tickets.csv")
    said = here("init", "--task", "tickets.csv", "space.yaml")
    assert '"body"' in said
    assert '"team"' in said
    # Small: one member of one architecture, and a reference of two layers.
    small = {
        "search.depth": 1,
        "search.width": 32,
        "search.pretrain_size": 0,
        "search.committee_size": 2,
        "search.finetune_epochs": 3,
        "reference.depth": 2,
        "reference.pretrain_size": 0,
        "budget.trials": 2,
        "resources.concurrent_trials": 1,
    }
    changes = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    start(tmp_path, "run", "space.yaml", *changes)
    best = json.loads(here("best", "space", "--json"))
    assert best[0]["committee_size"] in (1, 2)
    here("export", "space", "--out", "winner")
    texts = "\n".join(["my parcel arrived late", "", "password locked please"])
    (answer, *_) = answers = json.loads(start(tmp_path, "predict", "winner", "--json", input=texts))
    assert len(answers) == 3
    assert set(answer["probabilities"]) == set(TEAMS)
    served = serve_and_ask(tmp_path, "winner", "my parcel arrived late")
    assert served["label"] == answer["label"]
    assert served["probability"] == pytest.approx(answer["probability"], abs=1e-4)
    # The examples of README and docs, on the same study, whose members are trained already.
    shutil.rmtree(tmp_path / "winner")  # they export it themselves
    (tmp_path / "space.yaml").write_text((tmp_path / "studies" / "space" / "space.yaml").read_text())
    assert EXAMPLES
    assert set(README) <= set(EXAMPLES)
    alone = "import sys\nfor example in sys.argv[1:]:\n    exec(example, {})\n    print('---', flush=True)"
    ended = subprocess.run([sys.executable, "-c", alone, *EXAMPLES], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    for said in ended.stdout.split("---\n")[:2]:
        assert any(team in said for team in TEAMS)


def serve_and_ask(here, folder, text):
    command = [sys.executable, "-c", PROGRAM, "serve", folder, "--port", "0"]
    with subprocess.Popen(command, cwd=here, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = server.stderr.readline()
            assert " at http" in line, line + server.stderr.read()
            body = json.dumps({"texts": [text]}).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{line.split(' at ')[1].split()[0]}/predict", body, headers)
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)["answers"][0]
        finally:
            server.kill()
