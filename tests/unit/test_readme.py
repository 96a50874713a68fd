"""What the README shows is what there is: its space loads, its commands and pages exist, and it stays short."""

import re
from pathlib import Path

import pytest
import typer

from tlm_search.cli.main import app
from tlm_search.space.schema import load_space

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SPACES = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = set(typer.main.get_command(app).commands)


@pytest.mark.parametrize("text", SPACES)
def test_a_space_of_the_readme_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    assert load_space(file).searched()


def test_the_readme_shows_no_command_that_is_not_there() -> None:
    assert set(re.findall(r"tlm-search ([a-z]+)", README)) <= COMMANDS


def test_links_of_the_readme_resolve() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://") or (ROOT / link.partition("#")[0]).exists(), link


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 170
