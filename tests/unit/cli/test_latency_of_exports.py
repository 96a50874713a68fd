"""``latency DIR``: every form of both exports is measured in the same conditions; no test of how fast."""

import json

import pytest
from finished import finished_study

from tlm_search.cli import latency as command
from tlm_search.export.choose import choose
from tlm_search.export.write import export_committee
from tlm_search.report.evidence import Evidence


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(command, "SECONDS_OF_EXPORTS", 0.0)
    monkeypatch.setattr(command, "BATCHES", (1, 2))
    monkeypatch.setattr("tlm_search.cost.machine.available_cpus", lambda: 1)


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    root = tmp_path_factory.mktemp("exports")
    finished = finished_study(root / "studies")
    for name, options in {"deep": {"size": 1}, "winner": {"size": 3}}.items():
        chosen = choose(finished.record, Evidence(finished.record, finished.store), number=0, **options)
        export_committee(finished.record, finished.store, chosen, out=root / name, int8=name == "winner")
    return root


def test_every_form_of_both_is_in_one_table(call, exports, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    both = ("latency", str(exports / "winner"), "--reference", str(exports / "deep"))
    code, out, _ = call(*both, "--json")
    rows = json.loads(out)["rows"]
    forms = [("deep", "torch", 1)]
    forms += [("winner", form, 3) for form in ("torch", "onnxruntime", "onnxruntime int8")]
    assert [(row["model"], row["form"], row["members"]) for row in rows] == forms * 2
    assert [row["texts"] for row in rows] == [1] * 4 + [2] * 4
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in rows)
    assert [row["ratio"] for row in rows if row["model"] == "deep"] == [1, 1]
    code, out, _ = call(*both)
    assert code == 0
    assert max(map(len, out.splitlines()[:-2])) <= 80
    assert "Ratios are to the fastest form of deep" in " ".join(out.split())


def test_an_export_alone_has_no_ratio_and_a_study_takes_no_reference(call, exports):
    code, out, _ = call("latency", str(exports / "deep"))
    assert code == 0
    assert "export with --onnx" in out
    code, _, err = call("latency", "study", "--reference", str(exports / "deep"))
    assert (code, "a study has its own reference" in err) == (2, True)
    code, _, err = call("latency", str(exports / "deep"), "--reference", str(exports))
    assert (code, "not an exported committee" in err) == (2, True)
