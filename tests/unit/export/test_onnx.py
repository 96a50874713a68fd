"""The ONNX graphs answer like torch, for any batch and length; the card says what they lose."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from finished import finished_study

import tlm_search
from tlm_search.errors import ExportError
from tlm_search.export.choose import choose
from tlm_search.export.committee import Committee
from tlm_search.export.folder import ONNX, ONNX_INT8
from tlm_search.export.onnx import onnx_answers, open_session, run
from tlm_search.export.write import export_committee
from tlm_search.report.evidence import Evidence


def export(finished, out, **options):
    chosen = choose(finished.record, Evidence(finished.record, finished.store), number=0)
    return export_committee(finished.record, finished.store, chosen, out=out, **options)


OTHERWISE = {
    "pooling": "mean", "depth": 2, "normalisation": "pre", "layer_weights": "shared", "convolution_layers": 1,
}  # fmt: skip
SPANS = {"pooling": "spans", "marked": True}


@pytest.mark.parametrize("settings", [{}, OTHERWISE, SPANS], ids=["plain", "otherwise", "spans"])
def test_the_graphs_equal_the_committee(tmp_path, settings):
    finished = finished_study(tmp_path, **settings)
    exported = export(finished, tmp_path / "out", onnx=True, int8=settings in ({}, SPANS))
    committee = Committee.load(tmp_path / "out")
    vocabulary = committee.vocabulary
    _check_no_folder_is_named(tmp_path / "out")
    session = open_session(tmp_path / "out" / ONNX, threads=1)
    tokens = committee.tokens(["", "aa", "aa ba " * 20, "[E1] aa [/E1] ba [E2] ca [/E2] da", *finished.texts])
    expected = committee.answers_to_tokens(tokens)
    found = onnx_answers(session, tokens, labels=3, pad=committee.pad)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.disagreement, expected.disagreement, atol=1e-6)
    for batch, length in ((1, 2), (1, 12), (7, 5)):
        ids = np.random.default_rng(length).integers(1, vocabulary, (batch, length))
        mask = np.ones_like(ids, dtype=bool)
        said = committee.vote(torch.from_numpy(ids), None)
        logits, members = run(session, ids, mask)
        np.testing.assert_allclose(np.exp(logits), said, atol=1e-5)
        assert members.shape == (batch, 3, 3)
    if settings not in ({}, SPANS):
        return
    fp32, int8 = exported.facts.graphs
    assert fp32.difference < 1e-5 < int8.difference < 0.05
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| test accuracy of `{ONNX_INT8}` |" in card
    assert set(json.loads((tmp_path / "out" / "manifest.json").read_text())["files"]) >= {ONNX, ONNX_INT8}


def _check_no_folder_is_named(out):
    """Check that the graph names no folder of the machine that made it."""
    ours = str(Path(tlm_search.__file__).parent)
    for file in (path for path in out.rglob("*") if path.is_file()):
        for folder in (ours, str(Path.home()), sys.prefix, str(out.parent)):
            assert folder.encode() not in file.read_bytes(), file.name


def test_a_graph_that_cannot_be_run_is_one_message_and_nothing_is_written(finished, tmp_path, monkeypatch):
    """The graph is written as by torch 2.6: only for the shape of its example."""
    export_graph = torch.onnx.export

    def fixed(*arguments, dynamic_shapes, **options):
        export_graph(*arguments, **options)

    monkeypatch.setattr("torch.onnx.export", fixed)
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the graph") as caught:
        export(finished, tmp_path / "out", onnx=True)
    assert "torch" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install_and_writes_nothing(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match="not installed: onnxscript") as caught:
        export(finished, tmp_path / "out", onnx=True)
    assert "pip install" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_cannot_be_read_is_one_message(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match="ONNX Runtime cannot read it"):
        open_session(tmp_path / "m.onnx")
