from dataclasses import replace

import builders
import numpy as np
import pandas as pd
import pytest

from tlm_search.committee.logits import MemberLogits
from tlm_search.committee.verdict import FAILS, HOLDS, UNSURE
from tlm_search.report.claims import claims as room
from tlm_search.report.claims import text as of_text
from tlm_search.report.claims.answer import answer_of
from tlm_search.report.claims.verdicts import NOT_MEASURED
from tlm_search.report.evidence import Evidence

ROWS = 600


class Known(Evidence):
    """Evidence whose members have the skill that the function ``skill`` computes from their settings."""

    def __init__(self, record, skill):
        super().__init__(record, None)
        object.__setattr__(self, "skill", skill)

    def logits_of(self, trial):
        logits = builders.logits_of(
            self.skill(trial.settings), members=len(trial.members), rows=ROWS, seed=builders.seed_of(trial.number)
        )
        return MemberLogits(logits, logits, builders.labels_of(ROWS), builders.labels_of(ROWS))


def study(*trials, reference=None, **changes):
    return builders.study(trials, reference_trial=reference, **changes)


def at_sizes(*sizes, members=4, **settings):
    return [
        builders.trial(number, pretrain_size=size, committee_size=members, **settings)
        for number, size in enumerate(sizes)
    ]


def timed(trial, *, of_one):
    """Set a latency for each size of the trial's committees, proportional to the size."""
    rows = tuple(row.having({"latency_ms": of_one * row.size}) for row in trial.frontier)
    return replace(trial, frontier=rows, metrics={**trial.metrics, "latency_ms": rows[-1].figures["latency_ms"]})


def verdicts(record, skill):
    return claims_of(record, Known(record, skill))


def claims_of(record, evidence):
    table = room.claims(record, evidence, answer_of(record, evidence).best)
    assert tuple(table.columns) == room.COLUMNS
    return table.set_index("claim")


def by_size(skills):
    return lambda settings: skills[settings["pretrain_size"]]


def test_pre_training_that_helps_more_with_more_text_holds():
    table = verdicts(study(*at_sizes(0, 1000, 4000)), by_size({0: 1.0, 1000: 1.5, 4000: 2.0}))
    helps, grows = table.loc[room.HELPS], table.loc[room.GROWS]
    assert helps["verdict"] == grows["verdict"] == HOLDS
    assert 0 < helps["low"] < helps["effect"] < helps["high"]
    assert helps["seeds"] == 4
    assert "pre-trained on 0 and 4,000" in helps["measured_on"]


def test_the_effect_is_the_difference_of_mean_accuracies():
    record = study(*at_sizes(0, 4000))
    evidence = Known(record, by_size({0: 1.0, 4000: 1.5}))
    accuracies = {}
    for trial in record.trials:
        votes = evidence.logits_of(trial)
        accuracies[trial.settings["pretrain_size"]] = (votes.test.argmax(axis=-1) == votes.test_labels).mean()
    effect = claims_of(record, evidence).loc[room.HELPS, "effect"]
    assert effect == pytest.approx(accuracies[4000] - accuracies[0])


def test_growth_is_per_doubling():
    record = study(*at_sizes(1000, 4000))  # two doublings
    evidence = Known(record, by_size({1000: 1.0, 4000: 1.5}))
    right = [(v.test.argmax(axis=-1) == v.test_labels).mean() for v in map(evidence.logits_of, record.trials)]
    assert claims_of(record, evidence).loc[room.GROWS, "effect"] == pytest.approx((right[1] - right[0]) / 2)


def test_pre_training_that_harms_does_not_hold():
    assert verdicts(study(*at_sizes(0, 4000)), by_size({0: 2.0, 4000: 1.0})).loc[room.HELPS, "verdict"] == FAILS


def test_no_difference_cannot_be_told():
    table = verdicts(study(*at_sizes(0, 4000)), by_size({0: 1.5, 4000: 1.5}))
    assert table.loc[room.HELPS, "verdict"] == UNSURE


def test_few_seeds_cannot_tell_even_a_large_difference():
    table = verdicts(study(*at_sizes(0, 4000, members=2)), by_size({0: 0.5, 4000: 2.5}))
    assert table.loc[room.HELPS, "effect"] > 0.2
    assert (table.loc[room.HELPS, "verdict"], table.loc[room.HELPS, "seeds"]) == (UNSURE, 2)


@pytest.mark.parametrize(("skill", "verdict"), [(1.4, HOLDS), (0.4, FAILS)])
def test_a_committee_against_the_reference(skill, verdict):
    deep = timed(builders.reference(committee_size=4), of_one=3.0)
    record = study(*(timed(trial, of_one=0.3) for trial in at_sizes(4000, members=8)), reference=deep)
    table = verdicts(record, lambda settings: skill if settings["depth"] == 1 else 1.4)
    assert table.loc[room.REACHES, "verdict"] == verdict
    assert "against depth 6" in table.loc[room.REACHES, "measured_on"]
    members = int(table.loc[room.REACHES, "measured_on"].split()[0])
    faster = table.loc[room.FASTER]
    assert faster["effect"] == pytest.approx(1 - 0.3 * members / 3.0)
    assert faster["verdict"] == HOLDS
    assert faster["low"] == pytest.approx(faster["effect"])  # these latencies are on a line


@pytest.mark.parametrize(
    ("of_one", "sizes", "verdict"),
    [(3.0, 8, HOLDS), (2.45, 8, UNSURE), (2.0, 8, FAILS), (3.0, 2, UNSURE)],
)
def test_faster_has_a_margin_and_an_interval(of_one, sizes, verdict):
    deep = timed(builders.reference(), of_one=of_one)
    [trial] = at_sizes(4000, members=sizes)
    scattered = tuple(
        row.having({"latency_ms": 0.3 * row.size * (1.01 if row.size % 2 else 0.99)}) for row in trial.frontier
    )
    latency = {"latency_ms": scattered[-1].figures["latency_ms"]}
    trial = replace(trial, frontier=scattered, metrics={**trial.metrics, **latency})
    row = verdicts(study(trial, reference=deep), lambda _: 1.4).loc[room.FASTER]
    assert row["verdict"] == verdict
    assert bool(row["low"] < row["effect"] < row["high"]) is (sizes == 8)


@pytest.mark.parametrize(("skill", "verdict"), [(0.4, HOLDS), (2.6, FAILS)])
def test_the_best_committee_against_the_linear_model(skill, verdict):
    record = replace(study(*at_sizes(4000, members=8)), baseline=builders.baseline())
    row = verdicts(record, lambda settings: 1.4 if settings else skill).loc[room.BEATS_LINEAR]
    assert row["verdict"] == verdict
    assert row["low"] < row["effect"] < row["high"]
    assert pd.isna(row["seeds"])  # the claim is about these models, not about other seeds
    assert "against TF-IDF of words, C = 10" in row["measured_on"]


def test_without_a_linear_model_that_claim_is_not_measured():
    record = study(*at_sizes(4000, members=4))
    assert "no linear baseline" in verdicts(record, lambda _: 1.4).loc[room.BEATS_LINEAR, "measured_on"]


def test_one_reference_is_not_enough_to_say_what_another_would_show():
    record = study(*at_sizes(4000, members=8), reference=builders.reference(committee_size=1))
    assert verdicts(record, lambda _: 1.4).loc[room.REACHES, "verdict"] == NOT_MEASURED
    record = study(*at_sizes(4000, members=8), reference=builders.reference(committee_size=2))
    assert verdicts(record, lambda _: 1.4).loc[room.REACHES, "verdict"] == UNSURE


def test_the_rate_of_each_size_is_chosen_on_validation():
    good, bad = (
        builders.trial(i, pretrain_size=0, finetune_learning_rate=r, committee_size=4)
        for i, r in ((0, 1e-3), (1, 1e-4))
    )
    record = study(good, bad, builders.trial(2, pretrain_size=4000, committee_size=4))
    assert good.frontier[0].figures["validation_accuracy"] > bad.frontier[0].figures["validation_accuracy"]
    skills = {1e-3: 1.5, 1e-4: 0.1}
    table = verdicts(record, lambda settings: skills[settings["finetune_learning_rate"]])
    assert table.loc[room.HELPS, "verdict"] == UNSURE  # against the bad rate, the claim would hold


def test_architectures_are_ranked_on_validation_and_compared_on_test():
    trials = [builders.trial(i, heads=heads, pretrain_size=4000, committee_size=4) for i, heads in enumerate((2, 4, 8))]
    table = verdicts(study(*trials), lambda settings: {2: 0.5, 4: 1.0, 8: 2.0}[settings["heads"]])
    row = table.loc[room.SHAPES]
    assert row["verdict"] == HOLDS
    assert row["measured_on"].startswith("width 128, 8 heads")


def test_what_a_study_does_not_vary_is_said():
    table = verdicts(study(builders.trial(0, committee_size=1)), lambda _: 1.0)
    assert (table["verdict"] == NOT_MEASURED).all()
    assert (table["measured_on"] != "").all()
    assert table["effect"].isna().all()


def test_without_logits_nothing_is_claimed_but_what_the_answer_says():
    record = builders.study(builders.grid(48), reference_trial=builders.reference())
    table = claims_of(record, Evidence(record, None))
    answer = answer_of(record, Evidence(record, None)).best
    assert table.loc[room.DOES_WORK, "verdict"] == answer.reference_verdict
    assert (table.drop(index=[room.DOES_WORK, room.FASTER])["verdict"] == NOT_MEASURED).all()


def test_overlap_compares_the_studies_beside_it(monkeypatch):
    def with_corpus(skill, **corpus):
        record = study(*at_sizes(1000, 4000), corpus={"documents": 9000, **corpus})
        return record, Known(record, lambda settings: skill + 0.0001 * settings["pretrain_size"])

    near = with_corpus(1.5, selection="overlap")
    others = [
        with_corpus(0.9, selection="overlap", skip=4000),
        with_corpus(1.5, selection="weighted_overlap"),
        with_corpus(1.0, selection="random"),
    ]
    monkeypatch.setattr(room, "siblings", lambda *_: [evidence for _, evidence in others])
    table = claims_of(*near)
    assert table.loc[of_text.OVERLAPS, "verdict"] == HOLDS
    assert "skip 0 against 4,000" in table.loc[of_text.OVERLAPS, "measured_on"]
    assert table.loc[of_text.WEIGHTED, "verdict"] == UNSURE
    specific = table.loc[of_text.SPECIFIC]
    assert specific["verdict"] == HOLDS
    assert "overlap, 1,000 texts against 4,000 random ones" in specific["measured_on"]


def beside(monkeypatch, this, other):
    monkeypatch.setattr(room, "siblings", lambda *_: [other[1]])
    return claims_of(*this)


def with_depths(*depths_and_sizes, best, skill, **corpus):
    """A study of several depths; on validation the members of depth ``best`` are slightly better."""
    trials = []
    for number, (depth, size) in enumerate(depths_and_sizes):
        trial = builders.trial(number % 3, depth=depth, pretrain_size=size, committee_size=4)
        first = trial.frontier[0].having({"validation_accuracy": 0.5 + 0.001 * (depth == best)})
        trials.append(replace(trial, number=number, frontier=(first, *trial.frontier[1:])))
    record = study(*trials, corpus={"documents": 9000, **corpus})
    return record, Known(record, skill)


def test_text_is_compared_in_one_architecture(monkeypatch):
    def skill(settings):
        return float(settings["depth"])  # the text makes no difference

    both = ((1, 4000), (2, 4000))
    high = with_depths(*both, best=2, skill=skill, selection="overlap")
    low = with_depths(*both, best=1, skill=skill, selection="overlap", skip=4000)
    assert beside(monkeypatch, high, low).loc[of_text.OVERLAPS, "effect"] == 0


def test_the_architecture_with_most_common_sizes_is_compared(monkeypatch):
    def skill(settings):
        return float(settings["depth"])

    more = [(2, size) for size in (500, 2000, 4000)]
    high = with_depths((1, 1000), (1, 4000), *more, best=2, skill=skill, selection="overlap")
    low = with_depths((1, 1000), (1, 4000), (2, 4000), best=2, skill=skill, selection="weighted_overlap")
    row = beside(monkeypatch, high, low).loc[of_text.WEIGHTED]
    assert row["measured_on"].startswith("weighted_overlap against overlap; depth 1, width 64, pre-trained on 4,000")
    assert row["effect"] == 0


def test_studies_without_a_common_architecture_say_nothing_of_text(monkeypatch):
    high = with_depths((2, 1000), best=2, skill=lambda _: 2.0, selection="overlap")
    low = with_depths((1, 1000), best=1, skill=lambda _: 1.0, selection="overlap", skip=4000)
    row = beside(monkeypatch, high, low).loc[of_text.OVERLAPS]
    assert row["verdict"] == NOT_MEASURED
    assert "no common architecture" in row["measured_on"]
    random = with_depths((1, 4000), best=1, skill=lambda _: 1.0, selection="random")
    row = beside(monkeypatch, high, random).loc[of_text.SPECIFIC]
    assert row["verdict"] == NOT_MEASURED
    assert "both with one architecture" in row["measured_on"]


def test_siblings_differ_in_the_choice_of_their_corpus_alone(tmp_path, monkeypatch):
    def made(name, **changes):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "study.json").write_text("{}")
        corpus = {"documents": 9000, "selection": "overlap", **changes.pop("corpus", {})}
        return replace(study(name=name, folder=folder, corpus=corpus, **changes), data={"task_fingerprint": "t"})

    records = {
        record.folder.name: record
        for record in (
            made("this"),
            made("low", corpus={"skip": 100}),
            made("random", corpus={"selection": "random"}),
            made("other-seed", seed=1),
            made("other-text", corpus={"documents": 8000}),
        )
    }
    monkeypatch.setattr(of_text, "read_study", lambda folder: records[folder.name])
    found = of_text.siblings(records["this"], Evidence(records["this"], None))
    assert [evidence.record.folder.name for evidence in found] == ["low", "random"]
    plain = study(folder=tmp_path / "this")
    assert of_text.siblings(plain, Evidence(plain, None)) == []


def test_the_table_does_not_depend_on_the_order_of_trials():
    trials = at_sizes(0, 1000, 4000)
    skill = by_size({0: 1.0, 1000: 1.5, 4000: 2.0})
    forward, backward = verdicts(study(*trials), skill), verdicts(study(*reversed(trials)), skill)
    pd.testing.assert_frame_equal(forward, backward)
    assert np.isfinite(forward.loc[room.HELPS, ["effect", "low", "high"]].astype(float)).all()
