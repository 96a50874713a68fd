"""What a report says about the tuning of both sides: the trials of each, and choices at the end of a searched range."""

from dataclasses import replace
from typing import Any

import builders
import pytest
from typer.testing import CliRunner

from tlm_search.cli.main import app
from tlm_search.cli.status import lines_of, summarise
from tlm_search.report.claims.answer import answer_of
from tlm_search.report.claims.cautions import cautions, reference_tries_table, trials_of_each
from tlm_search.report.evidence import Evidence
from tlm_search.report.pages.build import build_report
from tlm_search.report.pages.html import notes_of, render
from tlm_search.report.pages.markdown import markdown
from tlm_search.study.record import StudyRecord

LOW, MIDDLE, HIGH = 1e-4, 1e-3, 1e-2  # values of the fine-tuning rate, which builders.SEARCH searches
EDGE = (
    "has fine-tuning rate 0.01, at the upper end of what was searched (0.0001 to 0.01): a higher value may be better."
)
TRIALS = "The committees had 1 trial, the reference 3."
TUNED = {**builders.REFERENCE, "trials": 3}


def study(committee: float = MIDDLE, reference: float | None = MIDDLE, **changes: Any) -> StudyRecord:
    """One trial with its fine-tuning rate, and a reference of three tries, of which the second is chosen."""
    trials = [builders.trial(0, finetune_learning_rate=committee, heads=8)]
    if reference is None:
        return builders.study(trials, **changes)
    chosen = builders.reference(finetune_learning_rate=reference)
    tries = [builders.reference(finetune_learning_rate=rate) for rate in (2e-3, 4e-3)]
    made = builders.study(trials, reference_trial=chosen, **{"reference": TUNED, **changes})
    return replace(made, reference_tries=(tries[0], chosen, tries[1]))


def test_nothing_is_said_where_both_are_chosen_inside():
    assert cautions(study()) == ()


@pytest.mark.parametrize(
    ("rate", "end", "more"), [(HIGH, "upper", "higher"), (9.9e-3, "upper", "higher"), (LOW, "lower", "lower")]
)
def test_a_choice_at_an_end_is_told_of_either_side(rate: float, end: str, more: str):
    for side, record, who in (
        ("committee", study(committee=rate), "The best committee has"),
        ("reference", study(reference=rate), "The reference has"),
    ):
        (caution,) = cautions(record)
        assert (caution.kind, caution.side, caution.setting) == ("edge", side, "finetune_learning_rate")
        assert caution.words.startswith(f"{who} fine-tuning rate {rate:.3g}, at the {end} end of what was searched")
        assert caution.words.endswith(f"a {more} value may be better.")


def test_a_value_that_the_reference_gives_beyond_the_range_is_at_its_end():
    (caution,) = cautions(study(reference=5e-5))
    assert caution.side == "reference"
    assert "at the lower end" in caution.words


def test_a_reference_of_one_trial_chose_nothing():
    record = builders.study(
        [builders.trial(0, finetune_learning_rate=MIDDLE)],
        reference_trial=builders.reference(finetune_learning_rate=HIGH),
    )
    assert cautions(record) == ()


def test_what_is_not_nuisance_is_advice_and_no_caution():
    record = study()  # its eight heads are the largest value that was searched
    page = render(record, build_report(record, Evidence(record, None)))
    assert "The best committee has heads = 8, the upper end of its range" in page
    assert "heads" not in "".join(caution.words for caution in cautions(record))


def test_a_failed_or_unfinished_reference_has_no_caution():
    unfinished = replace(study(reference=HIGH), reference=None)
    assert cautions(unfinished) == ()
    failed = builders.trial(-1, state="failed", **{**builders.REFERENCE, "finetune_learning_rate": HIGH})
    assert cautions(replace(study(), reference=failed)) == ()


def test_a_reference_below_the_linear_model_is_told_first():
    record = study(committee=HIGH)
    deep, linear = (trial.frontier[-1].mean("test", "accuracy") for trial in (record.reference, builders.baseline(6.0)))
    assert deep < linear
    told, edge = cautions(replace(record, baseline=builders.baseline(6.0)))
    assert (told.kind, told.side, edge.kind) == ("below_baseline", "reference", "edge")
    assert told.words.startswith(
        f"The reference is below the linear model, {100 * deep:.1f}% on test against {100 * linear:.1f}%: "
    )
    assert cautions(replace(study(), baseline=builders.baseline(0.1))) == ()
    failed = builders.trial(-1, state="failed", **builders.REFERENCE)
    assert cautions(replace(study(), reference=failed, baseline=builders.baseline(6.0))) == ()


def test_each_side_has_its_trials():
    assert trials_of_each(study()) == TRIALS
    many = builders.study(builders.grid(24), reference_trial=builders.reference())
    assert trials_of_each(many) == "The committees had 24 trials, the reference 1."
    assert trials_of_each(study(reference=None)) is None
    record = study()
    assert trials_of_each(record) in answer_of(record, Evidence(record, None)).verdict


def test_page_and_markdown_show_them():
    record = study(committee=HIGH, reference=HIGH)
    report = build_report(record, Evidence(record, None))
    page, text = render(record, report), markdown(record, report)
    for words in (f"The best committee {EDGE}", f"The reference {EDGE}", TRIALS):
        assert words in page
        assert words in text
    assert "The best committee has finetune_learning_rate = " not in page  # the page says this only once
    assert "Tries of the reference" in page
    assert "## Tries of the reference" in text


def test_best_shows_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    record = replace(study(committee=HIGH, reference=HIGH), folder=tmp_path)
    monkeypatch.setattr("tlm_search.study.location.find_study", lambda name, studies_dir: tmp_path / name)
    monkeypatch.setattr("tlm_search.study.location.read_study", lambda folder: record)
    result = CliRunner().invoke(app, ["best", "made-up"], catch_exceptions=False)
    said = " ".join(result.stdout.split())
    assert f"The best committee {EDGE}" in said
    assert f"The reference {EDGE}" in said
    assert TRIALS in said


def test_the_table_of_tries():
    table = reference_tries_table(study())
    assert list(table["try"]) == [1, 2, 3]
    assert list(table["chosen"]) == ["", "yes", ""]
    assert list(table["finetune_learning_rate"]) == [2e-3, MIDDLE, 4e-3]
    assert table["test_accuracy"].notna().all()
    empty = reference_tries_table(builders.study())
    assert empty.empty
    assert len(empty.columns) > 1


def test_a_reference_in_the_making_is_told_as_such():
    record = replace(study(), reference=None)
    record = replace(record, reference_tries=record.reference_tries[:2])
    assert "The reference is not chosen yet: 2 of its 3 tries are done." in notes_of(record)
    summary = summarise(record, lambda _: None)
    assert summary["reference"] == {"trials": {"done": 2, "of": 3}}
    assert "reference  2 of 3 tries done; then the best on validation is chosen" in lines_of(summary)


def test_status_tells_how_many_trials_the_reference_had():
    record = study()
    summary = summarise(record, lambda _: None)
    assert summary["reference"]["trials"] == {"done": 3, "of": 3}
    assert summary["reference"]["test_accuracy"] == record.reference.metrics["test_accuracy"]
    assert any("the best on validation of 3 tries" in line for line in lines_of(summary))
    assert summary["members"]["trained"] == sum(r.trained for r in (*record.trials, *record.reference_tries))
    one = summarise(builders.study(reference_trial=builders.reference()), lambda _: None)
    assert one["reference"]["trials"] == {"done": 1, "of": 1}
    assert summarise(builders.study(), lambda _: None)["reference"] is None
