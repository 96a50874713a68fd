"""The docs match the product: each key and command has its page, each page is in the contents, messages exist."""

import ast
import functools
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import typer

from tlm_search.cli.main import app
from tlm_search.space.json_schema import json_schema

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def generated():
    """The module with the parts of the pages that come from the product."""
    pytest.importorskip("mkdocs")
    specification = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_key_of_a_space_is_on_its_page(generated):
    page = generated.on_page_markdown((ROOT / "docs" / "space.md").read_text())
    schema = json_schema()
    keys = {*schema["properties"], *schema["properties"]["search"]["properties"]}
    for section in schema["$defs"].values():
        keys |= set(section.get("properties", {}))
    assert {key for key in keys if f"`{key}`" not in page and f"`{key}:" not in page} == set()
    for kind in ("sampler", "pruner"):
        for name in schema["properties"][kind]["anyOf"][0]["enum"]:
            assert f"**`name: {name}`**" in page


def test_every_command_and_option_is_on_its_page(generated):
    page = generated.on_page_markdown((ROOT / "docs" / "command-line.md").read_text())
    for name, command in typer.main.get_command(app).commands.items():
        assert f"## `{name}`" in page
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or option in page


def test_findings_are_those_of_the_log_the_newest_first_with_an_index(generated):
    page = generated.on_page_markdown((ROOT / "docs" / "findings.md").read_text())
    headings = re.findall(r"^## (.*)$", page, flags=re.MULTILINE)
    assert headings == re.findall(r"^## (.*)$", (ROOT / "studies" / "LOG.md").read_text(), flags=re.MULTILINE)
    dates = [heading[:10] for heading in headings]
    assert dates == sorted(dates, reverse=True)
    links = re.findall(r"\]\(#(.*)\)$", page, flags=re.MULTILINE)
    assert sorted(links) == sorted(re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings)


def test_every_page_is_in_the_contents_and_no_mark_is_unknown(generated):
    contents = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        assert f": {page.name}\n" in contents
        assert set(re.findall(r"<!-- generated: (\w+) -->", page.read_text())) <= set(generated.MARKS)


PACKAGE = [ast.parse(file.read_text()) for file in sorted((ROOT / "tlm_search").rglob("*.py"))]
QUOTED = re.findall(r'\*\*"(.+?)"\*\*', (ROOT / "docs" / "troubleshooting.md").read_text())


@functools.cache
def messages():
    """All texts of the package, with ``{}`` for inserted values."""
    found = []
    for node in (node for tree in PACKAGE for node in ast.walk(tree)):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_message_that_is_explained_exists(quoted):
    pattern = ".*".join(re.escape(part) for part in quoted.split("..."))
    assert any(re.search(pattern, message, flags=re.DOTALL) for message in messages())


def test_every_extra_that_is_named_exists():
    files = (*PAGES, ROOT / "README.md", *(ROOT / "tlm_search").rglob("*.py"))
    named = {name for file in files for name in re.findall(r"tlm-search\[([a-z0-9]+)\]", file.read_text())}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert named <= set(extras)
    assert named
