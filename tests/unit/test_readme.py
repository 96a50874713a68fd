"""What the README shows is what there is: its spaces load, its commands exist and all commands are in it."""

import re
from pathlib import Path

import pytest
import typer

from tlm_search.cli.main import app
from tlm_search.space.load import load_space

README = (Path(__file__).parents[2] / "README.md").read_text()
SPACES = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("text", SPACES, ids=["whole", "own-data"])
def test_a_space_of_the_readme_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    assert load_space(file).searched()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_in_the_readme(command: str) -> None:
    assert f"`tlm-search {command}" in README


def test_the_readme_shows_no_command_that_is_not_there() -> None:
    assert set(re.findall(r"tlm-search ([a-z]+)", README)) <= set(COMMANDS)
