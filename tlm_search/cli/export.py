"""``tlm-search export``: a committee of a study as files that load elsewhere."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def export(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new folder to write.")],
    trial: Annotated[
        int | None, typer.Option(metavar="N", help="A trial; the best committee when not given, -1 is the reference.")
    ] = None,
    size: Annotated[int | None, typer.Option(metavar="K", help="Take only the first K members.")] = None,
    studies_dir: Annotated[Path, typer.Option(help="Folder of the studies.")] = Path("studies"),
) -> None:
    """Write a committee as files that load elsewhere: weights, tokenizer, labels, model card."""
    from tlm_search.export.choose import choose
    from tlm_search.export.write import export_committee
    from tlm_search.members.store import Store
    from tlm_search.report.evidence import Evidence
    from tlm_search.report.words import interval, percent, plural
    from tlm_search.search.folder import find_study, read_study, store_root

    record = read_study(find_study(study, studies_dir))
    store = Store(store_root(record.folder.parent))
    chosen = choose(record, Evidence(record, store), number=trial, size=size)
    exported = export_committee(record, store, chosen, out=out)
    mean, low, high = exported.facts.accuracy("test")
    print(f"{plural(chosen.size, 'member')} of trial {chosen.trial.number} ({chosen.why})")
    print(f"test accuracy {percent(mean)} ({interval(low, high)})")
    print(f"largest difference from the study's test probabilities {exported.facts.difference:.1g}")
    if not exported.plain_members:
        print("the members have no form in transformers; the README.md of the export says why")
    print(out)
    print(f"use it:\n    tlm-search predict {shlex.quote(str(out))} TEXT")
