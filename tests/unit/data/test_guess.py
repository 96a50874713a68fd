import pytest

from tlm_search.data.rows import Labelled
from tlm_search.data.sources.guess import (
    columns_of,
    guess_task,
    label_columns,
    label_counts,
    length_of,
    pretrain_sizes,
    text_column,
    vocabulary_of,
)
from tlm_search.errors import DataError


def test_the_longest_strings_are_the_text():
    assert text_column({"id": [1, 2], "title": ["a", "b"], "body": ["long text", None]}, "x") == "body"
    with pytest.raises(DataError, match="no column holds texts; its columns are: id"):
        text_column({"id": [1, 2]}, "x")


def test_the_label_is_the_column_of_that_name_then_that_with_the_fewest_values():
    columns = {"id": list(range(24)), "two": [0, 1] * 12, "same": ["x"] * 24, "three": list("abc") * 8}
    assert label_columns(columns, "x") == ["two", "three"]
    assert label_columns({**columns, "Category": list("abcd") * 6}, "x")[0] == "Category"
    with pytest.raises(DataError, match="no column looks like labels"):
        label_columns({"id": list(range(24))}, "x")
    with pytest.raises(DataError, match="no column looks like labels"):
        label_columns({"tags": [["a"], ["b"]] * 10}, "x")


def test_a_column_with_gaps_comes_after_one_without():
    rows = [(["a", "b", "c"][i % 3], [1, None, 2, None][i % 4]) for i in range(40)]
    columns = {"stars": [star for _, star in rows], "team": [team for team, _ in rows]}
    assert label_columns(columns, "x") == ["team", "stars"]


def test_all_labels_are_kept_and_two_need_different_texts():
    texts = [f"a{i}" for i in range(12)] + [f"b{i}" for i in range(10)] + ["c"] * 9
    data = Labelled(texts, ["a"] * 12 + ["b"] * 10 + ["c"] * 9)
    assert label_counts(data, "x") == {"a": 12, "b": 10, "c": 1}
    with pytest.raises(DataError, match="2 labels with 10 different texts each, but a has 12, b has 9"):
        label_counts(Labelled(texts[:21], data.labels[:21]), "x")


def test_a_label_with_few_texts_is_called_rare(tmp_path):
    file = tmp_path / "t.csv"
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(40)] + ["one more,c", "and another,c", ",a", "no label,"]
    file.write_text("text,label\n" + "\n".join(rows) + "\n")
    guess = guess_task(file, tmp_path)
    assert (guess.counts, guess.rare) == ({"a": 20, "b": 20, "c": 2}, ("c",))


def test_a_folder_has_the_columns_that_all_its_training_files_have(tmp_path):
    tmp_path = tmp_path / "of tables.json"
    tmp_path.mkdir()
    first, second = ([(f"text {i}", "ab"[i % 2]) for i in numbers] for numbers in (range(20), range(20, 30)))
    (tmp_path / "train-1.csv").write_text("text,label,id\n" + "".join(f"{text},{label},7\n" for text, label in first))
    (tmp_path / "train-2.csv").write_text("label,text\n" + "".join(f"{label},{text}\n" for text, label in second))
    (tmp_path / "test.csv").write_text("text,label\nof test,c\n")
    assert set(columns_of(tmp_path, labelled=True)) == {"text", "label"}
    assert guess_task(tmp_path, tmp_path / "cache").counts == {"a": 15, "b": 15}
    for file in tmp_path.glob("train*"):
        file.unlink()
    with pytest.raises(DataError, match="there is no split 'train'"):
        columns_of(tmp_path, labelled=True)


@pytest.mark.parametrize(("words", "tokens"), [(1, 16), (11, 16), (12, 32), (80, 112), (92, 128), (5000, 128)])
def test_length_is_from_the_words(words, tokens):
    # 90 of 100 texts have this many words; the longest ten do not count
    assert length_of([" ".join(["w"] * words)] * 90 + ["w " * 9000] * 10) == tokens


def test_vocabulary_and_pretrain_sizes():
    assert vocabulary_of(["one"]) == 256
    assert vocabulary_of([str(i) for i in range(3000)]) == 1024
    assert vocabulary_of([str(i) for i in range(30_000)]) == 8192
    assert vocabulary_of([str(i) for i in range(150_000)]) == 32_768
    assert pretrain_sizes(1, most=1000) == [0, 1]
    assert pretrain_sizes(257, most=1000) == [0, 83, 250]
    assert pretrain_sizes(1_000_000, most=18_000) == [0, 6000, 18_000]


def test_fewrel_has_no_columns(tmp_path):
    file = tmp_path / "few.json"
    row = '{"tokens": ["t%d"], "h": ["a", "x", [[0]]], "t": ["b", "y", [[0]]]}'
    rows = {name: ", ".join(row % (i + offset) for i in range(10)) for name, offset in (("P1", 0), ("P2", 100))}
    file.write_text("{" + ", ".join(f'"{name}": [{text}]' for name, text in rows.items()) + "}")
    guess = guess_task(file, tmp_path)
    assert (guess.text, guess.label, guess.counts) == (None, None, {"P1": 10, "P2": 10})


def test_a_column_with_a_usual_name_is_the_text_though_another_is_longer():
    assert text_column({"id": ["a-long-identifier"] * 2, "Text": ["short", None]}, "x") == "Text"
    assert text_column({"text": ["ab"], "content": ["abc"]}, "x") == "content"


def test_an_ideograph_is_a_word():
    assert length_of(["\u4e2d" * 40]) == 64
    assert vocabulary_of(["".join(map(chr, range(0x4E00, 0x4E00 + 3000)))]) == 1024
