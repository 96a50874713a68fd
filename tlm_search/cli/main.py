"""The command line: its commands, and how it ends on errors and Ctrl-C.

Commands import heavy packages inside their functions, so that help and wrong options answer at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tlm_search.cli.best import best
from tlm_search.cli.dashboard import dashboard
from tlm_search.cli.distil import distil
from tlm_search.cli.export import export
from tlm_search.cli.init import init
from tlm_search.cli.latency import latency
from tlm_search.cli.overlap import overlap
from tlm_search.cli.predict import predict
from tlm_search.cli.push import push
from tlm_search.cli.report import report
from tlm_search.cli.run import run
from tlm_search.cli.schema import schema
from tlm_search.cli.serve import serve
from tlm_search.cli.status import status
from tlm_search.cli.store import app as store
from tlm_search.cli.validate import validate
from tlm_search.errors import InterruptedStudyError, TlmSearchError, UserError

INTERRUPTED = 130

# Each command with its line in `tlm-search --help`; its docstring is the text of `tlm-search COMMAND --help`.
_GROUPS: Mapping[str, Mapping[Callable[..., None] | typer.Typer, str]] = {
    "Search": {
        init: "write a space for your own data",
        validate: "check a space and estimate the cost of its study",
        run: "run or continue the study of a space",
    },
    "Inspect": {
        status: "show the progress of a study",
        best: "list the best committees",
        report: "write the report: a page, tables and figures",
        dashboard: "open Optuna Dashboard, also while the study runs",
        latency: "measure latency on this machine",
        overlap: "compare the vocabularies of corpus and task",
    },
    "Use": {
        export: "write a committee to a folder for use elsewhere",
        distil: "train one model on the answers of a committee",
        predict: "label texts with an exported committee",
        serve: "answer HTTP requests with an exported committee",
        push: "upload an exported committee to the Hugging Face hub",
    },
    "Maintain": {
        store: "list, check and remove trained members",
        schema: "print the JSON Schema of a space",
    },
}


class _Grouped(TyperGroup):
    """Lists the commands in groups."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group."""
        for group, commands in _GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(_name(command), words) for command, words in commands.items()])


def _name(command: Callable[..., None] | typer.Typer) -> str:
    return str(command.info.name) if isinstance(command, typer.Typer) else command.__name__


app = typer.Typer(
    name="tlm-search",
    cls=_Grouped,
    help="Find the committee of tiny, shallow language models that does the work of a deep one.",
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _no_command(
    context: typer.Context,
    version_: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version_:
        typer.echo(f"tlm-search {version('tlm-search')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _commands in _GROUPS.values():
    for _command in _commands:
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name(_command))
        else:
            app.command()(_command)


def main() -> None:
    """Run one command. An error that the user can solve ends with a message and its exit code, without a traceback."""
    _prepare_output()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # SLURM, Kubernetes and systemd end a job with SIGTERM: treat it as Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        try:
            app()
        finally:
            _flush_output()
    except InterruptedStudyError as error:
        _ignore_signals()
        show(error)
        sys.exit(error.exit_code)
    except TlmSearchError as error:
        show(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the program that reads the output has closed it
        sys.exit(1)
    except OSError as error:
        reason = error.strerror or str(error)
        show(UserError(reason if error.filename is None else f"{error.filename}: {reason}"))
        sys.exit(UserError.exit_code)
    except KeyboardInterrupt:
        _ignore_signals()
        sys.exit(INTERRUPTED)


def _prepare_output() -> None:
    if sys.stdout is None:  # standard output is closed; print() accepts that, other code does not
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - open for the rest of the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # escape what the terminal cannot show, as on standard error


def _flush_output() -> None:
    """Write buffered output now, while a full disk can still be reported, and not when the process ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            sys.stdout.close()  # otherwise Python would try again at the end and print its own message
        raise


def _ignore_signals() -> None:
    # A further signal would end this process before its message and exit code.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def show(error: TlmSearchError) -> None:
    """Print an error and its hint on standard error."""
    from rich.console import Console
    from rich.text import Text

    # Text, so that the user's words are not read as markup; not wrapped, so that a path can be copied.
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), error.message))
    if error.hint is not None:
        console.print(Text(error.hint, style="dim"))
