import json

import pytest

SPACE = """\
corpus: {source: texts.txt}
tokenizer: {vocabulary: 64, length: 8}
task: {source: rows.jsonl, train_per_label: 2, validation_per_label: 1, test_per_label: 1}
search: {depth: 1}
reference: none
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"{'ab'[i % 2]} {'cdefgh'[i % 6]} {'ijkl'[i % 4]}", "label": "xy"[i % 2]} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "texts.txt").write_text("\n\n".join(["a b c d", "e f g h i", "j k l"] * 4))
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def test_json_and_table(call, here):
    code, out, _ = call("overlap", "space.yaml", "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["corpus"], document["task"]) == ("texts.txt", "rows.jsonl")
    last = document["curve"][-1]
    assert (last["documents"], last["types"]["1"], last["weighted"]["1"]) == (12, 1, 1)
    assert 0 < last["divergence"] < 1
    code, out, err = call("overlap", "space.yaml")
    assert (code, err) == (0, "")
    assert "Jensen-Shannon" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(("harm", "words"), [("space.yaml", "no such file"), ("texts.txt", "texts.txt")])
def test_bad_input(call, here, harm, words):
    (here / harm).unlink()
    code, out, err = call("overlap", "space.yaml")
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_copies_in_a_data_folder_and_a_changed_key(call, here, monkeypatch):
    monkeypatch.setenv("TLM_SEARCH_DATA_DIR", "")  # the option sets this variable; the test restores it
    (here / "copies").mkdir()
    (here / "texts.txt").rename(here / "copies" / "texts.txt")
    code, out, _ = call("overlap", "space.yaml", "--json", "--data-dir", "copies", "--set", "corpus.skip=5")
    assert code == 0
    assert json.loads(out)["curve"][-1]["documents"] == 7
    code, _, err = call("overlap", "space.yaml", "--data-dir", "none")
    assert code == 2
    assert "--data-dir none: there is no such folder" in err
