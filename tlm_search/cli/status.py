"""``tlm-search status``: the progress and the failures of a study."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tlm_search.cli.options import STUDIES, StudiesDir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tlm_search.committee.logits import LogitsOf
    from tlm_search.search.activity import Activity
    from tlm_search.study.record import BaselineRecord, StudentRecord, StudyRecord

_FAILURES_SHOWN = 5
_SPLITS = ("validation", "test")


def status(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    studies_dir: StudiesDir = STUDIES,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show trials by state, members trained and reused, the best committee so far, and why trials failed."""
    from tlm_search.report.evidence import Evidence
    from tlm_search.search.activity import activities
    from tlm_search.store.shared import open_store
    from tlm_search.study.location import find_study, read_study, store_root

    record = read_study(find_study(study, studies_dir))
    evidence = Evidence(record, open_store(store_root(record.folder.parent)))
    summary = summarise(record, evidence.logits_of, evidence.changed_sources(), activities(record.folder, fresh=True))
    print(json.dumps(summary, indent=2) if json_ else "\n".join(lines_of(summary)))


def summarise(
    record: StudyRecord, logits_of: LogitsOf, changed: Sequence[str] = (), told: Sequence[Activity] = ()
) -> dict[str, Any]:
    """Return the document that ``status --json`` prints.

    ``logits_of`` is as in ``select``. ``changed`` names changed sources, ``told`` is the workers' progress.
    """
    from tlm_search.committee.select import select
    from tlm_search.data.rows import account_of
    from tlm_search.remote.mount import shown
    from tlm_search.study.record import STATES

    failed = record.in_state("failed")
    selection = select(
        record.trials,
        record.reference,
        baseline=record.baseline,
        constraints=record.space.constraints,
        top=1,
        logits_of=logits_of,
        confirmed=record.confirmed,
    )
    choice = next(iter(selection.choices), None)
    return {
        "name": record.name,
        "folder": str(record.folder),
        "place": shown(record.folder),
        "objectives": list(record.objectives),
        "directions": list(record.directions),
        "trials": {state: len(record.in_state(state)) for state in STATES},
        "interrupted": sum(trial.interrupted for trial in record.trials),
        "budget": record.space.budget.trials,
        "members": {
            "trained": sum(trial.trained for trial in record.everything_run),
            "reused": sum(trial.reused for trial in record.everything_run),
        },
        "now": [asdict(activity) for activity in told],
        "rows": account_of(record.data),
        "changed_sources": list(changed),
        "students": [_student(student) for student in record.students],
        "reference": _reference(record),
        "baseline": None if record.baseline is None else _baseline(record.baseline),
        "best": None if choice is None else choice.to_document(),
        "failures": [{"trial": trial.number, "error": trial.error} for trial in failed[-_FAILURES_SHOWN:]],
    }


def lines_of(summary: dict[str, Any]) -> list[str]:
    """Return the lines of a summary for people."""
    from tlm_search.data.prepare import changed_words
    from tlm_search.data.rows import account_words
    from tlm_search.report.formatting import plural
    from tlm_search.search.activity import Activity
    from tlm_search.search.display import activity_in_words

    trials, members, best = summary["trials"], summary["members"], summary["best"]
    finished = trials["complete"] + trials["pruned"] + trials["failed"]
    states = ", ".join(f"{count} {state}" for state, count in trials.items() if count) or "none yet"
    lines = [
        f"study      {summary['name']} in {summary['place']}",
        f"trials     {finished} of {summary['budget']} finished: {states}",
        f"members    {members['trained']} trained, {members['reused']} reused",
    ]
    for document in summary["now"]:
        activity = Activity(**document)
        lines.append(f"now        {', '.join((activity.title, *activity_in_words(activity)))}")
    if summary["rows"] is not None:
        lines.append(f"rows       {account_words(summary['rows'])}")
    if summary["changed_sources"]:
        lines.append(f"data       {changed_words(summary['changed_sources'])}")
    if summary["reference"] is not None:
        lines.append(f"reference  {_reference_in_words(summary['reference'])}")
    if (baseline := summary["baseline"]) is not None:
        lines.append(f"baseline   linear model of {baseline['features']}: {_in_words(baseline)}")
    for student in summary["students"]:
        of = f"trial {student['trial']}" if student["teachers"] is None else f"the {student['teachers']} committee"
        lines.append(f"student    of {of}, {student['committee_size']} members: {_in_words(student)}")
    if best is not None:
        lines.append(f"best       trial {best['trial']}, {plural(best['committee_size'], 'member')}: {_in_words(best)}")
        if best["confirmed_test_metric"] is not None:
            low, high = best["confirmed_test_metric_interval"]
            reached = f"{best['confirmed_test_metric']:.4f} ({low:.4f} to {high:.4f})"
            lines.append(f"confirmed  trained once more with fresh seeds: test {reached}")
    elif trials["complete"]:
        lines.append("best       none: no committee meets the constraints of the study")
    lines += [f"failed     trial {failure['trial']}: {failure['error']}" for failure in summary["failures"]]
    return lines


def _in_words(entry: dict[str, Any]) -> str:
    """Write the figures of ``judged`` for people."""
    from tlm_search.committee.metrics import metric_words

    low, high = entry["test_metric_interval"]
    reached = f"{entry['validation_metric']:.4f}, test {entry['test_metric']:.4f} ({low:.4f} to {high:.4f})"
    return f"validation {metric_words(entry['metric'])} {reached}"


def _student(student: StudentRecord) -> dict[str, Any]:
    from tlm_search.committee.choice import judged

    single = student.result.frontier[0]
    return {
        "trial": student.trial,
        "committee_size": student.size,
        "teachers": None if student.mixed is None else student.mixed["how"],
        "documents": student.documents,
        "seeds": len(student.result.members),
        **judged(single),
    }


def _baseline(baseline: BaselineRecord) -> dict[str, Any]:
    from tlm_search.committee.choice import judged

    single = baseline.frontier[0]
    return {
        **judged(single),
        "features": baseline.features,
        "c": baseline.c,
        "seconds": baseline.seconds,
    }


def _reference(record: StudyRecord) -> dict[str, Any] | None:
    """Return the result of the reference, or its error, and how many of its tries are done."""
    reference, tries = record.reference, record.reference_tries
    if reference is None and not tries:
        return None
    trials = {"trials": {"done": len(tries) or 1, "of": len(record.space.reference_tries())}}
    if reference is None:
        return trials
    if reference.error is not None:
        return {"error": reference.error, **trials}
    metric = record.space.task.metric
    named = {"metric": metric, **{f"{split}_metric": reference.metrics[f"{split}_{metric}"] for split in _SPLITS}}
    return {"committee_size": len(reference.members), **reference.metrics, **named, **trials}


def _reference_in_words(reference: dict[str, Any]) -> str:
    done, of = reference["trials"]["done"], reference["trials"]["of"]
    if "error" in reference:
        return f"failed: {reference['error']}"
    if "validation_accuracy" not in reference:
        return f"{done} of {of} tries done; then the best on validation is chosen"
    from tlm_search.committee.metrics import metric_words

    words = f"validation {metric_words(reference['metric'])} {reference['validation_metric']:.4f}"
    words += f", test {reference['test_metric']:.4f}"
    return f"{words}, the best on validation of {of} tries" if of > 1 else words
