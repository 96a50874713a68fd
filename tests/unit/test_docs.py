"""The docs show what is there: every key and command is on its page, every page is in the contents, commands exist."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer
import yaml

from tlm_search.cli.main import app
from tlm_search.space.json_schema import json_schema
from tlm_search.space.schema import load_space

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
COMMANDS = set(typer.main.get_command(app).commands)


@pytest.fixture(scope="module")
def generated():
    """The module with the parts that the pages take from the product."""
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_only_commands_that_exist(page):
    assert set(re.findall(r"tlm-search ([a-z]+)", page.read_text())) <= COMMANDS


WHOLE = [text for page in PAGES for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL)]


@pytest.mark.parametrize("text", WHOLE, ids=range(len(WHOLE)))
def test_a_space_of_the_docs_loads(text, tmp_path):
    parts = {"reference": "none", **yaml.safe_load(text)}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(parts))
    assert load_space(tmp_path / "space.yaml")
