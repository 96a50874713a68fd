"""``tlm-search distil``: train single models on the answers of a committee of a study."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from tlm_search.cli.options import STUDIES, StudiesDir
from tlm_search.errors import InterruptedStudyError
from tlm_search.passwords import masked


def distil(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    trial: Annotated[
        int | None,
        typer.Option(metavar="N", help="Learn from the committee of trial N; by default from the best committee."),
    ] = None,
    size: Annotated[int | None, typer.Option(metavar="K", help="Learn from the first K members only.")] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="greedy|weighted",
            help="Learn from a mixed committee, chosen on validation from the members of the best configurations.",
        ),
    ] = None,
    documents: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Learn from the first N documents of the corpus too; they need no labels."
        ),
    ] = 0,
    studies_dir: StudiesDir = STUDIES,
) -> None:
    """Train single models on a committee's mean probabilities, and record them in the study. Safe to repeat."""
    from tlm_search.api import Study
    from tlm_search.report.figures.students import students_table, students_words

    try:
        distilled = Study.open(study, studies_dir=studies_dir).distil(
            trial=trial, size=size, pool=from_, documents=documents
        )
    except KeyboardInterrupt:
        raise InterruptedStudyError("interrupted", hint="run the same command to train the rest") from None
    for first, *lines in students_words(students_table(distilled.record, distilled.evidence)):
        print("\n    ".join([first, *lines]))
    name = shlex.quote(study)
    where = "" if studies_dir == STUDIES else f" --studies-dir {shlex.quote(masked(studies_dir))}"
    print(f"write the report, which shows the students:\n    tlm-search report {name}{where}")
    out = shlex.quote(f"{distilled.record.folder.name}-student")
    print(f"export the best student:\n    tlm-search export {name} --student --out {out}{where}")
