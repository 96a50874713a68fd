import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tlm_search import errors
from tlm_search.cli.main import app


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_each_command_once_in_a_group(call, arguments):
    code, out, _ = call(*arguments)
    assert code == 0
    groups = out[out.index("\nSearch:") :]
    listed = [line.split()[0] for line in groups.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(typer.main.get_command(app).commands)


def test_a_shell_completes_commands(tmp_path):
    environment = {**os.environ, "COMP_WORDS": "tlm-search st", "COMP_CWORD": "1"}
    environment["_TLM_SEARCH_COMPLETE"] = "complete_bash"
    program = "import sys; sys.argv = ['tlm-search']; from tlm_search.cli.main import main; main()"
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["status", "store"]


def test_version(call):
    code, out, _ = call("--version")
    assert (code, out.split()[0]) == (0, "tlm-search")


@pytest.mark.parametrize("arguments", [["valdate"], ["validate"], ["validate", "x.yaml", "--jsn"]])
def test_a_wrong_command_or_option_ends_with_2(call, arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert "Error" in err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["reprot", "x"], "'report'"),
        (["store", "verfy"], "'verify'"),
        (["run", "x.yaml", "--trails", "3"], "--trials"),
        (["export", "x", "--out", "y", "--onx"], "--onnx"),
    ],
)
def test_a_typing_mistake_gets_the_nearest_name(call, arguments, meant):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert meant in err.splitlines()[-1]


def test_a_wrong_file_ends_with_2_and_a_message_without_traceback(call, tmp_path):
    file = tmp_path / "[red]x.yaml"
    file.write_text("search: {depth: 0}")
    code, out, err = call("validate", str(file))
    assert (code, out) == (2, "")
    assert err == f"error: {file}:1: search.depth: given 0; allowed: a whole number from 1 to 96\n"


def test_the_hint_stands_below_the_message(call, tmp_path):
    code, _, err = call("validate", str(tmp_path / "none.yaml"))
    assert code == 2
    assert err.splitlines()[1] == "give the path of a space file"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UserError("x"), 2),
        (errors.NoTrialSucceededError("x"), 3),
        (errors.InterruptedStudyError("x"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(call, monkeypatch, error, code):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("tlm_search.space.schema.load_space", fail)
    assert call("validate", "x.yaml")[0] == code


def test_one_more_ctrl_c_takes_neither_message_nor_exit_code(call, monkeypatch):
    from tlm_search.cli import main

    def interrupted(*_, **__):
        raise errors.InterruptedStudyError("the study was interrupted", hint="continue with: tlm-search run x")

    def show(error):
        signal.raise_signal(signal.SIGINT)
        main_show(error)

    main_show = main.show
    monkeypatch.setattr("tlm_search.space.schema.load_space", interrupted)
    monkeypatch.setattr(main, "show", show)
    code, _, err = call("validate", "x.yaml")
    assert code == 130
    assert "continue with: tlm-search run x" in err


LONG = "text " * 60  # too long for the name of a file
PROGRAM = [sys.executable, "-m", "tlm_search"]


def test_the_package_is_the_program_too():
    done = subprocess.run([*PROGRAM, "validate", "none.yaml"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: none.yaml")


@pytest.mark.parametrize("command", ["status", "latency", "serve", "validate"])
def test_what_the_system_refuses_is_one_message(call, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(command, LONG)
    assert (code, out) == (2, "")
    assert "File name too long" in err


def test_the_message_of_the_system_names_the_file(call, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "locked/space.yaml")

    monkeypatch.setattr("tlm_search.space.schema.load_space", fail)
    assert call("validate", "x.yaml") == (2, "", "error: locked/space.yaml: Permission denied\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("command", ["schema", "--version"])
def test_a_full_disk_is_one_message(command):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


@pytest.mark.parametrize("command", ["schema", "--version"])
def test_who_reads_no_more_is_no_error(command):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as nobody:  # noqa: PTH123 - a descriptor
        done = subprocess.run([*PROGRAM, command], stdout=nobody, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_letters_that_the_terminal_lacks_are_escaped(tmp_path):
    (tmp_path / "space.yaml").write_text("name: x\ndescription: 漢字\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*PROGRAM, "validate", str(tmp_path / "space.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, "\\u6f22\\u5b57" in done.stdout) == (0, True), done.stderr


def test_output_that_was_closed_is_no_traceback():
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *PROGRAM, "schema"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
