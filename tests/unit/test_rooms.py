"""The house stays in order: imports go one way, and each heavy library lives in its room."""

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tlm_search"
ORDER = (
    "follow", "passwords", "errors", "digest", "files", "space", "remote", "data", "model", "training", "members",
    "committee", "search", "report", "export", "study", "serving", "cli",
)  # fmt: skip
HOMES = {
    "ray": {"search"},
    "plotly": {"report"},
    "optuna": {"search"},
    "datasets": {"data"},
    "fastapi": {"serving"},
    "fsspec": {"remote"},
}


@functools.cache
def imports(file: Path) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return tuple(found)


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if room_of(file) != "__init__"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_imports_only_from_those_above_it(file: Path) -> None:
    own = ORDER.index(room_of(file))
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "tlm_search" and len(parts) > 1:
            assert ORDER.index(parts[1]) <= own, f"{file}: imports {name}"


@pytest.mark.parametrize("library", HOMES)
def test_a_library_lives_in_its_room(library: str) -> None:
    users = {room_of(file) for file in FILES if any(name.split(".")[0] == library for name in imports(file))}
    assert users - types_only(library) <= HOMES[library]


def types_only(library: str) -> set[str]:
    """Return the room of the Python API if it names the library's types for readers, and imports nothing of it."""
    tree = ast.parse((PACKAGE / "study.py").read_text())
    guarded = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    inside = {id(node) for block in guarded for node in ast.walk(block)}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if id(node) not in inside and any(name.split(".")[0] == library for name in names):
            return set()
    return {"study"}


START_FAST = (
    "tlm_search",
    "tlm_search.space.load",
    "tlm_search.members.spec",
    "tlm_search.members.store",
    "tlm_search.committee.vote",
    "tlm_search.committee.frontier",
    "tlm_search.report.html",
    "tlm_search.cli.main",
)


def test_what_must_start_fast_does_not_load_torch_or_ray() -> None:
    """One process imports them one after another: what one loads is there after all that follow too."""
    code = """
import importlib, json, sys
slow = {"torch", "ray", "transformers"}
loaded = {module: (importlib.import_module(module), sorted(slow & set(sys.modules)))[1] for module in sys.argv[1:]}
print(json.dumps(loaded))"""
    done = subprocess.run([sys.executable, "-c", code, *START_FAST], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {module: [] for module in START_FAST}


def test_a_worker_does_not_load_what_only_the_driver_needs() -> None:
    code = "import tlm_search.search.tune_trainable, sys; print({'optuna', 'plotly', 'datasets'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
