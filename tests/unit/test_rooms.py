"""The package keeps its rooms: imports go one way, and each heavy library is imported in one room."""

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tlm_search"
ORDER = (
    "follow", "passwords", "errors", "digest", "files", "space", "remote", "store", "data", "model", "training",
    "members", "committee", "cost", "study", "search", "report", "export", "testing", "api", "serving", "cli",
    "__main__",
)  # fmt: skip
# The rooms inside a room, whose imports go one way too; modules outside of them come first.
INSIDE = {"report": ("", "tables", "figures", "claims", "pages")}
HOMES = {
    "plotly": {"report"},
    "optuna": {"study", "search"},
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


@pytest.mark.parametrize("file", [file for file in FILES if room_of(file) in INSIDE], ids=lambda file: file.stem)
def test_inside_a_room_imports_go_one_way_too(file: Path) -> None:
    room, *inner = file.relative_to(PACKAGE).parts[:-1]
    order = INSIDE[room]
    for name in imports(file):
        _, other, *rest = [*name.split("."), ""]
        if other == room:
            allowed = order[: 1 + order.index(inner[0] if inner else "")]
            assert (rest[0] if rest[0] in order else "") in allowed, f"{file}: imports {name}"


def test_only_the_room_of_ray_imports_it() -> None:
    users = {file.parent.name for file in FILES if any(name.split(".")[0] == "ray" for name in imports(file))}
    assert users == {"ray_tune"}


def test_no_module_imports_one_that_imports_it() -> None:
    """Follow the imports of each module, also those inside functions: none leads back to the module."""
    imported = {name_of(file): modules_of(file) for file in FILES}

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        ahead = [start]
        while ahead:
            new = imported.get(ahead.pop(), set()) - found
            found |= new
            ahead += new
        return found

    assert [module for module in imported if module in reached(module)] == []


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def names_of_modules() -> frozenset[str]:
    return frozenset(name_of(file) for file in FILES)


def modules_of(file: Path) -> set[str]:
    """Return the modules of the package that ``file`` imports when it runs."""
    tree = ast.parse(file.read_text())
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    guarded = {id(inside) for guard in guards for inside in ast.walk(guard)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in guarded:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & names_of_modules()


@pytest.mark.parametrize("library", HOMES)
def test_a_library_lives_in_its_room(library: str) -> None:
    users = {room_of(file) for file in FILES if any(name.split(".")[0] == library for name in imports(file))}
    assert users - types_only(library) <= HOMES[library]


def types_only(library: str) -> set[str]:
    """Return the room of the Python API if it names the library's types for readers without importing it."""
    tree = ast.parse((PACKAGE / "api.py").read_text())
    guarded = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    inside = {id(node) for block in guarded for node in ast.walk(block)}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if id(node) not in inside and any(name.split(".")[0] == library for name in names):
            return set()
    return {"api"}


START_FAST = (
    "tlm_search",
    "tlm_search.space.schema",
    "tlm_search.members.spec",
    "tlm_search.store.local",
    "tlm_search.committee.vote",
    "tlm_search.committee.frontier",
    "tlm_search.report.pages.html",
    "tlm_search.cli.main",
)


def test_what_must_start_fast_does_not_load_torch_or_ray() -> None:
    """One process imports the modules one after another, because what one loads stays loaded for the next."""
    code = """
import importlib, json, sys
slow = {"torch", "ray", "transformers"}
loaded = {module: (importlib.import_module(module), sorted(slow & set(sys.modules)))[1] for module in sys.argv[1:]}
print(json.dumps(loaded))"""
    done = subprocess.run([sys.executable, "-c", code, *START_FAST], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {module: [] for module in START_FAST}


def test_a_worker_does_not_load_what_only_the_driver_needs() -> None:
    code = (
        "import tlm_search.search.ray_tune.trainable, sys; print({'optuna', 'plotly', 'datasets'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
