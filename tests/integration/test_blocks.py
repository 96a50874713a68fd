"""The blocks of the docs and the README are true: Python runs, YAML loads, and the shell's commands are ours.

What runs, runs in one folder with a study of tiny members, searched without Ray. A block that cannot run says why in
a comment above it: ``<!-- not run: REASON -->``.
"""

import ast
import itertools
import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from driven import run_without_ray
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.cli.options import overrides_of
from tlm_search.space.schema import load_space

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = typer.main.get_command(app)
LANGUAGES = {"python", "sh", "yaml", "text", "output"}  # a text block keeps its lines, an output block is wrapped

# Programs that the blocks call. Only `tlm-search` really runs; an unknown program fails the block.
PROGRAMS = ("tlm-search", "python", "pip", "ray", "curl", "srun", "scontrol", "head")
CHEAP = {"best", "export", "overlap", "predict", "report", "run", "schema", "status", "store", "validate"}

FENCE = r"(?:<!-- not run: (?P<why>.+?) -->\n)?^```(?P<language>\S*)\n(?P<text>.*?)^```$"
SPACE = """
corpus: {source: texts}
tokenizer: {vocabulary: 120, length: 12}
task: {source: tickets.csv, text: body, label: team, train: all, validation: 0.3, test: 0.3}
search:
  width: {choices: [8, 16]}
  head_size: 8
  pretrain_size: 20
  pretrain_epochs: 1
  finetune_epochs: 1
  committee_size: 2
reference: {depth: 2, width: 16}
sampler: grid
budget: {trials: 2}
"""
WORDS = {"billing": "invoice charged twice refund card", "network": "cable router slow drops packets"}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    why_not: str | None

    def __str__(self) -> str:
        return f"{self.page}-{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page.stem, text[: found.start("text")].count("\n"), *found.group("language", "text", "why"))
        for found in re.finditer(FENCE, text, flags=re.DOTALL | re.MULTILINE)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
# A command in a sentence, or a command typed in a terminal.
MENTION = re.compile(r"`(tlm-search [^`>]+)`|^\$? *(tlm-search .+)$", flags=re.MULTILINE)
MENTIONED = sorted({"".join(found) for page in PAGES for found in MENTION.findall(page.read_text())})


def blocks_in(language: str) -> pytest.MarkDecorator:
    chosen = [block for block in BLOCKS if block.language == language and not block.why_not]
    return pytest.mark.parametrize("block", chosen, ids=str)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the docs name, and with the results of their commands."""
    place = tmp_path_factory.mktemp("docs")
    rows = [f"{words} {number},{team}" for number in range(20) for team, words in WORDS.items()]
    for name in ("tickets", "train", "dev", "test"):
        (place / f"{name}.csv").write_text("\n".join(["body,team", *rows]))
    (place / "texts").mkdir()
    old = "\n\n".join(f"old {number}: {words}" for number in range(20) for words in WORDS.values())
    (place / "texts" / "old.txt").write_text(old)
    (place / "space.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run = run_without_ray(place, patch)
        for name in ("space", "committee"):
            run(load_space(place / "space.yaml", overrides={"name": name}))
        call("export", "space", "--out", "winner")
    return place


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A copy of that folder for one block, without the files that the block itself creates."""
    place = tmp_path / "place"
    shutil.copytree(finished, place)
    if "export" in request.getfixturevalue("block").text:
        shutil.rmtree(place / "winner")
    run_without_ray(place, monkeypatch)
    monkeypatch.chdir(place)
    return place


def call(*arguments: str) -> str:
    """Run a command in this process; return what it printed."""
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_each_block_is_of_a_kind_that_is_looked_at(block: Block) -> None:
    assert block.language in LANGUAGES
    assert block.text.strip()


DEFINING = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


@blocks_in("python")
def test_python_runs(block: Block, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a block and the tests that it defines. A block prints something unless it only defines."""
    names = {"__name__": "__main__", **runpy.run_path(str(ROOT / "examples" / "words_trainer.py"))}
    exec(compile(block.text, str(block), "exec"), names)
    if all(isinstance(node, DEFINING) for node in ast.parse(block.text).body):
        for name in [name for name in names if name.startswith("test_")]:
            names[name]()
    else:
        assert capsys.readouterr().out


@blocks_in("yaml")
def test_yaml_is_a_space_or_a_part_of_one(block: Block, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"reference": "none", **yaml.safe_load(block.text)}))
    load_space(tmp_path / "space.yaml")


@blocks_in("sh")
def test_the_shell_calls_what_is_there(block: Block, here: Path, tmp_path: Path) -> None:
    calls = calls_of(block, here, tmp_path / "programs")
    assert calls
    for program, *words in calls:
        if program == "python" and words[0] != "-m":
            assert (ROOT / words[0]).is_file()
        if "tlm-search" in (program, *words):
            arguments = [program, *words][[program, *words].index("tlm-search") + 1 :]
            check(arguments)
            run_where_cheap(arguments)


@pytest.mark.parametrize("command", MENTIONED)
def test_a_command_that_is_mentioned_is_one(command: str) -> None:
    _, *arguments = shlex.split(command.split("#")[0].rstrip("\\"))
    if len(arguments) > 1:
        check(arguments)
    else:  # only a name
        assert arguments[0] in (*COMMAND.commands, "--install-completion")


def calls_of(block: Block, here: Path, programs: Path) -> list[list[str]]:
    """Let a real shell run the block, with programs that only record how they were called."""
    seen = programs / "seen"
    (here / ".venv").mkdir()
    programs.mkdir()
    (here / ".venv" / "bin").symlink_to(programs)
    for name in PROGRAMS:
        (programs / name).write_text(f"""#!/bin/sh\nprintf '%s\\0' {name} "$@" >>'{seen}'\necho >>'{seen}'\n""")
        (programs / name).chmod(0o755)
    environment = {"PATH": str(programs), "SLURM_CPUS_PER_TASK": "8", "SLURM_NNODES": "4", "SLURM_JOB_NODELIST": "n"}
    subprocess.run(["/bin/sh", "-eu", "-c", block.text], cwd=here, env=environment, check=True)
    return [line.split("\0")[:-1] for line in seen.read_text().splitlines()]


def check(arguments: Sequence[str]) -> None:
    """Check that the command line accepts these commands, options and values."""
    command, rest = COMMAND, list(arguments)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


def run_where_cheap(arguments: Sequence[str]) -> None:
    """Run a command if it takes no time. For `run` with a space of the repository, only load the space."""
    command, *rest = arguments
    if command == "run" and (ROOT / rest[0]).is_file():
        pairs = [value for option, value in itertools.pairwise(rest) if option == "--set"]
        load_space(ROOT / rest[0], overrides=overrides_of(pairs))
    elif command in CHEAP and not {"--address", "--time"} & set(rest):
        call(*arguments)
