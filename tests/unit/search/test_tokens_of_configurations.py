"""Studies whose configurations differ in vocabulary, length and kind of tokenizer: from the data to the export."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driven import Bench, run_without_ray

from tlm_search.committee.calibration import fit_calibration
from tlm_search.committee.candidates import candidates
from tlm_search.committee.vote import soft_vote
from tlm_search.data.prepare import read_task
from tlm_search.data.prepared import PreparedData
from tlm_search.errors import ExportError, UserError
from tlm_search.export.choose import choose
from tlm_search.export.committee import Committee
from tlm_search.export.folder import ONNX
from tlm_search.export.onnx import onnx_answers, open_session, write_onnx
from tlm_search.export.write import export_committee
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.model.architecture import Architecture
from tlm_search.report.evidence import Evidence
from tlm_search.report.pages.build import build_report
from tlm_search.report.tables.costs import costs_of
from tlm_search.report.tables.frames import provenance_table
from tlm_search.report.tables.latency import contenders_of, with_readings
from tlm_search.report.tables.tables import configuration_words
from tlm_search.search.distil import Teachers, _check_same_tokens
from tlm_search.search.trial import trial_specs
from tlm_search.space.schema import Space
from tlm_search.store.shared import open_store
from tlm_search.study.location import read_study
from tlm_search.study.record import record_of

SPACES = Path(__file__).parents[3] / "spaces"
WORDS = [f"{first}{second}{third}" for first in "bdfgk" for second in "aeiou" for third in "lmn"]
TOKENS: dict[str, Any] = {
    "tokenizer_kind": {"choices": ["wordpiece", "bytes"]},
    "vocabulary": {"choices": [80, 120]},
    "length": {"choices": [12, 40]},
}
POINTS: list[dict[str, Any]] = [
    {"tokenizer_kind": "wordpiece", "vocabulary": 80, "length": 40, "linear_member": True},
    {"tokenizer_kind": "wordpiece", "vocabulary": 120, "length": 12, "linear_member": False},
    {"tokenizer_kind": "bytes", "length": 40, "linear_member": True},
]
SHAPE = {"depth": 1, "width": 16, "head_size": 8, "feed_forward": 2}


def text(label: int, generator: np.random.Generator) -> str:
    return " ".join(generator.choice(WORDS[25 * label : 25 * label + 30], 9))


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    with (tmp_path / "task.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text(i % 3, generator), "abc"[i % 3]) for i in range(90))])
    (tmp_path / "corpus.txt").write_text("\n\n".join(text(i % 3, generator) for i in range(60)))
    return {
        "corpus": str(tmp_path / "corpus.txt"),
        "task": {"source": str(tmp_path / "task.csv"), "validation": 18, "test": 18},
    }


@pytest.fixture
def space_of(sources: dict[str, Any]) -> Callable[..., Space]:
    def make(**sections: Any) -> Space:
        search = {
            **SHAPE,
            "pretrain_size": 20,
            "pretrain_epochs": 1,
            "finetune_epochs": 2,
            "committee_size": 1,
            "linear_member": {"choices": [True, False]},
            **TOKENS,
        }
        document = {"name": "tokens", "search": search, "points": POINTS, "pruner": "none", "baseline": "none"}
        return Space.from_document({**document, **sources, "budget": {"trials": 3}, **sections})

    return make


def test_a_simulated_study_over_all_three(tmp_path: Path) -> None:
    document = Space.load(SPACES / "super_tiny.yaml").to_document()
    place = Bench(tmp_path, Space.from_document({**document, "trainer": "simulated"}))
    ledger = place.drive(16)._ledger
    ledger.note("labels", list(place.data.labels))
    ledger.note("data", json.loads(json.dumps(place.data.to_document())))
    record = record_of(ledger.study, tmp_path / "study")
    shapes = set()
    for trial in record.everything_searched:
        entry = place.store.read("members", trial.members[0])
        assert entry is not None
        shape, wanted = entry.document["spec"]["architecture"], trial.settings
        assert ("vocabulary" in wanted) is (wanted["tokenizer_kind"] == "wordpiece")
        assert (shape["vocabulary"], shape["positions"]) == (wanted.get("vocabulary", 261), wanted["length"])
        shapes.add((shape["vocabulary"], shape["positions"]))
        candidate = candidates(trial)[0]
        serving = costs_of(record, candidate)["serving_flops"]
        assert serving == Architecture(**shape).serving_flops(shape["positions"], pooling=str(wanted["pooling"]))
    assert len(shapes) > 3
    words = [configuration_words(record, trial) for trial in record.trials]
    assert any("bytes as tokens, length 256" in line for line in words), words
    frame = provenance_table(record, {})
    facts = dict(zip(frame["fact"], frame["value"], strict=True))
    assert facts["data of bytes as tokens, length 256: vocabulary"] == "261"
    assert "data vocabulary" not in facts
    assert build_report(record, Evidence(record, place.store))


def test_what_the_study_did_the_exports_do(
    tmp_path: Path, space_of: Callable[..., Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = BertTrainer(threads=1, device="cpu")
    monkeypatch.setattr(trainer, "latency_ms", lambda *of, **more: 1.0)  # measuring it is slow
    run = run_without_ray(tmp_path, monkeypatch, trainer=trainer)
    space, said = space_of(), []
    session = run(space, announce=said.append)
    assert sum(line.startswith("reading the task") for line in said) == 1
    assert sum(line.startswith("reading the corpus") for line in said) == 1
    assert sum(line.startswith("training a vocabulary") for line in said) == 2, "one of each size"
    assert any("(tokenizer kind bytes, length 12): 90 of 90 texts fill 12 tokens" in line for line in said)
    record, store = read_study(session.folder), open_store(session.folder.parent / ".store")
    task = read_task(space, store.root)
    evidence = Evidence(record, store)
    sizes = set()
    for trial in record.trials:
        votes, folder = evidence.logits_of(trial), tmp_path / f"export {trial.number}"
        assert votes is not None
        export_committee(record, store, choose(record, evidence, number=trial.number), out=folder)
        committee = Committee.load(folder)
        expected = fit_calibration(soft_vote(votes.validation), votes.validation_labels).of(soft_vote(votes.test))
        np.testing.assert_allclose(committee.probabilities(task.test.texts), expected, atol=1e-5)
        assert committee.check() < 1e-5
        assert committee.length == trial.settings["length"]
        assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == committee.length
        sizes.add(committee.tokenizer.get_vocab_size())
    assert len(sizes) == 3
    # The last committee reads bytes and has a linear model; its other forms give the same answers.
    assert [piped(folder, text) for text in task.test.texts[:3]] == pytest.approx(expected[:3].max(axis=1), abs=1e-5)
    write_onnx(committee, folder / ONNX)
    tokens = committee.tokens(task.test.texts)
    graph = onnx_answers(open_session(folder / ONNX, threads=1), tokens, labels=3, pad=committee.pad)
    np.testing.assert_allclose(graph.probabilities, expected, atol=1e-5)
    # Members that read different tokens can vote together in the report, but cannot be exported or teach.
    of_both = choose(record, evidence, members=[(0, 1), (2, 1)])
    with pytest.raises(ExportError, match="do not read the same tokens"):
        export_committee(record, store, of_both, out=tmp_path / "both")
    at = {"seed": 0, "data": PreparedData.from_document(record.data, store.root), "trainer": trainer}
    student, teachers = trial_specs(record.trials[0].settings, **at)[0], Teachers(record.trials[0], of_both.members)
    _check_same_tokens(teachers, student, store)
    with pytest.raises(UserError, match="has another tokenizer or length"):
        _check_same_tokens(replace(teachers, mixed={"how": "greedy"}), student, store)
    # Running it again trains nothing and reads nothing.
    again: list[str] = []
    assert not run(space, announce=again.append).worked
    assert not [line for line in again if line.startswith(("reading", "training", "tokenising"))]
    contenders = with_readings(contenders_of(record, store), record, store)
    lengths = {contender.trial: contender.reading.ids().shape[1] for contender in contenders}  # type: ignore[union-attr]
    assert lengths == {trial.number: trial.settings["length"] for trial in record.trials}


def piped(folder: Path, text: object) -> float:
    from transformers import pipeline

    found = pipeline("text-classification", str(folder))(text, truncation=True)
    return float(found[0]["score"])
