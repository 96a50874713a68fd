"""The answer on top of a report: the best committee, how it compares with the reference, and what to run next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from tlm_search.committee.candidates import Candidate, candidates, configurations, whole
from tlm_search.committee.choice import Choice
from tlm_search.committee.metrics import metric_words
from tlm_search.committee.select import select
from tlm_search.committee.verdict import DOES_THE_WORK, FAILS, HOLDS, IN_A_WORD, IS_ABOVE, MARGIN, Difference, Verdict
from tlm_search.data.rows import account_of, account_words
from tlm_search.report.claims.cautions import Caution, cautions, confirmation_words, trials_of_each
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import (
    NONE,
    compact,
    duration,
    interval,
    milliseconds,
    number,
    percent,
    plural,
    points,
)
from tlm_search.report.privacy import source_name
from tlm_search.report.tables.ranking import pool_of_study
from tlm_search.report.tables.tables import baseline_words, configuration_words
from tlm_search.space.task import METRICS_OF_ONE_LABEL
from tlm_search.study.record import BaselineRecord, StudyRecord, TrialRecord

CONTINUE = "continue the study"


@dataclass(frozen=True)
class Answer:
    """The answer in sentences, and as a table with one column for each committee.

    ``cautions`` say how far to trust it. ``next_commands`` are pairs of a purpose and a command.
    """

    headline: str
    verdict: tuple[str, ...]
    best: Choice | None
    cheapest: Choice | None
    table: pd.DataFrame
    next_commands: tuple[tuple[str, str], ...]
    cautions: tuple[Caution, ...] = ()


def answer_of(record: StudyRecord, evidence: Evidence) -> Answer:
    """Choose committees on validation, compare them on test, and put the answer into words."""
    choose = partial(
        select,
        record.trials,
        record.reference,
        baseline=record.baseline,
        constraints=record.space.constraints,
        top=1,
        logits_of=evidence.logits_of,
        confirmed=record.confirmed,
    )
    best = next(iter(choose().choices), None)
    cheapest = None
    if best is not None and best.reference is not None:
        # Validation chooses it. If test does not confirm that it matches, it is not an answer.
        cheapest = next((choice for choice in choose(match_reference=True).choices if choice.matches_reference), None)
    # If a linear model is as good, say that first.
    sentences = [_headline(record, best), *_verdict(record, best, cheapest)]
    if best is not None and (confirmation := confirmation_words(record, best)) is not None:
        sentences.append(confirmation)
    warning = None if best is None else linear_warning(best)
    headline, *verdict = sentences if warning is None else (warning, *sentences)
    return Answer(
        headline=headline,
        verdict=tuple(verdict),
        best=best,
        cheapest=cheapest,
        table=_table(record, best, cheapest),
        next_commands=tuple(_next_commands(record, best, cheapest)),
        cautions=cautions(record, list(map(source_name, evidence.changed_sources()))),
    )


def linear_warning(choice: Choice, *, subject: str = "the best committee") -> str | None:
    """Return the sentence that comes first if a committee is not shown to be above the linear model.

    Return None if the committee is above it, or if the study has no linear model.
    """
    baseline, difference, verdict = choice.baseline, choice.baseline_difference, choice.baseline_verdict
    if baseline is None or difference is None or verdict is None or verdict == HOLDS:
        return None
    span, linear, ours = difference_words(difference), percent(baseline.test_metric), _reached(choice.candidate)
    if verdict == FAILS:
        reach = f"TF-IDF and logistic regression reach {linear} on test"
        return f"A linear model is better: {reach}, {subject} {ours} ({span})."
    return (
        f"{_capital(subject)} {IS_ABOVE[verdict]} a linear model: {ours} on test, TF-IDF and logistic regression "
        f"{linear} ({span})."
    )


def reference_sentence(choice: Choice, *, subject: str) -> str | None:
    """Say whether the chosen committee, named ``subject``, does the work of the reference; None without a reference."""
    if choice.reference is None or choice.reference_verdict is None:
        return None
    depth, size = number(choice.reference.trial.settings.get("depth")), choice.reference.size
    models = f"{size} models of " if size > 1 else ""
    return f"{_capital(subject)} {DOES_THE_WORK[choice.reference_verdict]} the reference of {models}depth {depth}."


def difference_words(difference: Difference) -> str:
    """Write a difference with its interval, and with that of the exported members if they differ."""
    words = f"{points(difference.mean)} points, 95% interval {points(difference.low)} to {points(difference.high)}"
    if (first := difference.exported) is None:
        return words
    return f"{words}; its first members, which are exported, {difference_words(first)}"


def standing_sentences(record: StudyRecord, choice: Choice, *, subject: str = "it") -> list[str]:
    """Say how a committee compares with the reference and the linear model, as far as the study has them."""
    sentences = []
    compared, difference = reference_sentence(choice, subject=subject), choice.test_difference
    if compared is not None and difference is not None and choice.reference is not None:
        reach = f"which reaches {_reached(choice.reference)} on the same test texts"
        sentences.append(f"{compared[:-1]}, {reach} ({difference_words(difference)}).")
    above, verdict = choice.baseline_difference, choice.baseline_verdict
    if record.baseline is not None and choice.baseline is not None and above is not None and verdict is not None:
        model = f"a linear model (logistic regression, {baseline_words(record.baseline)})"
        reach = f"which reaches {_reached(choice.baseline)} on the same test texts"
        sentences.append(
            f"{_capital(subject)} {IS_ABOVE[verdict]} {model}, fitted to the same training texts, {reach} "
            f"({difference_words(above)})."
        )
    return sentences


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _reached(candidate: Candidate) -> str:
    """Write 81.6% for an accuracy, and 81.6% macro F1."""
    named = "" if candidate.metric == "accuracy" else f" {metric_words(candidate.metric)}"
    return percent(candidate.test_metric) + named


def _headline(record: StudyRecord, best: Choice | None) -> str:
    if best is None:
        finished = any(configurations(record.trials))
        return f"No committee {'meets the constraints of the study' if finished else 'has finished'} yet."
    committee = _committee_words(best.candidate, deep=not record.space.is_own_trainer)
    compared = reference_sentence(best, subject=committee)
    return compared or f"The best committee so far is {committee}: {_reached(best.candidate)} on test."


def _verdict(record: StudyRecord, best: Choice | None, cheapest: Choice | None) -> tuple[str, ...]:
    left_out = pool_of_study(record).reasons
    if best is None:
        return left_out or ("Write the page again when a trial has finished.",)
    if best.reference is None:
        if record.space.reference is None:
            return left_out
        failed = record.reference is not None and record.reference.state == "failed"
        why = "The reference failed" if failed else "The reference is not finished"
        return (f"{why}, so committees are not compared with it.", *left_out)
    sentences = [f"It {_comparison_words(best)}"]
    if cheapest is not None and _key(cheapest) != _key(best):
        cheaper = f"A cheaper one{' also' if best.matches_reference else ''} does the work of the reference: "
        sentences.append(f"{cheaper}{_committee_words(cheapest.candidate)} {_comparison_words(cheapest)}")
    elif cheapest is not None:
        sentences.append("No cheaper committee is shown to do so.")
    alone = _one_of(best.reference)
    if alone is not None:
        sentences.append(
            f"One model of the reference alone reaches {_with_interval(alone.test_metric, alone.test_interval)}."
        )
    if (trials := trials_of_each(record)) is not None:
        sentences.append(trials)
    return (*sentences, *left_out)


def _one_of(reference: Candidate) -> Candidate | None:
    """Return one model of a reference that is a committee, as the mean of its models; None for a single model."""
    trial = reference.trial
    assert isinstance(trial, TrialRecord)
    return candidates(trial)[0] if reference.size > 1 else None


def _comparison_words(choice: Choice) -> str:
    reference, difference = choice.reference, choice.test_difference
    assert reference is not None
    assert difference is not None
    return (
        f"reaches {_reached(choice.candidate)} on test against {percent(reference.test_metric)} "
        f"({difference_words(difference)}), at {cost_words(choice.candidate, reference)}."
    )


def _committee_words(candidate: Candidate, *, deep: bool = True) -> str:
    """Name a committee; a model of the user's own trainer is not ``deep``, because it has no depth."""
    depth = f" of depth {number(candidate.trial.settings.get('depth'))}" if deep else ""
    return f"a single model{depth}" if candidate.size == 1 else f"a committee of {candidate.size} models{depth}"


def cost_words(candidate: Candidate, reference: Candidate) -> str:
    """Write the cost of a committee relative to the reference: 35% of its latency and 2.7 times its parameters."""
    parts = []
    for name, words in (("latency_ms", "latency"), ("parameters", "parameters"), ("training_flops", "training cost")):
        own, other = getattr(candidate, name), getattr(reference, name)
        if own is not None and other:
            ratio = own / other
            parts.append(f"{ratio:.0%} of its {words}" if ratio < 1.995 else f"{ratio:.1f} times its {words}")
    return " and ".join(", ".join(parts).rsplit(", ", 1)) if parts else "a cost that was not measured"


def _table(record: StudyRecord, best: Choice | None, cheapest: Choice | None) -> pd.DataFrame:
    columns: dict[str, dict[str, str]] = {}
    if best is not None:
        columns["Best committee"] = _facts(record, best.candidate, best)
    if best is not None and cheapest is not None and _key(best) != _key(cheapest):
        columns["Cheapest that matches"] = _facts(record, cheapest.candidate, cheapest)
    reference = None if record.reference is None else whole(record.reference)
    if reference is not None:
        again = reference if best is None or best.reference is None else best.reference
        columns["Reference"] = _facts(record, again, None)
        if again != reference:
            columns["Reference"]["In the search"] = _with_interval(reference.test_metric, reference.test_interval)
        if (alone := _one_of(reference)) is not None:
            columns["One model of it"] = _facts(record, alone, None)
    if record.baseline is not None and columns:
        columns["Linear model"] = _facts_of_baseline(record, record.baseline)
    table = pd.DataFrame(columns).fillna("")
    if columns:
        table = table.loc[list(next(iter(columns.values())))]
    return table[(table != "").any(axis=1)]  # without a reference its rows are empty


def _key(choice: Choice) -> tuple[int, int]:
    return choice.candidate.trial.number, choice.candidate.size


def _facts(record: StudyRecord, candidate: Candidate, choice: Choice | None) -> dict[str, str]:
    trial = candidate.trial
    assert isinstance(trial, TrialRecord)
    facts = {
        "Members": number(candidate.size),
        "Configuration": configuration_words(record, trial, nuisance=True) or "all settings are fixed",
        **_judged(record, candidate),
        "In the search": "",
        _exported(record): "",
        "Latency": milliseconds(candidate.latency_ms),
        "Parameters": compact(candidate.parameters),
        "Training": _training_words(candidate),
        "Against the reference": "",
        "Difference on test": "",
        "Matches the reference": "",
        "Above the linear model": "",
    }
    if choice is not None and (searched := choice.in_search) is not None:
        before = searched.candidate
        facts["In the search"] = _with_interval(before.test_metric, before.test_interval)
    if choice is not None and candidate.size < len(trial.frontier):
        facts[_exported(record)] = percent(choice.exported_test_metric)
    if choice is not None and (above := choice.baseline_difference) is not None:
        facts["Above the linear model"] = f"{_word(choice.baseline_verdict)}, {_with_span(above)}"
    if choice is not None and (difference := choice.test_difference) is not None:
        facts["Against the reference"] = _place_words(candidate, choice.reference)
        facts["Difference on test"] = _with_span(difference)
        facts["Matches the reference"] = _word(choice.reference_verdict)
    return facts


def _training_words(candidate: Candidate) -> str:
    seconds, flops = duration(candidate.training_seconds), compact(candidate.training_flops)
    return seconds if flops == NONE else f"{flops} FLOPs, {seconds}"


def _judged(record: StudyRecord, candidate: Candidate) -> dict[str, str]:
    """Return the task's metric on test and validation, and the other metrics of a positive label on test."""
    task = record.space.task
    facts = {
        f"Test {_of_label(task.metric, task.positive)}": _with_interval(candidate.test_metric, candidate.test_interval),
        f"Validation {_of_label(task.metric, task.positive)}": _with_interval(
            candidate.validation_metric, candidate.validation_interval
        ),
    }
    others = ("accuracy", *METRICS_OF_ONE_LABEL) if task.metric != "accuracy" else METRICS_OF_ONE_LABEL
    for name in others:
        if name != task.metric and (reached := candidate.on_test(name)) is not None:
            facts[f"Test {_of_label(name, task.positive)}"] = _with_interval(*reached)
    return facts


def words_of_label(record: StudyRecord, candidate: Candidate, *, subject: str) -> str | None:
    """Write the metrics of the positive label that the ``subject`` has on test; None without a positive label."""
    figures = [
        f"{metric_words(name)} {_with_interval(*reached)}"
        for name in METRICS_OF_ONE_LABEL
        if (reached := candidate.on_test(name)) is not None
    ]
    return f"Of {record.space.task.positive} on test, {subject} has {', '.join(figures)}." if figures else None


def _exported(record: StudyRecord) -> str:
    return f"Test {_of_label(record.space.task.metric, record.space.task.positive)}, as exported"


def _of_label(metric: str, label: str | None) -> str:
    return metric_words(metric) + (f" of {label}" if metric in METRICS_OF_ONE_LABEL else "")


def _with_interval(value: float, bounds: tuple[float, float]) -> str:
    return f"{percent(value)} ({interval(*bounds)})"


def _facts_of_baseline(record: StudyRecord, baseline: BaselineRecord) -> dict[str, str]:
    linear = whole(baseline)
    assert linear is not None
    return {
        "Configuration": baseline_words(baseline),
        **_judged(record, linear),
        "Parameters": compact(linear.parameters),
        "Training": duration(linear.training_seconds),
    }


def _place_words(candidate: Candidate, reference: Candidate | None) -> str:
    """Say whether the test metric is within, above or below the 95% interval of the reference's."""
    assert reference is not None
    low, high = reference.test_interval
    where = "above" if candidate.test_metric > high else "below" if candidate.test_metric < low else "within"
    return f"{where} its interval"


def _with_span(difference: Difference) -> str:
    span = f"{points(difference.low)} to {points(difference.high)}"
    return f"{points(difference.mean)} points ({span}{', paired' if difference.paired else ''})"


def _word(verdict: Verdict | None) -> str:
    return "" if verdict is None else IN_A_WORD[verdict]


def _next_commands(record: StudyRecord, best: Choice | None, cheapest: Choice | None) -> list[tuple[str, str]]:
    study = shlex.quote(record.name)
    commands = []
    if best is not None and record.space.has_weights:
        purpose = f"export the best committee ({_reached(best.candidate)} on test)"
        commands.append((purpose, _export_command(record, best, out="committee")))
        if cheapest is not None and _key(cheapest) != _key(best):
            purpose = f"or the cheapest that matches the reference ({_reached(cheapest.candidate)} on test)"
            commands.append((purpose, _export_command(record, cheapest, out="cheapest")))
    finished = sum(len(record.in_state(state)) for state in ("complete", "pruned", "failed"))
    if best is None or finished < record.space.budget.trials:
        commands.append((CONTINUE, run_command(record)))
    if best is not None and best.reference is not None:
        commands.append(
            ("list the committees that match, cheapest first", f"tlm-search best {study} --match-reference")
        )
    if best is not None:
        commands.append(("look at the trials one by one", f"tlm-search dashboard {study}"))
    return commands


def _export_command(record: StudyRecord, choice: Choice, *, out: str) -> str:
    words = ["tlm-search", "export", record.name, "--trial", str(choice.candidate.trial.number)]
    return shlex.join([*words, "--size", str(choice.candidate.size), "--out", f"{record.name}-{out}"])


def run_command(record: StudyRecord) -> str:
    """Return the command that runs or continues the study from the copy of its space."""
    space = Path(record.folder.parent.name, record.folder.name, "space.yaml")
    return shlex.join(["tlm-search", "run", str(space), "--name", record.name])


def what_matching_means(metric: str = "accuracy") -> str:
    """Say when a committee matches the reference, and what the intervals count."""
    return (
        "A committee matches the reference, or does its work, if the 95% interval of their difference on test does "
        f"not go below {points(-MARGIN)} points. It does not match if the whole interval lies below that; otherwise "
        "the verdict is unsure. Committees are chosen on validation, so test is fair to all. The interval of "
        f"{'an' if metric[0] == 'a' else 'a'} {metric} counts the test texts and that other members could have been "
        "trained; a paired difference is that of these members on the same texts. A committee of fewer members "
        "than were trained counts as the mean over such committees; its first members, which are exported, have to "
        "match as well."
    )


def rows_sentence(record: StudyRecord) -> str:
    """Say how many rows of the task are used and why others are not; empty before the data are prepared."""
    account = account_of(record.data)
    return "" if account is None else f"Rows of the task: {account_words(account)}."


def summary_line(record: StudyRecord) -> str:
    """Say how many trials are finished, pruned, failed and running: 21 of 24 trials finished, 2 pruned, 1 failed."""
    complete, pruned, failed = (len(record.in_state(state)) for state in ("complete", "pruned", "failed"))
    finished, asked = complete + pruned + failed, record.space.budget.trials
    parts = [f"{finished} of {plural(asked, 'trial')} finished" if finished < asked else f"{plural(finished, 'trial')}"]
    counts = (("pruned", pruned), ("failed", failed), ("running", len(record.in_state("running"))))
    parts += [f"{count} {word}" for word, count in counts if count]
    return ", ".join(parts)
