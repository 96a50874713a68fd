import importlib.util
import shutil

import pandas as pd
import plotly.graph_objects as go
import pytest

from tlm_search.errors import UserError
from tlm_search.report.figures.style import finish
from tlm_search.report.pages import files

TABLE = pd.DataFrame({"label_name": ["50% & more_of {it}\\", None], "share": [0.123456, float("nan")], "rows": [3, 4]})


def test_formats_are_read_and_unknown_ones_refused():
    assert files.read_formats("html, CSV,html") == ("html", "csv")
    with pytest.raises(UserError, match="pdf is not a format") as refused:
        files.read_formats("html,pdf")
    assert "html, csv, tex, md, png, svg" in str(refused.value.hint)
    with pytest.raises(UserError, match="no format is given"):
        files.read_formats(" ,")


def test_latex_escapes_what_latex_reads():
    text = files.latex(TABLE)
    assert "label name & share & rows \\\\" in text
    assert r"50\% \& more\_of \{it\}\textbackslash{} & 0.1235 & 3 \\" in text
    assert r"-- & -- & 4 \\" in text
    assert text.startswith("\\begin{tabular}{lrr}\n\\toprule\n")
    long = files.latex(pd.DataFrame({"x": range(files.MAX_TEX_ROWS + 1)}))
    assert f"the first {files.MAX_TEX_ROWS} of {files.MAX_TEX_ROWS + 1} rows" in long


def test_a_row_that_begins_with_a_bracket_or_a_star_is_no_option_of_the_line_before():
    lines = files.latex(pd.DataFrame({"text": ["[CLS] a", "*b"], "rows": [1, 2]})).splitlines()
    assert lines[4:6] == [r"{[}CLS] a & 1 \\", r"{*}b & 2 \\"]


def test_only_what_is_asked_for_is_written(tmp_path):
    files.write_files({"t": TABLE}, {"f": go.Figure()}, tmp_path, formats=["csv"])
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*")] == ["tables/t.csv"]


def test_pictures_without_what_draws_them_are_refused_with_the_way_to_it(monkeypatch):
    monkeypatch.setattr(files, "pictures_are_possible", lambda: False)
    files.check_formats(["html", "csv"])
    with pytest.raises(UserError, match="Kaleido") as refused:
        files.check_formats(["html", "svg"])
    assert "tlm-search[figures]" in str(refused.value.hint)


def test_a_browser_that_does_not_start_is_told(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no browser\nand more")

    monkeypatch.setattr("plotly.io.write_images", broken)
    with pytest.raises(UserError, match="could not draw the figures: no browser"):
        files.write_files({}, {"f": finish(go.Figure(), "title", "x", "y")}, tmp_path, formats=["png"])


@pytest.mark.skipif(importlib.util.find_spec("kaleido") is None, reason="needs Kaleido (pip install kaleido)")
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (Debian: apt-get install chromium)")
def test_pictures_are_drawn_by_a_real_browser(tmp_path):
    figure = finish(go.Figure(), "accuracy by size", "members", "test accuracy")
    figure.add_scatter(x=[1, 2, 4], y=[0.5, 0.6, 0.65], name="committee", legendgroup="committee")
    files.write_files({}, {"f": figure}, tmp_path, formats=["png", "svg"])
    png, svg = (tmp_path / "figures" / f"f.{kind}" for kind in ("png", "svg"))
    head = png.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert int.from_bytes(head[16:20], "big") == files.PICTURE_WIDTH * files.PICTURE_SCALE
    drawn = svg.read_text()
    assert drawn.startswith("<svg")
    for word in ("accuracy by size", "members", "test accuracy"):
        assert word in drawn


def test_a_picture_has_its_legend_beside_it_and_no_line_that_waits_for_a_button(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "plotly.io.write_images", lambda figures, paths, **how: drawn.update(zip(paths, figures, strict=True), how=how)
    )
    figure = finish(go.Figure(), "title", "x", "y")
    figure.add_scatter(x=[1], y=[1], name="shown", legendgroup="shown")
    figure.add_scatter(x=[1], y=[2], name="waits", legendgroup="waits", visible="legendonly")
    files.write_files({}, {"f": figure}, tmp_path, formats=["png", "svg"])
    assert list(drawn) == [str(tmp_path / "figures" / f"f.{kind}") for kind in ("png", "svg")] + ["how"]
    paper = drawn[str(tmp_path / "figures" / "f.png")]
    assert [trace.visible for trace in paper.data] == [None, False]
    assert paper.layout.legend.orientation == "v"
    assert paper.layout.paper_bgcolor == "white"
    assert figure.data[1].visible == "legendonly"  # the page's own figure does not change
    assert len(drawn["how"]["height"]) == 2


@pytest.mark.parametrize(
    ("name", "below"), [("reference", False), ("#0: depth 1, width 64, pre-trained on 40,000, no linear model", True)]
)
def test_a_legend_of_long_names_leaves_the_width_to_the_axes(name, below):
    figure = finish(go.Figure([go.Scatter(x=[1], y=[1], name=text) for text in (name, "linear model")]), "T", "x", "y")
    alone = files.standalone(figure)
    assert (alone.layout.legend.y < 0) == below
    assert alone.layout.height == figure.layout.height + (2 * files.LEGEND_LINE if below else 0)
    assert figure.layout.legend.y == finish(go.Figure(), "T", "x", "y").layout.legend.y, "the page's own is as it was"


def test_a_hidden_line_does_not_move_the_legend():
    traces = [go.Scatter(x=[1], y=[1], name="a" * 60, visible="legendonly"), go.Scatter(x=[1], y=[1], name="b")]
    assert files.standalone(finish(go.Figure(traces), "T", "x", "y")).layout.legend.y == 1
