"""`latency` on a simulated study: what is measured, not how fast it is."""

import json

import builders
import pytest
from driven import Bench, space_of

from tlm_search.cli import latency as command
from tlm_search.errors import StudyError
from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import committee_answer, race, transformers_answer
from tlm_search.search.folder import write_folder

TINY = Architecture(depth=1, heads=1, head_size=4, feed_forward=8, vocabulary=40, positions=6)


@pytest.fixture
def studies(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "SECONDS", 0.0)
    monkeypatch.setattr(command, "BATCHES", (1, 2))
    monkeypatch.setattr("tlm_search.search.machine.available_cpus", lambda: 1)
    sections = {"reference": {"depth": 2, "heads": 4, "pretrain_size": 0}}
    tokenizer = {"vocabulary": 64, "length": 8}
    bench = Bench(tmp_path, space_of(tokenizer=tokenizer, points=[{"depth": 1, "committee_size": 4}], **sections))
    driver = bench.drive(1)
    driver._ledger.note("data", bench.data.to_document())
    driver._ledger.note("labels", list(bench.data.labels))
    write_folder(tmp_path / "study", bench.space, name="study", storage=None)
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
    assert rows[5]["form"] in (command.STACKED, command.ONE_BY_ONE)
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in rows)
    assert min(row["ratio"] for row in rows[:3]) == 1


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
    write_folder(tmp_path / "study", bench.space, name="study", storage=None)
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
    rows = [command.Row(1, 1, "m", 0, "stacked", 2, 1.0, slow, None) for slow in p95]
    assert command.is_unsteady(rows) is unsteady


def test_only_what_keeps_to_the_constraints_is_measured():
    trials = (builders.trial(0, heads=8, committee_size=8), builders.trial(1, heads=2, committee_size=2))

    def measured(*constraints):
        return [contender.trial for contender in command.contenders_of(builders.study(trials, constraints=constraints))]

    assert measured() == [0, 1]
    assert measured(f"parameters <= {trials[0].metrics['parameters'] / 8 - 1}") == [1]
    with pytest.raises(StudyError, match=r"keeps to its constraints \(parameters <= 1\.0\)") as error:
        measured("parameters <= 1")
    assert "export --trial N" in error.value.hint
