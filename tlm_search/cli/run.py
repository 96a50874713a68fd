"""``tlm-search run``: run or continue a study."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlm_search.cli.options import STUDIES, DataDir, Overrides, StudiesDir, overrides_of
from tlm_search.errors import ClusterError, InterruptedStudyError, UserError
from tlm_search.passwords import masked

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

    from tlm_search.search.session import Session
    from tlm_search.study.record import StudyRecord


def run(
    space: Annotated[Path, typer.Argument(metavar="SPACE", help="The YAML file of a space.")],
    trials: Annotated[int | None, typer.Option(help="Stop after this many finished trials.", min=1)] = None,
    time_budget: Annotated[str | None, typer.Option(help="Longest time of this run: 90s, 30m, 2h.")] = None,
    studies_dir: StudiesDir = STUDIES,
    name: Annotated[str | None, typer.Option(help="Name of the study; by default the space's.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to run on: HOST:PORT, or auto.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="URL of a database for a new study (or TLM_SEARCH_STORAGE); by default a journal file."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Rename an existing study and start again; its trained members are reused.")
    ] = False,
    data_dir: DataDir = None,
    set_: Overrides = None,
) -> None:
    """Run or continue the study of a space until it has the trials of its budget. Safe to repeat."""
    from tlm_search.data.sources.place import use_data_dir
    from tlm_search.search.display import Display
    from tlm_search.search.session import run_study
    from tlm_search.space.schema import load_space

    if data_dir is not None:
        use_data_dir(data_dir)
    overrides = overrides_of(set_)
    if trials is not None:
        overrides["budget.trials"] = str(trials)
    if time_budget is not None:
        overrides["budget.time"] = json.dumps(time_budget)
    if name is not None:
        overrides["name"] = json.dumps(name)
    loaded = load_space(space, overrides=overrides)
    display = Display()
    again = _command(space, trials, time_budget, studies_dir, name, address, data_dir, set_ or [])
    try:
        session = run_study(
            loaded,
            studies_dir=studies_dir,
            storage=storage,
            address=address,
            fresh=fresh,
            announce=display.announce,
            show=display.show,
        )
        if session.driver.progress.complete and not session.interrupted:
            try:
                _conclude(session, storage, studies_dir)
            except (UserError, OSError):
                # A full disk ends a run and leaves no room for its report. Show the error that ended the run first.
                session.driver.check_result(continue_with=again)
                raise
    except ClusterError as error:
        raise ClusterError(error.message, change=error.change, again=f"continue with: {again}") from error
    except KeyboardInterrupt:
        raise InterruptedStudyError("the study was interrupted", hint=f"continue with: {again}") from None
    if session.interrupted:
        raise InterruptedStudyError("the study was interrupted", hint=f"continue with: {again}")
    session.driver.check_result(continue_with=again)
    if session.driver.stopped is not None:
        display.announce(f"{session.driver.stopped}; continue with: {again}")


def _command(
    space: Path,
    trials: int | None,
    time_budget: str | None,
    studies_dir: str,
    name: str | None,
    address: str | None,
    data_dir: Path | None,
    pairs: list[str],
) -> str:
    """Write the command that continues this run, without the storage's URL, which may hold a password."""
    options: Mapping[str, object] = {
        "--trials": trials,
        "--time-budget": time_budget,
        "--studies-dir": None if studies_dir == STUDIES else masked(studies_dir),
        "--name": name,
        "--address": address,
        "--data-dir": data_dir,
    }
    words = ["tlm-search", "run", str(space)]
    words += [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    words += [word for pair in pairs for word in ("--set", pair)]
    return shlex.join(words)


def _conclude(session: Session, storage: str | None, studies_dir: str) -> None:
    """Write the report; print the answer, the caveats, the table, the path of the report, and the next commands."""
    from rich.console import Console

    from tlm_search.remote.mount import shown
    from tlm_search.report.claims.answer import CONTINUE, answer_of
    from tlm_search.report.evidence import Evidence
    from tlm_search.report.pages.html import write_report
    from tlm_search.store.shared import open_store
    from tlm_search.study.location import read_study, store_root
    from tlm_search.study.sync import StudyCopy

    record = read_study(session.folder, storage)
    store = open_store(store_root(session.folder.parent))
    page = session.folder / "report.html"
    if session.worked or _is_outdated(page, record):
        page = write_report(record, store, session.folder)
        StudyCopy(session.folder).send_reports()
    answer = answer_of(record, Evidence(record, store))
    console = Console(highlight=False, soft_wrap=True)
    soft = not console.is_terminal  # a terminal breaks lines between words
    console.print()
    for sentence in (answer.headline, *answer.verdict, *(caution.words for caution in answer.cautions)):
        console.print(sentence, markup=False, soft_wrap=soft)
    console.print(_table(answer.table))
    also = "" if shown(page) == str(page) else f", and at {shown(page)}"
    console.print(f"report: {page}{also}", markup=False)
    where = "" if studies_dir == STUDIES else f" --studies-dir {shlex.quote(masked(studies_dir))}"
    for purpose, command in answer.next_commands:
        if session.driver.stopped is not None and purpose == CONTINUE:
            continue  # the last line of the run has this command, with the options of this run
        console.print(f"{purpose}:", markup=False, soft_wrap=soft)
        console.print(f"    {command}{where}", markup=False)


def _is_outdated(page: Path, record: StudyRecord) -> bool:
    """Return whether the report is missing or older than the last trial, because an interrupted run writes none."""
    ends = [trial.finished.timestamp() for trial in record.trials if trial.finished is not None]
    return not page.exists() or page.stat().st_mtime < max(ends, default=0.0)


def _table(frame: DataFrame) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("", *(str(column) for column in frame.columns), box=box.SIMPLE_HEAD)
    for name, row in frame.iterrows():
        table.add_row(Text(str(name)), *(Text(str(value)) for value in row))
    return table
