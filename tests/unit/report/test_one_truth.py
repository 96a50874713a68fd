"""Headline, answer, claims, card and ``best`` say the same of a study's best committee, for every kind of study."""

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property

import builders
import pytest
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.committee.frontier import frontier
from tlm_search.committee.logits import MemberLogits
from tlm_search.committee.metrics import Metric, metric_words
from tlm_search.committee.select import standing_of
from tlm_search.committee.verdict import DOES_THE_WORK, FAILS, HOLDS, IN_A_WORD, IS_ABOVE, UNSURE
from tlm_search.report.claims import claims
from tlm_search.report.claims.answer import standing_sentences
from tlm_search.report.claims.verdicts import NOT_MEASURED
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import plural, points
from tlm_search.report.pages.build import build_report
from tlm_search.report.pages.html import render
from tlm_search.report.pages.markdown import markdown

ROWS = 600


@dataclass(frozen=True)
class Kind:
    """A simulated study: the skills of its models, and the verdicts that are expected."""

    shallow: float = 1.4
    deep: float | None = 1.4
    linear: float | None = 0.2
    metric: str = "accuracy"
    sizes: tuple[int, ...] = (0, 4000)  # of pre-training; one trial for each
    gain: float = 0.0  # the skill that pre-training adds
    members: int = 4
    deep_members: int = 1
    bad_first: bool = False
    matches: str | None = None
    above: str | None = HOLDS
    pretraining: str | None = None  # None: the noise decides


KINDS = {
    "clear": Kind(shallow=1.8, deep=0.6, gain=0.4, matches=HOLDS, pretraining=HOLDS),
    "unclear": Kind(shallow=1.0, deep=1.55, gain=0.1, matches=UNSURE, pretraining=UNSURE),
    "negative": Kind(shallow=0.2, deep=2.5, linear=2.0, gain=-0.4, matches=FAILS, above=FAILS, pretraining=FAILS),
    "no reference": Kind(deep=None),
    "no pre-training": Kind(shallow=1.8, deep=0.6, sizes=(0,), matches=HOLDS, pretraining=NOT_MEASURED),
    "one trial of one member": Kind(
        shallow=0.6, deep=0.6, linear=0.6, sizes=(4000,), members=1, matches=UNSURE, above=UNSURE,
        pretraining=NOT_MEASURED,
    ),
    "macro F1": Kind(shallow=1.8, deep=0.6, gain=0.4, metric="macro_f1", matches=HOLDS, pretraining=HOLDS),
    "recall of a label": Kind(shallow=0.2, deep=2.5, metric="recall", matches=FAILS, above=UNSURE),
    "no baseline": Kind(shallow=1.8, deep=0.6, linear=None, matches=HOLDS, above=None),
    "a reference of several": Kind(shallow=1.8, deep=0.6, deep_members=4, matches=HOLDS),
    "the exported one is bad": Kind(shallow=1.8, deep=1.5, sizes=(4000,), bad_first=True, matches=FAILS),
}  # fmt: skip


class Simulated:
    """A study of one kind, and the logits of its models by the number of their trial."""

    def __init__(self, kind):
        self.kind, self.votes = kind, {}
        positive = "numpy" if kind.metric == "recall" else None
        self.metric = Metric(kind.metric, None if positive is None else 0)
        trials = [
            self.with_votes(
                builders.trial(number, pretrain_size=size, committee_size=kind.members),
                kind.shallow + (kind.gain if size else 0.0),
            )
            for number, size in enumerate(kind.sizes)
        ]
        deep = None
        if kind.deep is not None:
            deep = self.with_votes(builders.reference(committee_size=kind.deep_members), kind.deep)
        linear = None if kind.linear is None else self.with_votes(builders.baseline(), kind.linear)
        task = {"source": "pydocs", "metric": kind.metric, **({} if positive is None else {"positive": positive})}
        changes = {} if deep else {"reference": "none"}
        self.record = builders.study(trials, reference_trial=deep, linear=linear, task=task, **changes)

    def with_votes(self, trial, skill):
        count = len(trial.members)
        validation, test = (
            builders.logits_of(skill, members=count, rows=rows, seed=trial.number + 5) for rows in (ROWS, ROWS + 1)
        )
        if self.kind.bad_first and trial.number >= 0:
            test[0] *= -1
        labels = builders.labels_of(ROWS), builders.labels_of(ROWS + 1)
        self.votes[trial.number] = MemberLogits(validation, test, *labels, self.metric)
        rows = frontier(validation, test, *labels, metric=self.metric)
        rows = [row.having({"latency_ms": 0.3 * row.size}) for row in rows]
        if self.kind.bad_first and trial.number >= 0:
            # Two members are chosen; the first is the bad one.
            rows[1] = rows[1].having({"validation_accuracy": 1.0})
        return replace(trial, frontier=tuple(rows), metrics={**trial.metrics, **rows[-1].figures})

    @cached_property
    def report(self):
        return build_report(self.record, self.evidence)

    @cached_property
    def evidence(self):
        of = self.votes

        class Known(Evidence):
            def logits_of(self, trial):
                return of[trial.number]

        return Known(self.record, None)


@pytest.fixture(params=KINDS, scope="module")
def simulated(request):
    return Simulated(KINDS[request.param])


def only(words, verdict, text):
    """Return whether ``text`` has the words of one verdict and of no other."""
    return [one for one, said in words.items() if said in text] == ([] if verdict is None else [verdict])


def test_every_kind_of_verdict_is_among_them():
    assert {kind.matches for kind in KINDS.values()} == {kind.above for kind in KINDS.values()} | {None}
    assert {kind.pretraining for kind in KINDS.values()} == {HOLDS, FAILS, UNSURE, NOT_MEASURED, None}


def test_the_answer_and_the_claims_have_one_verdict_and_one_figure(simulated):
    kind, report = simulated.kind, simulated.report
    answer, table = report.answer, report.tables["claims"].set_index("claim")
    said = " ".join((answer.headline, *answer.verdict))
    assert only(DOES_THE_WORK, kind.matches, said)
    for claim, verdict, difference, fact in (
        (claims.DOES_WORK, kind.matches, answer.best.test_difference, "Matches the reference"),
        (claims.BEATS_LINEAR, kind.above, answer.best.baseline_difference, "Above the linear model"),
    ):
        row = table.loc[claim]
        assert row["verdict"] == (verdict or NOT_MEASURED)
        if verdict is None:
            assert fact not in answer.table.index
            continue
        assert (row["effect"], row["low"], row["high"]) == (difference.mean, difference.low, difference.high)
        assert answer.table.loc[fact, "Best committee"].split(",")[0] == IN_A_WORD[verdict]
        span = f"{points(difference.mean)} points, 95% interval {points(difference.low)} to {points(difference.high)}"
        assert (span in said) is (claim == claims.DOES_WORK or verdict != HOLDS)
    warnings = {FAILS: "A linear model is better", UNSURE: f"{IS_ABOVE[UNSURE]} a linear model"}
    assert only(warnings, kind.above if kind.above in warnings else None, said)


def test_best_and_its_json_have_that_verdict(simulated, monkeypatch, tmp_path):
    kind, evidence = simulated.kind, simulated.evidence
    monkeypatch.setattr("tlm_search.study.location.find_study", lambda name, studies_dir: tmp_path / name)
    record = replace(simulated.record, folder=tmp_path)
    monkeypatch.setattr("tlm_search.study.location.read_study", lambda folder: record)
    monkeypatch.setattr(Evidence, "logits_of", lambda self, trial: evidence.logits_of(trial))

    def run(*arguments):
        return CliRunner().invoke(app, ["best", "made-up", *arguments], catch_exceptions=False).stdout

    first, text = json.loads(run("--json"))[0], " ".join(run().split())
    assert (first["reference_verdict"], first["baseline_verdict"]) == (kind.matches, kind.above)
    assert first["matches_reference"] == (None if kind.matches is None else kind.matches == HOLDS)
    assert first["beats_baseline"] == (None if kind.above is None else kind.above == HOLDS)
    assert only(DOES_THE_WORK, kind.matches, text)
    subject = f"with {plural(first['committee_size'], 'member')}"
    reasons = {verdict: f"{subject} {words} the linear model" for verdict, words in IS_ABOVE.items()}
    assert only(reasons, kind.above, text)


def test_the_card_has_that_verdict(simulated):
    kind, report = simulated.kind, simulated.report
    standing = standing_of(
        report.answer.best.candidate,
        simulated.record.reference,
        baseline=simulated.record.baseline,
        logits_of=simulated.evidence.logits_of,
    )
    assert standing == report.answer.best
    said = " ".join(standing_sentences(simulated.record, standing))
    assert only(DOES_THE_WORK, kind.matches, said)
    assert only({verdict: f"It {words} a linear model" for verdict, words in IS_ABOVE.items()}, kind.above, said)


def test_pre_training_has_one_verdict_and_one_figure(simulated):
    report = simulated.report
    claim = report.tables["claims"].set_index("claim").loc[claims.HELPS]
    assert claim["verdict"] == (simulated.kind.pretraining or claim["verdict"])
    if "pretraining" not in report.figures:
        return
    page = re.sub(r"\s+", " ", render(simulated.record, report))
    [section] = re.findall(r'<section id="pretraining".*?</h2> <p>(.*?)</p>', page)
    says = {HOLDS: "Pre-training helps", FAILS: "Pre-training harms", UNSURE: "cannot tell whether pre-training helps"}
    assert only(says, claim["verdict"], section)
    figure = f"{points(claim['effect'])} points of test {metric_words(simulated.kind.metric)}"
    assert f"{figure} ({points(claim['low'])} to {points(claim['high'])})" in section


def test_no_sentence_speaks_of_another_metric(simulated):
    report = simulated.report
    # Bins of confidence and the rows of a label show an accuracy, even if the task has another metric.
    drawn = [figure.layout for name, figure in report.figures.items() if name not in ("calibration", "labels")]
    words = [text for layout in drawn for text in (layout.title.text, layout.xaxis.title.text, layout.yaxis.title.text)]
    named = metric_words(simulated.kind.metric)
    page = re.sub(r"<script.*?</script>|<style.*?</style>", "", render(simulated.record, report), flags=re.DOTALL)
    assert named in markdown(simulated.record, report)
    assert f"points of test {named}" in page
    assert [text for text in words if text and "accuracy" in text and named not in text] == []
