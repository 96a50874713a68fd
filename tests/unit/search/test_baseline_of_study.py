"""The linear baseline of a study: it is fitted once and recorded, and it never stops a study."""

import json
from dataclasses import replace

import numpy as np
import pytest
from driven import Bench, run_without_ray, space_of

from tlm_search.committee.select import select
from tlm_search.data.prepare import prepare
from tlm_search.members.baseline import KIND
from tlm_search.report.evidence import Evidence
from tlm_search.search import baseline
from tlm_search.search.baseline import note_baseline
from tlm_search.search.ledger import Ledger
from tlm_search.space.schema import Space
from tlm_search.store.local import Store
from tlm_search.study.garbage import find_garbage
from tlm_search.study.location import StudyLocation, read_study

COLOURS = ("red", "blue", "green")


@pytest.fixture
def real(tmp_path):
    """A prepared study of a real task: its ledger, data and store."""
    rows = [f'"{colour} item {i} of row {i * i}",{colour}' for i in range(30) for colour in COLOURS]
    (tmp_path / "task.csv").write_text("text,label\n" + "\n".join(rows))
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"a text about the item {i} and more" for i in range(30)))
    task = {
        "source": str(tmp_path / "task.csv"),
        "train_per_label": 8,
        "validation_per_label": 4,
        "test_per_label": 5,
    }
    space = Space.from_document(
        {
            "corpus": str(tmp_path / "corpus.txt"),
            "tokenizer": {"vocabulary": 80, "length": 12},
            "task": task,
            "search": {"committee_size": {"choices": [1, 2]}},
        }
    )
    bench = Bench(tmp_path, space)
    data = prepare(space, bench.store.root)
    ledger = bench.ledger()
    ledger.note("data", data.to_document())
    return ledger, data, bench


def record_of(folder):
    return read_study(folder)


def test_a_simulated_study_has_one_and_announces_it_once(tmp_path, monkeypatch):
    run = run_without_ray(tmp_path, monkeypatch)
    lines = []
    assert run(space_of(budget={"trials": 2}), announce=lines.append).worked
    told = [line for line in lines if "baseline" in line]
    assert len(told) == 1
    assert "test" not in told[0]
    record = record_of(tmp_path / "studies" / "test")
    assert record.baseline is not None
    assert record.baseline.metrics["validation_accuracy"] == record.baseline.frontier[0].figures["validation_accuracy"]
    assert str(round(record.baseline.metrics["validation_accuracy"], 4)) in told[0]
    lines.clear()
    assert not run(space_of(budget={"trials": 2}), announce=lines.append).worked
    assert not [line for line in lines if "baseline" in line]


def test_the_simulated_one_is_below_the_best_committees(tmp_path, monkeypatch):
    run_without_ray(tmp_path, monkeypatch)(space_of(budget={"trials": 6}))
    record = record_of(tmp_path / "studies" / "test")
    logits_of = Evidence(record, Store(tmp_path / "studies" / ".store")).logits_of
    choice = select(record.trials, None, baseline=record.baseline, logits_of=logits_of).choices[0]
    assert choice.baseline_difference.paired
    assert choice.beats_baseline


def test_baseline_none_leaves_it_out_and_continues_the_same_study(tmp_path, monkeypatch):
    run = run_without_ray(tmp_path, monkeypatch)
    run(space_of(budget={"trials": 1}, baseline="none"))
    folder = tmp_path / "studies" / "test"
    assert record_of(folder).baseline is None
    assert "baselines" not in Store(tmp_path / "studies" / ".store").kinds()
    assert run(space_of(budget={"trials": 1})).worked
    assert record_of(folder).baseline is not None
    run(space_of(budget={"trials": 1}, baseline="none"))
    assert record_of(folder).baseline is None


def test_it_is_fitted_to_the_raw_texts_and_noted(real):
    ledger, data, bench = real
    assert note_baseline(ledger, data, bench.store, None, bench.lines.append)
    noted = ledger.noted("baseline")
    assert json.loads(json.dumps(noted)) == noted
    assert noted["metrics"]["test_accuracy"] == 1
    entry = bench.store.read(KIND, noted["digest"])
    assert entry.document["parameters"] == 3 * (noted["vocabulary"] + 1)
    logits = entry.arrays("logits")
    assert {part: (array.shape, array.dtype) for part, array in logits.items()} == {
        "validation": ((12, 3), np.float32),
        "test": ((15, 3), np.float32),
    }
    labels = np.load(data.folder("test") / "labels.npy")
    assert (logits["test"].argmax(axis=1) == labels).all()
    assert any(line.startswith("fitting the linear baseline to 24 texts") for line in bench.lines)
    assert bench.store.verify() == []


def test_it_is_found_again_also_by_another_study(real, tmp_path, monkeypatch):
    ledger, data, bench = real
    note_baseline(ledger, data, bench.store, None, bench.lines.append)
    monkeypatch.setattr(baseline, "fit_baseline", lambda task, **options: pytest.fail("it is there"))
    assert not note_baseline(ledger, data, bench.store, None, bench.lines.append)
    other = Bench(tmp_path / "other", bench.space).ledger()
    other.note("data", data.to_document())
    assert note_baseline(other, data, bench.store, None, bench.lines.append)
    assert other.noted("baseline") == ledger.noted("baseline")


def test_what_is_gone_from_the_store_is_fitted_again_and_noted_as_it_was(real):
    ledger, data, bench = real
    note_baseline(ledger, data, bench.store, None, bench.lines.append)
    before = ledger.noted("baseline")
    bench.store.remove(KIND, before["digest"])
    note_baseline(ledger, data, bench.store, None, bench.lines.append)
    after = ledger.noted("baseline")
    assert {**after, "seconds": 0, "metrics": 0} == {**before, "seconds": 0, "metrics": 0}
    assert bench.store.read(KIND, before["digest"]) is not None


def test_the_task_is_handed_over_where_it_was_just_read(tmp_path, real):
    ledger, data, bench = real
    read = []
    prepare(bench.space, tmp_path / "elsewhere", on_task=read.append)
    assert len(read) == 1
    lines = []
    note_baseline(ledger, data, bench.store, read[0], lines.append)
    assert not any(line.startswith("reading the task") for line in lines)


@pytest.mark.parametrize("trouble", ["gone", "other", "texts", "memory"])
def test_a_failure_is_one_line(real, trouble, monkeypatch):
    ledger, data, bench = real
    task = None
    if trouble == "gone":
        (bench.folder / "task.csv").unlink()
    elif trouble == "other":
        data = replace(data, task_fingerprint="other")
    elif trouble == "texts":
        task = baseline.read_task(bench.space, bench.store.root)
        task = replace(task, test=replace(task.test, labels=task.test.labels[::-1][:-1]))
    else:

        def fit(task, **options):
            raise MemoryError("no room\nfor it")

        monkeypatch.setattr(baseline, "fit_baseline", fit)
    assert not note_baseline(ledger, data, bench.store, task, bench.lines.append)
    assert ledger.noted("baseline") is None
    assert bench.lines[-1].startswith("no linear baseline: ")
    assert "\n" not in bench.lines[-1]
    assert "baseline" not in "".join(bench.lines[:-1]) or trouble == "memory"


def test_ctrl_c_is_no_failure(real, monkeypatch):
    ledger, data, bench = real

    def fit(task, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(baseline, "fit_baseline", fit)
    with pytest.raises(KeyboardInterrupt):
        note_baseline(ledger, data, bench.store, None, bench.lines.append)


def test_an_old_study_opens_without_one_and_gets_one_when_run_again(tmp_path, monkeypatch):
    run = run_without_ray(tmp_path, monkeypatch)
    monkeypatch.setattr("tlm_search.search.session.note_baseline", lambda *given: False)
    run(space_of(budget={"trials": 1}))
    folder = tmp_path / "studies" / "test"
    study = StudyLocation.of(folder).open()
    document = {key: value for key, value in study.user_attrs["space"].items() if key != "baseline"}
    study.set_user_attr("space", document)
    assert record_of(folder).baseline is None
    monkeypatch.setattr("tlm_search.search.session.note_baseline", note_baseline)
    session = run(space_of(budget={"trials": 1}))
    assert (session.worked, len(record_of(folder).trials)) == (True, 1)
    assert record_of(folder).baseline is not None


def test_garbage_is_what_no_study_names(tmp_path, monkeypatch):
    run_without_ray(tmp_path, monkeypatch)(space_of(budget={"trials": 1}))
    studies = tmp_path / "studies"
    store = Store(studies / ".store")
    store.write(KIND, "0" * 32, {"features": "words", "c": 1.0}, {})
    garbage = find_garbage(studies)
    assert [(kind, name) for kind, name in garbage.entries if kind == KIND] == [(KIND, "0" * 32)]
    assert garbage.kept[KIND] == 1


def test_a_ledger_without_data_facts_is_told(real):
    _, data, bench = real
    ledger = Ledger(StudyLocation.of(bench.folder / "study").open(), bench.space)
    ledger.note("data", {**data.to_document(), "task_fingerprint": "old"})
    assert not note_baseline(ledger, data, bench.store, None, bench.lines.append)
    assert "have changed since the study began" in bench.lines[-1]
