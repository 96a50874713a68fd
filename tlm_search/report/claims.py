"""The claims of "Tiny language models" (arXiv 2507.14871) and its open questions, put to a study: effect and verdict.

What is compared is chosen on validation; effects are those of the test set, with intervals over its rows and the seeds.
No figure of the paper's is used: only its questions.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tlm_search.committee.candidates import Candidate, candidates, configurations
from tlm_search.committee.effect import Side, committee, effect, gain_of_doubling, singles, slope, steepest
from tlm_search.committee.select import MARGIN
from tlm_search.report.claims_of_text import overlaps, siblings, specific, weighted
from tlm_search.report.evidence import Evidence
from tlm_search.report.families import Families, alone, differing, widest
from tlm_search.report.insight import best_committee
from tlm_search.report.tables import baseline_words
from tlm_search.report.verdicts import FAILS, HOLDS, Row, judged, missing
from tlm_search.report.words import describe, milliseconds, plural
from tlm_search.search.record import StudyRecord, TrialRecord

COLUMNS = ("claim", "effect", "low", "high", "seeds", "verdict", "measured_on")

HELPS = "Pre-training helps: accuracy with it minus without"
GROWS = "More pre-training helps more: accuracy per doubling of the text"
REACHES = f"A shallow committee reaches one deep model (within {100 * MARGIN:g} points)"
FASTER = "That committee answers faster: latency saved"
BEATS_LINEAR = "The best committee beats a linear model: accuracy minus that of TF-IDF and logistic regression"
LARGER = "Open: is the largest committee better than one of half its size?"
SHAPES = "Open: is the best shallow architecture better than the next?"


def claims(record: StudyRecord, evidence: Evidence) -> pd.DataFrame:
    """Return a row for each claim and open question: `COLUMNS`.

    ``effect``, ``low`` and ``high`` (its 95% interval, see `tlm_search.committee.effect`) are shares: differences of
    test accuracy, for the latency the share saved, which has no interval. ``seeds`` counts the members of the side
    with fewest; a linear model has none. A claim holds where the interval lies above 0 (above -2 points where it says
    so), does not hold where it lies below, and cannot be told otherwise, with fewer than three seeds, or where the
    study does not vary what it takes; ``measured_on`` says which configuration it was, or what is missing.

    Claims about overlap compare studies: those beside this one whose spaces differ in nothing but ``selection`` and
    ``skip`` of the corpus (and the name) are read too.
    """
    study = Families(evidence)
    beside = [Families(other) for other in siblings(record, evidence)]
    rows = [
        _helps(study),
        _grows(study),
        overlaps([study, *beside]),
        *_reaches(study),
        _beats_linear(study),
        _larger(study),
        _shapes(study),
        weighted([study, *beside]),
        specific([study, *beside]),
    ]
    return pd.DataFrame([vars(row) for row in rows], columns=list(COLUMNS)).astype(
        {"effect": "float64", "low": "float64", "high": "float64", "seeds": "Int64"}
    )


def _helps(study: Families) -> Row:
    family = widest([family for family in study.families if 0 in family and len(family) > 1])
    if family is None:
        return missing(HELPS, "no architecture was trained both with and without pre-training")
    largest = max(family)
    with_it, without = study.right(family[largest]), study.right(family[0])
    if with_it is None or without is None:
        return missing(HELPS, "the members' logits are not at hand")
    seeds = min(len(with_it), len(without))
    found = effect(singles(with_it[:seeds] - without[:seeds]))
    return judged(HELPS, found, study.words(family[largest], sizes=(0, largest)))


def _grows(study: Families) -> Row:
    family = widest([family for family in study.families if sum(size > 0 for size in family) > 1])
    if family is None:
        return missing(GROWS, "no architecture was pre-trained on two sizes or more")
    sizes = sorted(size for size in family if size)
    right = [array for size in sizes if (array := study.right(family[size])) is not None]
    if len(right) < len(sizes):
        return missing(GROWS, "the members' logits are not at hand")
    doublings = [float(np.log2(size)) for size in sizes]
    found = effect(singles(slope(right, doublings)), largest=steepest(doublings))
    return judged(GROWS, found, study.words(family[sizes[-1]], sizes=sizes))


def _reaches(study: Families) -> list[Row]:
    reference = study.record.reference
    if reference is None or reference.state != "complete" or not reference.frontier:
        return [missing(claim, "the study has no reference") for claim in (REACHES, FASTER)]
    chosen = _best_committee(study)
    if chosen is None:
        return [missing(claim, "no committee is shallower than the reference") for claim in (REACHES, FASTER)]
    trial = chosen.trial
    assert isinstance(trial, TrialRecord)
    votes, deep = study.evidence.votes_of(trial), study.right(reference)
    if votes is None or deep is None:
        return [missing(claim, "the members' logits are not at hand") for claim in (REACHES, FASTER)]
    measured_on = (
        f"{plural(chosen.size, 'member')} of {study.words(trial)}; against "
        f"{describe(reference.settings, ['depth', 'width', 'pretrain_size'])}, "
        f"{plural(len(deep), 'model')}"
    )
    found = effect(committee(votes.test[: chosen.size], votes.test_labels), singles(deep))
    rows = [judged(REACHES, found, measured_on, margin=MARGIN)]
    of_one = candidates(reference)[0].latency_ms
    if chosen.latency_ms is None or not of_one:
        return [*rows, missing(FASTER, "the latency of the two was not measured")]
    saved = 1 - chosen.latency_ms / of_one
    measured_on = (
        f"{milliseconds(chosen.latency_ms)} against {milliseconds(of_one)}, one text on this machine; no interval"
    )
    return [*rows, Row(FASTER, saved, None, None, None, HOLDS if saved > 0 else FAILS, measured_on)]


def _beats_linear(study: Families) -> Row:
    record = study.record
    if record.baseline is None:
        return missing(BEATS_LINEAR, "the study has no linear baseline")
    chosen = best_committee(record)
    if chosen is None:
        return missing(BEATS_LINEAR, "no committee may be chosen")
    trial = chosen.trial
    assert isinstance(trial, TrialRecord)
    votes, linear = study.evidence.votes_of(trial), study.right(record.baseline)
    if votes is None or linear is None:
        return missing(BEATS_LINEAR, "the logits are not at hand")
    ours = committee(votes.test[: chosen.size], votes.test_labels)
    # A linear model has no seed: trained again it is the same.
    theirs = Side(linear[0], None, ours.seeds)
    measured_on = f"{plural(chosen.size, 'member')} of {study.words(trial)}; against {baseline_words(record.baseline)}"
    return judged(BEATS_LINEAR, effect(ours, theirs), measured_on)


def _larger(study: Families) -> Row:
    chosen = max(
        (trial for trial in configurations(study.record.trials) if len(trial.frontier) > 1),
        key=lambda trial: (len(trial.frontier), trial.frontier[-1]["validation_accuracy"]),
        default=None,
    )
    if chosen is None:
        return missing(LARGER, "no committee has two members or more")
    votes = study.evidence.votes_of(chosen)
    if votes is None:
        return missing(LARGER, "the members' logits are not at hand")
    members = len(votes.test)
    found = effect(gain_of_doubling(votes.test, votes.test_labels))
    return judged(LARGER, found, f"{members} against {max(members // 2, 1)} members of {study.words(chosen)}")


def _shapes(study: Families) -> Row:
    deepest = study.depth_of_reference()
    best = [max(family.values(), key=alone) for family in study.families]
    best = sorted((trial for trial in best if float(trial.settings["depth"]) < deepest), key=alone, reverse=True)
    if len(best) < 2:
        return missing(SHAPES, "the study has one shallow architecture")
    first, second = (study.right(trial) for trial in best[:2])
    if first is None or second is None:
        return missing(SHAPES, "the members' logits are not at hand")
    seeds = min(len(first), len(second))
    names = differing(best[0], best[1])
    against = describe(best[1].settings, [*names, "pretrain_size"])
    measured_on = f"{describe(best[0].settings, names)}, {study.words(best[0])}; against {against}"
    return judged(SHAPES, effect(singles(first[:seeds] - second[:seeds])), measured_on)


def _best_committee(study: Families) -> Candidate | None:
    deepest = study.depth_of_reference()
    pool = [
        candidate
        for trial in configurations(study.record.trials)
        if float(trial.settings["depth"]) < deepest
        for candidate in candidates(trial)
        if candidate.size > 1
    ]
    return max(pool, key=lambda c: (c.validation_accuracy, -c.size), default=None)
