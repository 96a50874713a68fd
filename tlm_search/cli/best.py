"""``tlm-search best``: the best shallow configurations of a study, with reasons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tlm_search.cli.options import STUDIES, StudiesDir

if TYPE_CHECKING:
    from rich.table import Table

    from tlm_search.committee.candidates import Candidate
    from tlm_search.committee.choice import Choice
    from tlm_search.study.record import StudyRecord


def best(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    match_reference: Annotated[
        bool,
        typer.Option(
            "--match-reference", help="List only committees that match the reference on validation, the cheapest first."
        ),
    ] = False,
    max_latency_ms: Annotated[float | None, typer.Option(min=0, help="Leave out slower committees.")] = None,
    max_parameters: Annotated[float | None, typer.Option(min=0, help="Leave out larger committees.")] = None,
    top: Annotated[int, typer.Option(min=1, help="The number of configurations to list.")] = 10,
    studies_dir: StudiesDir = STUDIES,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the best configurations of a study, one committee size each, with the reference and the reasons."""
    from tlm_search.committee.select import select
    from tlm_search.report.evidence import Evidence
    from tlm_search.store.shared import open_store
    from tlm_search.study.location import find_study, read_study, store_root

    record = read_study(find_study(study, studies_dir))
    evidence = Evidence(record, open_store(store_root(record.folder.parent)))
    selection = select(
        record.trials,
        record.reference,
        baseline=record.baseline,
        constraints=record.space.constraints,
        match_reference=match_reference,
        max_latency_ms=max_latency_ms,
        max_parameters=max_parameters,
        top=top,
        logits_of=evidence.logits_of,
        confirmed=record.confirmed,
    )
    if json_:
        print(json.dumps([choice.to_document() for choice in selection.choices], indent=2))
        return
    from rich.console import Console

    from tlm_search.committee.verdict import IN_A_WORD, UNSURE
    from tlm_search.report.claims.answer import cost_words, linear_warning, words_of_label
    from tlm_search.report.claims.cautions import cautions, confirmation_words, trials_of_each
    from tlm_search.report.formatting import plural
    from tlm_search.report.tables.mixed import export_words, mixed_committees

    console = Console(highlight=False)
    if selection.choices:
        first = selection.choices[0]
        subject = f"trial {first.candidate.trial.number} with {plural(first.candidate.size, 'member')}"
        if (warning := linear_warning(first, subject=subject)) is not None:
            console.print(warning, markup=False)
        console.print(table_of(record, selection.choices))
        if (words := words_of_label(record, first.candidate, subject=subject)) is not None:
            console.print(words, markup=False)
    elif not record.in_state("complete"):
        console.print(f"The study {record.name} has no complete trial yet.", markup=False)
    else:
        console.print("No configuration meets all conditions.", markup=False)
    for reason in selection.reasons:
        console.print(reason, markup=False)
    if selection.choices and (words := confirmation_words(record, selection.choices[0])) is not None:
        console.print(words, markup=False)
    if selection.choices and (reference := selection.choices[0].reference) is not None:
        best_of_all = selection.choices[0].candidate
        costs = cost_words(best_of_all, reference)
        console.print(f"Compared with the reference, trial {best_of_all.trial.number} has {costs}.", markup=False)
    if selection.choices and (
        words := export_words(record, mixed_committees(record, evidence), selection.choices[0].candidate)
    ):
        console.print(words, markup=False)
    if selection.choices and (trials := trials_of_each(record)) is not None:
        console.print(trials, markup=False)
    for caution in cautions(record, evidence.changed_sources()):
        console.print(caution.words, markup=False)
    if any(choice.reference_verdict == UNSURE for choice in selection.choices):
        console.print(
            f"{IN_A_WORD[UNSURE]}: the interval of the difference to the reference on test includes the margin, so the "
            "study cannot tell."
        )


def table_of(record: StudyRecord, choices: Sequence[Choice]) -> Table:
    """Return the choices as a table of at most 100 characters, with the reference and the linear model below them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from tlm_search.committee.candidates import whole
    from tlm_search.committee.metrics import metric_words
    from tlm_search.report.tables.tables import baseline_words, configuration_words
    from tlm_search.study.record import TrialRecord

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("configuration", min_width=12, max_width=44)
    if record.space.task.metric != "accuracy":
        table.caption = f"validation and test: {metric_words(record.space.task.metric)}"
    for title in ("size", "val. %", "test % (95%)", "ms", "params", "match"):
        table.add_column(title, justify="right", no_wrap=True)
    for choice in choices:
        trial = choice.candidate.trial
        assert isinstance(trial, TrialRecord)
        row = [str(trial.number), configuration_words(record, trial), *_numbers(choice.candidate), _matches(choice)]
        table.add_row(*(Text(cell) for cell in row))
    reference = choices[0].reference
    if reference is not None and record.reference is not None:
        row = ["", f"reference: {configuration_words(record, record.reference)}", *_numbers(reference), ""]
        table.add_row(*(Text(cell, style="bold") for cell in row))
    if record.baseline is not None and (baseline := whole(record.baseline)) is not None:
        row = ["", f"linear model: {baseline_words(record.baseline)}", "", *_numbers(baseline)[1:], ""]
        table.add_row(*(Text(cell, style="bold") for cell in row))
    return table


def _numbers(candidate: Candidate) -> list[str]:
    from tlm_search.report.formatting import compact, number

    low, high = candidate.test_interval
    return [
        str(candidate.size),
        f"{100 * candidate.validation_metric:.1f}",
        f"{100 * candidate.test_metric:.1f} ({100 * low:.1f}-{100 * high:.1f})",
        number(candidate.latency_ms),
        compact(candidate.parameters),
    ]


def _matches(choice: Choice) -> str:
    from tlm_search.committee.verdict import IN_A_WORD

    return "" if choice.reference_verdict is None else IN_A_WORD[choice.reference_verdict]
