"""What a report, its tables and an export's card hide, and what a spreadsheet or a browser does not run."""

import csv
from dataclasses import replace
from pathlib import Path

import builders
import pandas as pd
import pytest

from tlm_search.errors import ExportError
from tlm_search.export.folder import new_export
from tlm_search.files import is_plain
from tlm_search.report.formatting import plain_text
from tlm_search.report.pages.compare import write_comparison
from tlm_search.report.pages.files import FORMATS, write_files
from tlm_search.report.pages.html import write_report
from tlm_search.report.privacy import source_name, without_paths
from tlm_search.space.schema import Space

HOME = "/home/jane.doe"
WRITTEN = [name for name in FORMATS if name not in ("png", "svg")]


def private_study(**data):
    """A study of files in a user's home folder, in which trials failed."""
    failed = [
        replace(
            builders.trial(number, state="failed"),
            error=f"OSError: no such file: '{HOME}/my texts/a.csv' (traceback in {HOME}/s/t/logs/x.txt)",
        )
        for number in (8, 9)
    ]
    record = builders.study([*(builders.trial(number) for number in range(4)), *failed], folder=Path(f"{HOME}/s/t"))
    document = record.space.to_document()
    document["corpus"]["source"] = f"{HOME}/corpus"
    document["task"] |= {"source": f"{HOME}/tickets.csv", "test_source": f"{HOME}/test.csv", "text": "t", "label": "l"}
    document["import_from"] = [f"{HOME}/other"]
    facts = {
        "task_name": f"{HOME}/tickets.csv",
        "corpus_name": f"{HOME}/corpus",
        "unlabelled_name": f"{HOME}/more.csv",
        "sources": {f"{HOME}/tickets.csv": "0123", f"{HOME}/corpus": "4567"},
    }
    return replace(
        record,
        data={**record.data, **facts},
        space=Space.from_document(document),
        reference=replace(builders.reference(), state="failed", error=f"OSError: {HOME}/x: full"),
    )


def test_no_file_of_a_report_names_a_folder_or_a_user(tmp_path):
    record = private_study()
    write_report(record, None, tmp_path / "one", formats=WRITTEN)
    write_comparison(
        [record, replace(record, folder=Path(f"{HOME}/u/t"))], lambda _: None, tmp_path / "two", formats=WRITTEN
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".html", ".md", ".csv", ".tex", ".json"}
    for path in files:
        text = path.read_text()
        assert "jane" not in text, f"{path.name}: {text[max(0, text.index('jane') - 200) : text.index('jane') + 50]}"
    page = (tmp_path / "one" / "report.html").read_text()
    assert "tickets.csv" in page
    assert "(traceback in x.txt)" in page


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/jane/tickets.csv", "tickets.csv"),
        ("~/texts", "texts"),
        ("../data/tickets.csv", "tickets.csv"),
        ("C/a/b", "b"),
        ("fancyzhx/ag_news", "fancyzhx/ag_news"),
        ("pydocs", "pydocs"),
        ("/", "/"),
    ],
)
def test_a_source_has_its_own_name_and_no_folder(source, name):
    assert source_name(source) == name


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("no /home/jane/a b", "no a b"),
        ("no '/home/jane d/a b.csv'", "no 'a b.csv'"),
        ("~/x/y: gone", "y: gone"),
        ("/home/jane: full", "~: full"),
        ("(in /a/b/c.txt)", "(in c.txt)"),
        ("3/4 of s3://bucket/a/b, and/or 5 ms/text", "3/4 of s3://bucket/a/b, and/or 5 ms/text"),
        ("http://127.0.0.1:80/a/b", "http://127.0.0.1:80/a/b"),
        ("", ""),
    ],
)
def test_paths_in_messages_are_cut_and_nothing_else(text, cut):
    assert without_paths(text) == cut


def test_cells_that_a_spreadsheet_would_compute_are_texts(tmp_path):
    cells = ["=1+1", "+cmd|x", "-2+3", "@sum", "\t=1", "-5", "+0.5", "1e-3", "plain", None]
    table = pd.DataFrame({"=label": cells, "gain": [-0.5] * len(cells), "rows": range(len(cells))})
    write_files({"t": table}, {}, tmp_path, formats=["csv"])
    head, *rows = csv.reader((tmp_path / "tables" / "t.csv").read_text().splitlines())
    assert head == ["'=label", "gain", "rows"]
    expected = ["'=1+1", "'+cmd|x", "'-2+3", "'@sum", "'\t=1", "-5", "+0.5", "1e-3", "plain", ""]
    assert [row[0] for row in rows] == expected
    assert {row[1] for row in rows} == {"-0.5"}
    assert table["=label"][0] == cells[0]  # the caller's own table does not change


def test_what_the_report_shows_does_not_decide_what_a_study_is():
    assert builders.space(report={"examples": 0}).identity() == builders.space().identity()


def test_labels_are_no_markdown():
    hostile = "[a](http://x) <img src=x> `b` | *c* \\ ![d](e)\n# f & g"
    escaped = plain_text(hostile)
    assert escaped == r"\[a\](http://x) &lt;img src=x> \`b\` \| \*c\* \\ !\[d\](e) # f &amp; g"


@pytest.mark.parametrize("name", ["-x", "--json", "a\nb", "a\x1b[2Jb", "a\x7f", "a\u2028b", "gpj.\u202egood", "\ud800"])
def test_names_to_trip_over_are_refused(name, tmp_path):
    assert not is_plain(name)
    with pytest.raises(ValueError, match="no control character"):
        Space.from_document({"name": name})
    if "\ud800" not in name:
        with (
            pytest.raises(ExportError, match="begins with a dash or has a control character"),
            new_export(tmp_path / name),
        ):
            pass
    assert not list(tmp_path.iterdir())


def test_a_study_of_before_with_such_a_name_still_opens():
    space = Space.from_document({"name": "--json"}, stored=True)
    assert (space.name, Space.from_document(space.to_document(), stored=True)) == ("--json", space)


@pytest.mark.parametrize("name", ["a-b", "größe", "研究", "a b", "👩‍🔬", "50%"])
def test_other_names_are_taken(name):
    assert is_plain(name)
    assert Space.from_document({"name": name}).name == name
