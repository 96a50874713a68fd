"""The command line: which commands there are, and how errors and Ctrl-C end them.

Commands import what is heavy inside their functions, so that help and a wrong option answer at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

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

app = typer.Typer(
    name="tlm-search",
    help="Find the committee of tiny, shallow language models that does the work of a deep one.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
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


_COMMANDS = (
    *(run, init, validate, schema, status, best, report, distil, export),
    *(predict, serve, push, dashboard, latency, overlap),
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(store, name="store")


def main() -> None:
    """Run one command; what the user can mend ends with a message and its exit code, without a traceback."""
    _prepare_output()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # SLURM, Kubernetes and systemd end a job by it: as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        try:
            app()
        finally:
            _flush_output()
    except InterruptedStudyError as error:
        _hear_no_more()
        show(error)
        sys.exit(error.exit_code)
    except TlmSearchError as error:
        show(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # who reads the output has seen enough
        sys.exit(1)
    except OSError as error:
        reason = error.strerror or str(error)
        show(UserError(reason if error.filename is None else f"{error.filename}: {reason}"))
        sys.exit(UserError.exit_code)
    except KeyboardInterrupt:
        _hear_no_more()
        sys.exit(INTERRUPTED)


def _prepare_output() -> None:
    if sys.stdout is None:  # it was closed; print() takes that, others do not
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal has no letter for, as on standard error


def _flush_output() -> None:
    """Write what is buffered now, while a full disk can still be said, and not at the very end of the process."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            sys.stdout.close()  # or the end would try once more, and print its own message
        raise


def _hear_no_more() -> None:
    # One more signal, in the second in which this process ends, would end it without its message and exit code.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def show(error: TlmSearchError) -> None:
    """Print an error and its hint on standard error."""
    from rich.console import Console
    from rich.text import Text

    # As Text, nothing that the user wrote is taken for markup; unwrapped, a path can be copied.
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), error.message))
    if error.hint is not None:
        console.print(Text(error.hint, style="dim"))
