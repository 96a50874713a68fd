"""`latency` on a simulated study: what is measured, not how fast it is."""

import json
from dataclasses import replace

import builders
import numpy as np
import pytest
import torch
from driven import SEARCH, Bench, space_of
from finished import LABELS, LENGTH, finished_study

from tlm_search.cli import latency as command
from tlm_search.data.rows import Split, Task
from tlm_search.digest import digest
from tlm_search.errors import StudyError
from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import committee_answer, race, transformers_answer
from tlm_search.report.tables import latency as library
from tlm_search.search.baseline import obtain_baseline
from tlm_search.store.local import Store
from tlm_search.study.location import StudyLocation
from tlm_search.study.record import trial_of

TINY = Architecture(depth=1, heads=1, head_size=4, feed_forward=8, vocabulary=40, positions=6)


@pytest.fixture
def studies(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "SECONDS", 0.0)
    monkeypatch.setattr(command, "BATCHES", (1, 2))
    monkeypatch.setattr("tlm_search.cost.machine.available_cpus", lambda: 1)
    sections = {"reference": {"depth": 2, "heads": 4, "pretrain_size": 0}}
    tokenizer = {"vocabulary": 64, "length": 8}
    bench = Bench(tmp_path, space_of(tokenizer=tokenizer, points=[{"depth": 1, "committee_size": 4}], **sections))
    driver = bench.drive(1)
    driver._ledger.note("data", bench.data.to_document())
    driver._ledger.note("labels", list(bench.data.labels))
    StudyLocation(tmp_path / "study", None, "study").write(bench.space)
    return tmp_path


def test_all_sizes_and_the_peers_of_the_reference(call, studies):
    code, out, err = call("latency", "study", "--studies-dir", str(studies), "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [(row["texts"], row["trial"], row["members"]) for row in rows] == [
        (texts, trial, members)
        for texts in (1, 2)
        for trial, members in [(None, 1), (None, 1), (None, 1), (0, 1), (0, 2), (0, 4)]
    ]
    assert [row["form"] for row in rows[:4]] == ["one model", "transformers eager", "transformers sdpa", "one model"]
    assert rows[5]["form"] in (library.STACKED, library.ONE_BY_ONE)
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in rows)
    assert min(row["ratio"] for row in rows[:3]) == 1


@pytest.fixture
def real(tmp_path, monkeypatch):
    """A study of real, tiny members with its linear model, as the command reads it."""
    monkeypatch.setattr(command, "SECONDS", 0.0)
    monkeypatch.setattr("tlm_search.cost.machine.available_cpus", lambda: 1)
    finished = finished_study(tmp_path)
    split = Split(tuple(finished.texts), tuple(i % 3 for i in range(len(finished.texts))))
    entry = obtain_baseline(Task("made-up", LABELS, split, split, split), store=finished.store)
    linear = replace(builders.baseline(), members=(entry.digest,))
    record = replace(finished.record, baseline=linear, folder=tmp_path / "tiny")
    monkeypatch.setattr("tlm_search.study.location.find_study", lambda name, studies_dir: tmp_path / name)
    monkeypatch.setattr("tlm_search.study.location.read_study", lambda folder: record)
    return replace(finished, record=record)


def test_all_are_measured_from_text_to_label_too(call, real, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = call("latency", "tiny", "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [(row["texts"], row["trial"], row["members"]) for row in rows] == [
        (texts, *of) for texts in command.BATCHES for of in [(-3, 1), (0, 1), (0, 2), (0, 3)]
    ]
    assert rows[0]["model"] == "linear model: TF-IDF of words, C = 10"
    for row in rows:
        assert (row["text_p50_ms"] is None) is (row["texts"] > 1)
        # These are medians of a few calls of microseconds. Apart from noise, the time from text to label is the longer
        # one.
        assert row["texts"] > 1 or row["text_p50_ms"] > 0
    out = call("latency", "tiny")[1]
    assert max(map(len, out.splitlines())) <= 80
    assert "text ms: from a text to its label" in " ".join(out.split())


def test_the_text_that_is_read_has_full_length_and_gets_a_label(real):
    reading = library.reading_of(real.record, real.store)
    assert reading.ids().shape == (1, LENGTH)
    model = library.baseline_of(real.record, real.store).model
    features, label = library._linear_answers(model, reading, texts=1)
    assert features().shape == (1, 3)
    assert label() in LABELS
    assert library._from_text(lambda: torch.tensor([[0.1, 0.7, 0.2]]), reading)() == LABELS[1]
    assert library._linear_answers(model, reading, texts=2)[1] is None


def test_what_is_gone_from_the_store_is_left_out(call, real):
    real.store.remove("baselines", real.record.baseline.members[0])
    assert library.baseline_of(real.record, real.store) is None
    (real.store.root / "tokenizer" / "tokenizer.json").unlink()
    assert library.reading_of(real.record, real.store) is None
    code, out, _ = call("latency", "tiny", "--json")
    assert code == 0
    assert {row["text_p50_ms"] for row in json.loads(out)["rows"]} == {None}


def test_committees_of_hybrids_answer_with_their_linear_model(tmp_path):
    bench = Bench(
        tmp_path, space_of(points=[{"depth": 1, "committee_size": 1}], search={**SEARCH, "linear_member": True})
    )
    driver = bench.drive(1)
    trial = trial_of(driver._ledger.trials[0])
    assert trial.settings["linear_member"]
    assert library._linear_of(trial, bench.store) is None  # a simulated member has no weights
    spec = bench.store.read("members", trial.members[0]).document["spec"]
    name = digest(spec["linear"])
    bench.store.remove("linear", name)
    bench.store.write("linear", name, {"spec": spec["linear"]}, {"model": {"intercept": np.zeros(4, np.float32)}})
    assert list(library._linear_of(trial, bench.store)) == ["intercept"]
    assert library._linear_of(builders.trial(0), bench.store) is None


def test_the_table_fits(call, studies, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("latency", "study", "--studies-dir", str(studies))
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for words in ("reference:", "transformers sdpa", "p95 ms", "Ratios are to"):
        assert words in out


def test_a_study_without_a_complete_trial(call, tmp_path):
    bench = Bench(tmp_path, space_of())
    bench.ledger()
    StudyLocation(tmp_path / "study", None, "study").write(bench.space)
    code, out, err = call("latency", "study", "--studies-dir", str(tmp_path))
    assert (code, out) == (2, "")
    assert "no complete trial" in err


@pytest.mark.parametrize("pooling", ["mean", "spans"])
def test_stacked_one_by_one_and_transformers_answer_in_the_same_shape(pooling):
    forms = [
        committee_answer(TINY, members=3, labels=5, pooling=pooling, texts=2, stacked=stacked)
        for stacked in (True, False)
    ]
    forms.append(transformers_answer(TINY, labels=5, attention="sdpa", texts=2))
    assert {tuple(form().shape) for form in forms} == {(2, 5)}


def test_a_convolution_has_no_peer():
    with pytest.raises(ValueError, match="convolution"):
        transformers_answer(
            Architecture(**{**vars(TINY), "convolution_layers": 2, "channels": 4}), labels=2, attention="eager"
        )


def test_every_model_has_as_many_turns():
    calls = {"a": 0, "b": 0}

    def answer(name):
        def call():
            calls[name] += 1

        return call

    measured = race({name: answer(name) for name in calls}, seconds=0)
    assert calls == {"a": 19, "b": 19}
    assert measured["a"].p50_ms <= measured["a"].p95_ms


def test_a_study_that_is_not_there(call, tmp_path):
    code, out, err = call("latency", "nothing", "--studies-dir", str(tmp_path))
    assert (code, out) == (2, "")
    assert "no study nothing" in err


@pytest.mark.parametrize(("p95", "unsteady"), [((1.2, 1.5, 9), False), ((1.2, 5, 9), True)])
def test_a_busy_machine_is_noticed(p95, unsteady):
    rows = [library.Row(1, 1, "m", 0, "stacked", 2, 1.0, slow, None) for slow in p95]
    assert library.is_unsteady(rows) is unsteady


def test_only_what_keeps_to_the_constraints_is_measured(tmp_path):
    store = Store(tmp_path)
    trials = (builders.trial(0, heads=8, committee_size=8), builders.trial(1, heads=2, committee_size=2))

    def measured(*constraints):
        return [
            contender.trial
            for contender in library.contenders_of(builders.study(trials, constraints=constraints), store)
        ]

    assert measured() == [0, 1]
    assert measured(f"parameters <= {trials[0].metrics['parameters'] / 8 - 1}") == [1]
    with pytest.raises(StudyError, match=r"meets its constraints \(parameters <= 1\.0\)") as error:
        measured("parameters <= 1")
    assert "export --trial N" in error.value.hint
