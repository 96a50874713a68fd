import math
from pathlib import Path

import pytest

from tlm_search.errors import SpaceError
from tlm_search.space.document import parse, read_document


def data(text):
    return parse(text, place="x.yaml").data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5e-5", 5e-5),
        ("1.5E+2", 150),
        ("1e3", 1000),
        (".5", 0.5),
        ("16_000", 16_000),
        ("-3", -3),
        ("2.5", 2.5),
        ("-.inf", -math.inf),
        ("true", True),
        ("null", None),
        ("~", None),
        ("no", "no"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("30m", "30m"),
        ("'1e3'", "1e3"),
        ("20231101.en", "20231101.en"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    assert data(text) == value
    assert type(data(text)) is type(value)


def test_line_of_keys_items_and_what_is_missing():
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - d: 2\n", place="x.yaml")
    assert document.line(()) == 1
    assert document.line(("a",)) == 1
    assert document.line(("a", "b")) == 2
    assert document.line(("a", "c", 1)) == 5
    assert document.line(("a", "c", 1, "d")) == 5
    assert document.line(("a", "c", 7, "d")) == 3
    assert document.line(("a", "nothing", "here")) == 1


def test_anchors_are_followed():
    assert data("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}


def test_duplicate_keys_are_problems_with_both_lines():
    document = parse("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", place="x.yaml")
    assert [(problem.path, problem.line) for problem in document.problems] == [(("b", "c"), 4), (("a",), 5)]
    assert "line 3 has it already" in document.problems[0].message
    assert document.data == {"a": 1, "b": {"c": 1}}


@pytest.mark.parametrize(("text", "shown"), [("1: x", "1"), ("true: x", "true"), ("? [a]\n: x", "a list or mapping")])
def test_keys_that_are_no_text_are_problems(text, shown):
    (problem,) = parse(text, place="x.yaml").problems
    assert problem.message == f"given the key {shown}; allowed: keys that are text"


def test_a_value_that_its_tag_does_not_fit_is_a_problem():
    (problem,) = parse("a: !!int abc", place="x.yaml").problems
    assert problem.path == ("a",)
    assert "given tag:yaml.org,2002:int 'abc'" in problem.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\nb: 3", "x.yaml:2: not valid YAML at column 2"),
        ("a:\n\tb: 1", "x.yaml:2: not valid YAML at column 1: while scanning for the next token"),
        ("a: b: c", "x.yaml:1: not valid YAML at column 5: mapping values are not allowed here"),
        ("a: *x", "x.yaml:1: not valid YAML at column 4: found undefined alias 'x'"),
        ("a: 1\n---\nb: 2", "x.yaml:2: not valid YAML at column 1: expected a single document in the stream"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: 1\nb: \x01", "x.yaml:2: not valid YAML: character '\\x01' is not allowed"),
        ("a: &x [*x]", "an anchor refers to itself"),
        ("[" * 1000, "nested too deeply"),
    ],
)
def test_what_is_no_yaml(text, message):
    with pytest.raises(SpaceError) as caught:
        parse(text, place="x.yaml")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_tabs_are_explained():
    with pytest.raises(SpaceError, match="indent with spaces, not tabs"):
        parse("a:\n\tb: 1", place="x.yaml")


def test_files_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "here.yaml").write_text("search: {}")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "list.yaml").write_text("\n- a\n")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe4\n")
    messages = {}
    for name in ("missing.yaml", "empty.yaml", "list.yaml", "latin.yaml", "."):
        with pytest.raises(SpaceError) as caught:
            read_document(tmp_path / name)
        messages[name] = str(caught.value)
    assert messages["missing.yaml"].startswith(f"{tmp_path / 'missing.yaml'}: there is no such file\n")
    assert "here.yaml" in messages["missing.yaml"]
    assert "the file is empty" in messages["empty.yaml"]
    assert messages["list.yaml"].startswith(f"{tmp_path / 'list.yaml'}:2: given ['a']; allowed: a mapping")
    assert "latin.yaml:2: byte 0xe4 is not UTF-8" in messages["latin.yaml"]
    assert "this is a folder; allowed: a YAML file" in messages["."]


def test_a_file_under_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(SpaceError, match="give the path of a space file"):
        read_document(tmp_path / "no" / "such.yaml")


def test_a_byte_order_mark_is_no_content(tmp_path: Path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(tmp_path / "bom.yaml").data == {"a": 1}
