"""The examples run, from a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nodes import Node, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"

# Use the docstrings of five packages, four of which are labels, instead of those of all installed packages.
FEWER_PACKAGES = """
from tlm_search.data.sources import pydocs
every = pydocs._distributions()
pydocs._distributions = lambda: {name: every[name] for name in ("numpy", "optuna", "pandas", "scikit-learn", "scipy")}
"""
SMALLER = {
    '"documents": 4000': '"documents": 400',
    '"pretrain_size": 4000': '"pretrain_size": 400',
    '"vocabulary": 2048': '"vocabulary": 512',
    '"test_per_label": 100': '"test_per_label": 30',
    '"committee_size": 4': '"committee_size": 2',
    '"budget": {"trials": 2}': '"budget": {"trials": 2}, "resources": {"concurrent_trials": 1}',
}


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_the_notebook_finds_plots_and_explores_a_committee(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "explore.ipynb", 4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    for text, smaller in SMALLER.items():
        assert text in first.source
        first.source = first.source.replace(text, smaller)
    first.source = FEWER_PACKAGES + first.source
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("application/vnd.plotly.v1+json" in data for data in shown) == 2
    assert sum("text/html" in data for data in shown) >= 3
    assert (tmp_path / "studies" / "notebook").is_dir()


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_two_nodes_on_this_machine_run_a_study_and_end(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["sh", str(EXAMPLES / "several_machines.sh"), str(tmp_path)],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate()
            wait_until(lambda: not Node(process, "").processes())
        finally:
            Node(process, "").end()
    assert process.returncode == 0, said
    assert "12 of 12 finished" in said
