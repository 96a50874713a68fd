"""``tlm-search export``: a committee of a study as files that load elsewhere."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tlm_search.cli.options import STUDIES, StudiesDir


def export(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new folder to write.")],
    trial: Annotated[
        int | None,
        typer.Option(metavar="N", help="The committee of trial N; -1 is the reference. By default the best committee."),
    ] = None,
    size: Annotated[int | None, typer.Option(metavar="K", help="Take only the first K members.")] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="greedy|weighted",
            help="A mixed committee, chosen on validation from the members of the best configurations.",
        ),
    ] = None,
    student: Annotated[
        bool,
        typer.Option(
            "--student",
            help="Write a student that distil trained: the best, or that of --trial N --size K or of --from.",
        ),
    ] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Add the committee as one ONNX graph.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Add an ONNX graph with weights of 8 bits too; the card says what it loses.")
    ] = False,
    studies_dir: StudiesDir = STUDIES,
) -> None:
    """Write a committee as files that load elsewhere: weights, tokenizer, labels, model card."""
    from tlm_search.api import Study
    from tlm_search.committee.metrics import metric_words
    from tlm_search.export.facts import no_members
    from tlm_search.report.formatting import interval, percent, plural, points

    found = Study.open(study, studies_dir=studies_dir)
    exported = found.export(out, trial=trial, size=size, student=student, pool=from_, onnx=onnx, int8=int8)
    facts = exported.facts
    chosen = facts.chosen
    mean, low, high = facts.reached("test", facts.metric.name)
    is_trial = chosen.student is None and chosen.mixed is None
    what = f"{plural(chosen.size, 'member')} of {chosen.name}" if is_trial else chosen.name
    print(f"{what} ({chosen.why})")
    print(f"test {metric_words(facts.metric.name)} {percent(mean)} (95% interval over texts {interval(low, high)})")
    print(f"largest difference from the study's test probabilities {facts.difference:.1g}")
    for graph in facts.graphs:
        change, low, high = graph.change
        changed = f"{points(change)} ({points(low)} to {points(high)}) against torch"
        print(f"{graph.name}: test accuracy {percent(graph.accuracy)}, {changed}; probabilities {graph.difference:.1g}")
    if (why_not := no_members(facts.documents)) is not None:
        print("the committee works in predict, serve, ONNX and SoftCommittee")
        print(f"only the folder members/, for transformers alone, is left out: {why_not}")
    print(out)
    print(f"use it:\n    tlm-search predict {shlex.quote(str(out))} TEXT")
