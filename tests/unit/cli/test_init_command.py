"""`init`: what it writes loads and can be prepared; what is wrong is said, and nothing is written."""

import csv
import json
import shlex
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tlm_search.cost.machine import Machine
from tlm_search.data.prepare import prepare
from tlm_search.errors import DataError
from tlm_search.space.schema import load_space

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "small", "birds", "sing", "in"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(i, " ".join(WORDS[i % 7 : i % 7 + 8]) + f" {i}", ["it: yes", "no"][i % 2]) for i in range(60)]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "body: #1", "team {x}"), *rows])
    lines = [json.dumps({"text": text, "label": label}) for _, text, label in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    pq.write_table(
        pa.table({"text": [row[1] for row in rows], "label": [row[2] for row in rows]}), tmp_path / "r.parquet"
    )
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("\n\n".join(text for _, text, _ in rows) * 2)
    return tmp_path


@pytest.fixture(autouse=True)
def timings(monkeypatch):
    """Replace the measurement: each study takes the next seconds or error of this list, or 600 if it is empty."""
    given: list[float | Exception] = []

    def timed(space, studies_dir, say):
        seconds = given.pop(0) if given else 600.0
        if isinstance(seconds, Exception):
            raise seconds
        return SimpleNamespace(wall_seconds={"expected": seconds})

    monkeypatch.setattr("tlm_search.cli.validate.timed", timed)
    return given


def test_the_time_is_measured(call, here):
    assert "about 10 min, estimated from updates timed here." in call("init", "--task", "rows.csv", "mine.yaml")[1]
    assert "about 10 min, estimated from updates timed here." in (here / "mine.yaml").read_text()


def test_a_slow_machine_gets_a_smaller_study(call, here, timings):
    timings[:] = [10 * 3600.0, 1200.0]
    slow = call("init", "--task", "rows.csv", "slow.yaml")[1]
    usual = call("init", "--task", "rows.csv", "usual.yaml")[1]
    assert "about 20 min" in slow
    trials = [load_space(here / name).budget.trials for name in ("slow.yaml", "usual.yaml")]
    assert trials[0] < trials[1] or slow.split("width")[1] != usual.split("width")[1]


def test_steps_are_told_once_also_where_a_smaller_study_is_timed(call, here, monkeypatch):
    taken = [10 * 3600.0, 1200.0]
    folders = []

    def timed(space, studies_dir, say):
        folders.append(studies_dir)
        say("reading the task")
        say("timing")
        return SimpleNamespace(wall_seconds={"expected": taken.pop(0)})

    monkeypatch.setattr("tlm_search.cli.validate.timed", timed)
    code, _, err = call("init", "--task", "rows.csv", "mine.yaml")
    lines = ["reading the task", "timing", "this study would take about 10 h on this machine; trying a smaller one"]
    assert (code, err.splitlines()) == (0, lines)
    assert len(folders) == 2
    assert len(set(folders)) == 1, "the second has what the first prepared"


def test_what_cannot_be_measured_is_a_guess(call, here, timings):
    timings[:] = [DataError("the corpus has fewer documents than pretrain_size")]
    code, out, err = call("init", "--task", "rows.csv", "mine.yaml")
    assert code == 0
    assert "a guess." in out
    assert "not measured: the corpus has fewer documents" in err


@pytest.mark.parametrize(
    "options", ["--task rows.csv", "--task rows.jsonl --corpus texts", "--task r.parquet --corpus rows.csv"]
)
def test_what_it_writes_can_be_run(call, here, options):
    code, out, err = call("init", *options.split(), "mine.yaml")
    assert (code, err) == (0, "")
    assert '"it: yes" 30' in out
    space = load_space(here / "mine.yaml")
    assert (space.name, space.tokenizer.length) == ("mine", 16)
    prepared = prepare(space, here / ".store")
    assert prepared.labels == ("it: yes", "no")
    assert prepared.rows == {"train": 42, "validation": 9, "test": 9}
    assert prepared.account == {"available": 60, **prepared.rows, "dropped": {}}
    assert "42 train, 9 validation, 9 test of 60 rows; all are used" in out


def _table(file, rows):
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])


def _rows(start, count):
    return [(" ".join(WORDS[i % 7 : i % 7 + 8]) + f" {i}", ["yes", "no"][i % 2]) for i in range(start, start + count)]


@pytest.mark.parametrize("options", ["--task own", "--task own/train.csv --test own/test.csv"])
def test_own_files_are_used_as_they_are(call, here, options):
    (here / "own").mkdir()
    shared = _rows(0, 3)
    _table(here / "own" / "train.csv", [*_rows(0, 100), ("the same", "yes"), ("The  same", "no"), ("", "no")])
    _table(here / "own" / "test.csv", [*shared, *shared, *_rows(200, 20)])
    (here / "own" / "notes.md").write_text("of another kind")
    code, out, err = call("init", *options.split(), "mine.yaml")
    assert (code, err) == (0, "")
    said = "own: train is train.csv; test is test.csv; not read: notes.md"
    assert f"files      {said if options == '--task own' else 'train is own/train.csv; test is own/test.csv'}\n" in out
    space = load_space(here / "mine.yaml")
    assert (space.task.train, space.task.validation, space.task.test) == ("all", 0.15, None)
    assert (space.task.source, space.task.test_source) == ("own/train.csv", "own/test.csv")
    prepared = prepare(space, here / ".store")
    account = {"available": 129, "train": 82, "validation": 15, "test": 26}
    account["dropped"] = {"no_text": 1, "two_labels": 2, "held_out": 3}
    assert prepared.account == account
    assert (
        "82 train, 15 validation, 26 test of 129 rows; not used: 1 without a text, 2 with the same text under two "
        "labels, 3 that validation or test has too" in out
    )


def test_a_folder_is_read_by_the_names_of_its_files(call, here):
    (here / "own").mkdir()
    for number in (0, 1):
        _table(here / "own" / f"train-0000{number}-of-00002.csv", _rows(100 * number, 100))
    _table(here / "own" / "dev.csv", _rows(300, 8))
    _table(here / "own" / "test.csv", _rows(400, 9))
    _table(here / "mine.csv", _rows(500, 12))
    (here / "own" / "notes.md").write_text("of another kind")
    code, out, err = call("init", "--task", "own", "--test", "mine.csv", "mine.yaml")
    assert (code, err) == (0, "")
    assert (
        "files      own: train is train-00000-of-00002.csv, train-00001-of-00002.csv; validation is dev.csv; not "
        "read: notes.md, test.csv; test is mine.csv\n" in out
    )
    task = load_space(here / "mine.yaml").task
    assert (task.source, task.test_source, task.validation_source) == ("own", "mine.csv", None)
    assert (task.validation, task.test) == (None, None)
    prepared = prepare(load_space(here / "mine.yaml"), here / ".store")
    assert prepared.account == {"available": 220, "train": 200, "validation": 8, "test": 12, "dropped": {}}
    assert f"corpus     own, {prepared.documents} documents" in out


@pytest.mark.parametrize("corpus", ["rows.csv", "./rows.csv", "own"])
def test_the_documents_are_those_of_the_study(call, here, corpus):
    """If the corpus is drawn from the task, it lacks the texts of validation and test."""
    (here / "own").mkdir()
    (here / "rows.csv").rename(here / "own" / "rows.csv")
    (here / "rows.csv").symlink_to(here / "own" / "rows.csv")
    assert call("init", "--task", "own/rows.csv", "--corpus", corpus, "mine.yaml")[0] == 0
    space = load_space(here / "mine.yaml")
    assert space.largest_pretrain_size() == prepare(space, here / ".store").documents == 42


@pytest.mark.parametrize("most", [10**6, 10])
def test_what_tokens_lose_is_said_where_a_vocabulary_is_soon_trained(call, here, monkeypatch, most):
    monkeypatch.setattr("tlm_search.cli.init._MOST_CHARACTERS", most)
    rows = [(f"{text} слово", label) for text, label in _rows(0, 60)]
    _table(here / "t.csv", [*rows, (" ".join(WORDS * 4), "yes")])
    code, out, _ = call("init", "--task", "t.csv", "--corpus", "texts", "mine.yaml")
    assert code == 0
    # 56 words, one token each, and the two special tokens; or 1.4 tokens a word.
    exact = "cut        1 of 61 texts have more than 16 tokens; 72% of their tokens are not read\n"
    guess = (
        exact.replace("1 of", "about 1 of").replace("72%", "about 80%").replace("\n", " (estimated from their words)\n")
    )
    assert (exact if most > 10 else guess) in out
    assert ("warning: task t.csv: " in out) == (most > 10)
    assert ("tokens are unknown to the tokenizer; " in out) == (most > 10)


def test_other_columns_of_texts_are_named(call, here):
    rows = [(text, f"about {text}", label, "", number) for number, (text, label) in enumerate(_rows(0, 60))]
    with (here / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "subject line", "label", "answer", "id"), *rows])
    out = call("init", "--task", "t.csv", "mine.yaml")[1]
    assert 'not read   column "subject line", which has texts too\n' in out
    with (here / "t.csv").open("w", newline="") as file:
        rows = [(text, subject, label, "thank you", number) for text, subject, label, _, number in rows]
        csv.writer(file).writerows([("text", "subject line", "label", "answer", "id"), *rows])
    out = call("init", "--task", "t.csv", "more.yaml")[1]
    assert 'not read   columns "subject line", "answer", which have texts too\n' in out
    assert "not read" not in call("init", "--task", "rows.csv", "other.yaml")[1]


def test_texts_that_the_corpus_tells_nothing_about_are_refused(call, here):
    alphabet = "абвгдежз"
    words = [f"{alphabet[i % 8]}{alphabet[i // 8]}" for i in range(40)]
    _table(here / "t.csv", [(word, "yn"[number % 2]) for number, word in enumerate(words)])
    code, out, err = call("init", "--task", "t.csv", "--corpus", "texts", "mine.yaml")
    assert (code, out) == (2, "")
    assert "40 of 40 different texts have the same tokens as another" in err
    assert not (here / "mine.yaml").exists()


def test_a_validation_file_and_a_rare_label(call, here):
    _table(here / "train.csv", [*_rows(0, 100), ("one of its kind", "rare")])
    _table(here / "dev.csv", _rows(300, 8))
    code, out, _ = call("init", "--task", "train.csv", "--validation", "dev.csv", "mine.yaml")
    assert code == 0
    assert 'rare       "rare": fewer than 10 different texts' in out
    space = load_space(here / "mine.yaml")
    assert (space.task.validation_source, space.task.validation, space.task.labels) == ("dev.csv", None, None)
    prepared = prepare(space, here / ".store")
    assert prepared.rows == {"train": 86, "validation": 8, "test": 15}
    assert prepared.labels == ("no", "rare", "yes")


def test_many_rows_are_read_less_often(call, here):
    _table(here / "train.csv", _rows(0, 3000))
    assert call("init", "--task", "train.csv", "mine.yaml")[0] == 0
    search = load_space(here / "mine.yaml").search
    assert (search["finetune_epochs"], search["finetune_batch_size"]) == (10, 16)


def test_a_large_file_is_judged_on_a_bounded_number_of_rows(call, here, monkeypatch):
    for module in ("tlm_search.space.task", "tlm_search.data.splits"):
        monkeypatch.setattr(f"{module}.MOST_OF_DEFAULT_SHARE", 20)
    _table(here / "train.csv", _rows(0, 300))
    assert call("init", "--task", "train.csv", "mine.yaml")[0] == 0
    task = load_space(here / "mine.yaml").task
    assert (task.validation, task.test) == (20, 20)


def test_the_study_suits_the_machine_and_says_so(call, here, monkeypatch, timings):
    timings[:] = [900.0, 300.0]
    found = {}
    for machine in (Machine(1, 0, 2.0), Machine(32, 2, 256.0, 80.0)):
        monkeypatch.setattr("tlm_search.cost.machine.this_machine", lambda *, with_gpus, here=machine: here)
        (here / "mine.yaml").unlink(missing_ok=True)
        code, out, _ = call("init", "mine.yaml")
        assert code == 0
        sized = next(line for line in out.splitlines() if line.startswith("Sized for"))
        assert f"# {sized}" in (here / "mine.yaml").read_text()
        found[machine.cpus] = load_space(here / "mine.yaml"), sized
    (small, one), (large, other) = found.values()
    assert "1 core and 2 GB of memory" in one
    assert "32 cores, 2 GPUs and 256 GB" in other
    assert (small.resources.gpus_per_trial, large.resources.gpus_per_trial) == (0, "auto")
    assert small.budget.trials < large.budget.trials
    assert one.split("about ")[1] != other.split("about ")[1]


def test_the_built_in_data(call, here):
    assert call("init", "mine.yaml")[0] == 0
    assert load_space(here / "mine.yaml").task.source == "pydocs"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--task gone.csv new.yaml", "no such file"),
        ("--task rows.csv --text body new.yaml", "no column 'body'; its columns are: id, body: #1, team {x}"),
        ("--task rows.csv --label id new.yaml", "a task needs 2 labels"),
        ("--task rows.csv --corpus gone new.yaml", "no such file or folder"),
        ("--label x new.yaml", "need --task"),
        ("--task rows.csv rows.jsonl", "exists already"),
        ("--task rows.csv none/new.yaml", "cannot be written"),
        ("--task texts new.yaml", "there is no table in this folder"),
        ("--task rows.csv --label team new.yaml", "name existing columns with --text and --label"),
        ("--task rows.csv --test gone.csv new.yaml", "no such file"),
        ("--task rows.csv --test rows.jsonl new.yaml", "no column 'body: #1'"),
        ("--test rows.csv new.yaml", "need --task"),
    ],
)
def test_bad_input(call, here, arguments, words):
    before = {file.name: file.read_bytes() for file in here.iterdir() if file.is_file()}
    code, out, err = call("init", *shlex.split(arguments))
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert {file.name: file.read_bytes() for file in here.iterdir() if file.is_file()} == before


def test_where_a_file_has_two_columns_of_texts_a_comment_shows_how_both_are_read(call, here):
    rows = [(text, f"{i} of the {text}", f"note-{i}", label) for i, (text, label) in enumerate(_rows(0, 60))]
    with (here / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("premise", "the other: one", "code", "label"), *rows])
    assert call("init", "--task", "pairs.csv", "--text", "the other: one", "mine.yaml")[0] == 0
    written = (here / "mine.yaml").read_text()
    line = '  # text: ["premise", "the other: one"]  # reads two columns, as a pair of texts\n'
    assert f'  text: "the other: one"\n{line}' in written
    assert load_space(here / "mine.yaml").task.text == "the other: one"
    (here / "both.yaml").write_text(written.replace('  text: "the other: one"\n  # text', "  text"))
    assert load_space(here / "both.yaml").task.text == ("premise", "the other: one")
    _table(here / "single.csv", _rows(0, 60))
    assert call("init", "--task", "single.csv", "single.yaml")[0] == 0
    assert "as a pair of texts" not in (here / "single.yaml").read_text()


@pytest.mark.parametrize(
    ("shares", "metric", "positive"),
    [
        ({"it: #1": 12, "no": 200}, "f1", "it: #1"),
        ({"a": 100, "b": 80, "c": 12}, "macro_f1", None),
        ({"a": 100, "b": 40}, "accuracy", None),
    ],
)
def test_where_a_label_is_rare_a_metric_that_counts_it_is_suggested(call, here, shares, metric, positive):
    labels = [label for label, count in shares.items() for _ in range(count)]
    _table(here / "train.csv", [(text, label) for (text, _), label in zip(_rows(0, len(labels)), labels, strict=True)])
    code, out, err = call("init", "--task", "train.csv", "mine.yaml")
    assert (code, err) == (0, "")
    space = load_space(here / "mine.yaml")
    assert (space.task.metric, space.task.positive) == (metric, positive)
    assert space.objectives[0].metric == f"validation_{metric}"
    written = (here / "mine.yaml").read_text()
    why = "accuracy would hardly show whether it is found"
    assert (why in written, why in out) == ((False, False) if metric == "accuracy" else (True, True))
