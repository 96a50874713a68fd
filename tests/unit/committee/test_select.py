from dataclasses import replace

import builders
import numpy as np
import pytest

from tlm_search.committee.candidates import candidates, configurations
from tlm_search.committee.choice import Choice
from tlm_search.committee.frontier import frontier
from tlm_search.committee.logits import MemberLogits
from tlm_search.committee.select import select
from tlm_search.committee.verdict import FAILS, HOLDS, MARGIN, UNSURE, Difference

ROWS = 1000
KEYS = [
    "trial",
    "params",
    "committee_size",
    "validation_accuracy",
    "test_accuracy",
    "test_accuracy_interval",
    "metric",
    "validation_metric",
    "test_metric",
    "test_metric_interval",
    "latency_ms",
    "parameters",
    "reference_accuracy",
    "baseline_accuracy",
    "reference_metric",
    "baseline_metric",
    "matches_reference",
    "beats_baseline",
    "reference_verdict",
    "baseline_verdict",
    "exported_test_accuracy",
    "exported_test_metric",
    "confirmed_test_accuracy",
    "confirmed_test_accuracy_interval",
    "confirmed_test_metric",
    "confirmed_test_metric_interval",
    "confirmed_reference_accuracy",
    "confirmed_reference_metric",
]


def trial(number, **params):
    return builders.trial(number, rows=ROWS, **params)


@pytest.fixture(scope="module")
def deep():
    return builders.reference(rows=ROWS)


STRONG = {"heads": 8, "pretrain_size": 4000, "committee_size": 8}
WEAK = {"heads": 2, "committee_size": 2}


def numbers(selection):
    return [choice.candidate.trial.number for choice in selection.choices]


def test_equal_settings_are_one_configuration_with_the_most_members():
    trials = [trial(0, committee_size=2), trial(1, committee_size=4), trial(2, heads=8), trial(3, state="pruned")]
    assert [t.number for t in configurations(trials)] == [1, 2]


def test_parameters_follow_the_size_but_latency_does_not():
    given = trial(0, committee_size=4)
    small, *_, last = candidates(given)
    assert small.parameters == given.metrics["parameters"] / 4
    assert small.training_flops == given.metrics["training_flops"] / 4
    assert small.latency_ms is None
    assert last.latency_ms == given.metrics["latency_ms"]


def test_a_size_that_has_costs_of_its_own_has_those():
    """For example, a linear model counts once for any number of members."""
    given = trial(0, committee_size=4)
    rows = tuple(row.having({"parameters": 100.0 + row.size}) for row in given.frontier)
    small, *_, last = candidates(replace(given, frontier=rows, metrics={**given.metrics, "parameters": 104.0}))
    assert (small.parameters, last.parameters) == (101, 104)
    assert small.training_flops == given.metrics["training_flops"] / 4


def test_the_best_is_the_highest_validation_accuracy_whatever_the_test_says(deep):
    selection = select([trial(0, **WEAK), trial(1, **STRONG), trial(2)], deep)
    assert numbers(selection)[0] == 1
    order = [choice.candidate.validation_accuracy for choice in selection.choices]
    assert order == sorted(order, reverse=True)
    assert list(selection.choices[0].to_document()) == KEYS


def test_a_size_is_chosen_for_each_configuration_the_smaller_where_equal():
    given = trial(0, committee_size=4)
    second = given.frontier[1]
    equal = {"validation_accuracy": second.figures["validation_accuracy"]}
    flat = replace(given, frontier=(*given.frontier[:2], *(row.having(equal) for row in given.frontier[2:])))
    assert select([flat], None).choices[0].candidate.size == 2


def test_limits_leave_out_what_is_above_them_or_was_not_measured(deep):
    given = trial(0, committee_size=4)
    parameters = given.metrics["parameters"]
    assert select([given], deep, max_parameters=parameters / 2).choices[0].candidate.size == 2
    assert select([given], deep, max_latency_ms=1e9).choices[0].candidate.size == 4
    none = select([given], deep, max_latency_ms=1e-9)
    assert none.choices == ()
    assert "0 of 1 configuration" in none.reasons[0]


def test_what_is_as_deep_as_the_reference_is_left_out(deep):
    selection = select([trial(0, depth=6, heads=8), trial(1, **WEAK)], deep)
    assert numbers(selection) == [1]
    assert "1 configuration left out" in selection.reasons[0]


def test_the_cheapest_that_matches_comes_first(deep):
    trials = [trial(0, **STRONG), trial(1, **WEAK), trial(2, **{**STRONG, "depth": 2})]
    selection = select(trials, deep, match_reference=True)
    assert 1 not in numbers(selection)
    assert all(choice.matches_on_validation for choice in selection.choices)
    costs = [choice.candidate.parameters for choice in selection.choices]
    assert costs == sorted(costs)
    best = select(trials, deep).choices[0].candidate
    assert selection.choices[0].candidate.parameters < best.parameters
    assert "fewest parameters" in selection.reasons[-2]
    assert "points" in selection.reasons[-1]


def test_without_a_match_or_a_reference_the_reason_is_told(deep):
    nothing = select([trial(1, **WEAK)], deep, match_reference=True)
    assert nothing.choices == ()
    assert "No committee matches" in nothing.reasons[-1]
    alone = select([trial(1, **WEAK)], None, match_reference=True)
    assert "no finished reference" in alone.reasons[-1]
    [choice] = select([trial(1, **WEAK)], None).choices
    assert choice.matches_reference is None
    assert choice.to_document()["reference_accuracy"] is None


def test_a_failed_reference_is_none():
    failed = builders.trial(-1, state="failed", **builders.REFERENCE)
    assert select([trial(0)], failed).choices[0].reference is None


def test_a_study_without_results_selects_nothing(deep):
    assert select([], deep).choices == ()
    assert select([trial(0, state="failed"), trial(1, state="running")], deep).choices == ()


def votes(skill, members, seed):
    validation, test = (builders.logits_of(skill, members=members, rows=rows, seed=seed) for rows in (ROWS, ROWS + 1))
    return MemberLogits(validation, test, builders.labels_of(ROWS), builders.labels_of(ROWS + 1))


def test_logits_make_the_comparison_paired_and_narrower(deep):
    given = trial(0, **STRONG)
    of = {
        0: votes(builders.skill_of(given.settings), 8, 0),
        -1: votes(builders.skill_of(deep.settings), 1, builders.seed_of(-1)),
    }
    paired = select([given], deep, logits_of=lambda t: of[t.number]).choices[0]
    unpaired = select([given], deep).choices[0]
    assert paired.test_difference.paired
    assert not unpaired.test_difference.paired
    assert paired.test_difference.mean == pytest.approx(unpaired.test_difference.mean, abs=0.02)

    def width(difference):
        return difference.high - difference.low

    assert width(paired.test_difference) < width(unpaired.test_difference)


def test_a_paired_difference_is_that_of_the_accuracies_at_every_size(deep):
    given = trial(0, **{**STRONG, "committee_size": 6})
    of = {
        0: votes(builders.skill_of(given.settings), 6, 0),
        -1: votes(builders.skill_of(deep.settings), 1, builders.seed_of(-1)),
    }
    rows = frontier(of[0].validation, of[0].test, of[0].validation_labels, of[0].test_labels)
    given = replace(given, frontier=rows)
    for size in (1, 3, 6):
        measured = tuple(row.having({"latency_ms": abs(row.size - size)}) for row in rows)
        only = replace(given, frontier=measured, metrics={**given.metrics, "latency_ms": 6 - size})
        [choice] = select([only], deep, max_latency_ms=0, logits_of=lambda t: of[t.number]).choices
        assert choice.candidate.size == size
        for split, difference in (("test", choice.test_difference), ("validation", choice.validation_difference)):
            assert difference.paired
            printed = rows[size - 1].mean(split, "accuracy") - getattr(choice.reference, f"{split}_accuracy")
            assert difference.mean == pytest.approx(printed, abs=1e-9)
            assert difference.low < difference.mean < difference.high


def test_fewer_members_match_only_where_the_first_which_are_exported_do_too(deep):
    """One of four members is bad: on average a single member is within the margin, but the exported one is not."""
    labels = builders.labels_of(ROWS)
    good = np.full((ROWS, builders.CLASSES), 0.0)
    good[np.arange(ROWS), labels] = 5.0
    bad = np.where(np.arange(ROWS)[:, None] < ROWS * 0.05, -good, good)
    given, of = trial(0, committee_size=4), {-1: MemberLogits(good[None], good[None], labels, labels)}
    for first, matching in ((bad, 2), (good, 1)):
        members = np.stack([first, good, good, bad if first is good else good])
        of[0] = MemberLogits(members, members, labels, labels)
        only = replace(given, frontier=frontier(members, members, labels, labels))
        accuracy = {"validation_accuracy": 1.0, "test_accuracy": 1.0}
        perfect = replace(deep, frontier=(deep.frontier[0].having(accuracy),))
        selection = select([only], perfect, match_reference=True, logits_of=lambda t: of[t.number])
        [choice] = selection.choices
        assert choice.candidate.size == matching
        assert choice.matches_reference
        single = select(
            [only], perfect, max_parameters=only.metrics["parameters"] / 4, logits_of=lambda t: of[t.number]
        ).choices[0]
        assert single.validation_difference.low >= -MARGIN
        assert single.matches_on_validation is single.matches_reference is (matching == 1)


def test_only_so_many_configurations_are_read(deep, monkeypatch):
    monkeypatch.setattr("tlm_search.committee.select.MAX_PAIRED", 2)
    read = []

    def logits_of(t):
        read.append(t.number)
        return votes(2.0, len(t.frontier), 0)

    selection = select(
        [trial(i, finetune_learning_rate=1e-3 * (1 + i / 100)) for i in range(4)], deep, logits_of=logits_of
    )
    assert list(dict.fromkeys(read)) == [-1, *numbers(selection)[:2]]
    assert [choice.test_difference.paired for choice in selection.choices] == [True, True, False, False]


@pytest.mark.parametrize(
    ("low", "high", "matches", "is_above"),
    [
        (-MARGIN, 0.1, HOLDS, UNSURE),
        (-MARGIN - 1e-6, 0.1, UNSURE, UNSURE),
        (0.01, 0.1, HOLDS, HOLDS),
        (0.0, 0.0, HOLDS, UNSURE),
        (-0.1, -0.01, UNSURE, FAILS),
        (-0.1, -MARGIN - 1e-6, FAILS, FAILS),
    ],
)
def test_the_ends_of_the_interval_decide_the_verdict(low, high, matches, is_above):
    difference = Difference(0.0, low, high, paired=True)
    assert (difference.verdict(margin=MARGIN), difference.verdict()) == (matches, is_above)
    certain = Difference(0.0, 0.05, 0.1, paired=True, exported=difference)
    assert (certain.verdict(margin=MARGIN), certain.verdict()) == (matches, is_above)


def test_test_alone_gives_the_verdict_and_validation_the_choice():
    good, bad = (Difference(mean, mean - 0.01, mean + 0.01, paired=True) for mean in (0.1, -0.1))
    candidate = candidates(trial(0))[0]
    for on_validation, on_test, verdict in ((good, bad, FAILS), (bad, good, HOLDS)):
        choice = Choice(candidate, candidate, on_validation, on_test)
        assert (choice.matches_on_validation, choice.reference_verdict) == (on_validation is good, verdict)
        assert choice.to_document()["matches_reference"] is (verdict == HOLDS)


def test_selection_of_two_thousand_trials_is_fast(deep):
    import time

    trials = builders.grid(2000)
    started = time.process_time()
    select(trials, deep, match_reference=True)
    assert time.process_time() - started < 2  # 0.1 s on an idle core


def test_the_baseline_plays_no_part_in_the_choice_and_is_beaten_on_test_alone(deep):
    trials = [trial(0, **WEAK), trial(1, **STRONG), trial(2)]
    low, high = (builders.baseline(skill, rows=ROWS) for skill in (0.1, 9.0))
    plain = select(trials, deep)
    for linear, beaten in ((low, True), (high, False)):
        selection = select(trials, deep, baseline=linear)
        assert numbers(selection) == numbers(plain)
        assert [choice.beats_baseline for choice in selection.choices] == [beaten] * 3
        document = selection.choices[0].to_document()
        assert document["baseline_accuracy"] == linear.metrics["test_accuracy"]
        assert document["beats_baseline"] is beaten
    assert plain.choices[0].to_document()["beats_baseline"] is None
    assert plain.choices[0].to_document()["baseline_accuracy"] is None
    assert all(c.beats_baseline for c in select(trials, deep, baseline=low, match_reference=True).choices)


def test_an_equal_committee_does_not_beat_the_baseline_and_pairing_sees_a_small_difference():
    given, linear = trial(0, committee_size=1), builders.baseline(rows=ROWS)
    one = votes(1.0, 1, 0)
    better = one.test.copy()
    wrong = np.flatnonzero(better[0].argmax(axis=1) != one.test_labels)[:20]
    better[0, wrong, one.test_labels[wrong]] += 100
    for logits, beaten in ((one.test, False), (better, True)):
        of = {0: replace(one, test=logits), linear.number: one}
        choice = select([given], None, baseline=linear, logits_of=lambda trial, of=of: of[trial.number]).choices[0]
        assert (choice.baseline_difference.paired, choice.beats_baseline) == (True, beaten)
