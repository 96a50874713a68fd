"""The claims and open questions of "Tiny language models" (arXiv 2507.14871), tested on a study: effect and verdict.

Comparisons are chosen on validation, and effects are measured on test. Claims about the answer's committee against the
reference and the linear model repeat the answer: they are about these models, with an interval over test rows. All
others have intervals over rows and seeds. No figures of the paper are used, only its questions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tlm_search.committee.candidates import candidates, configurations
from tlm_search.committee.choice import Choice
from tlm_search.committee.effect import Effect, committee, effect, gain_of_doubling, singles, slope, steepest
from tlm_search.committee.metrics import largest_contribution
from tlm_search.committee.verdict import MARGIN, UNSURE, verdict_of
from tlm_search.report.claims.families import Families, alone, differing, widest
from tlm_search.report.claims.text import overlaps, siblings, specific, weighted
from tlm_search.report.claims.verdicts import LEAST_SEEDS, Row, judged, missing, of_these_models
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import describe, milliseconds, plural
from tlm_search.report.tables.tables import baseline_words
from tlm_search.study.record import StudyRecord

WORTH = 0.05  # of the latency; a committee that saves less is not called faster
_LEAST_SIZES = 3  # two sizes always lie on a line
COLUMNS = ("claim", "metric", "effect", "low", "high", "seeds", "verdict", "measured_on")

HELPS = "Pre-training helps: single members with it minus without"
GROWS = "More pre-training helps more: single members, per doubling of the text"
DOES_WORK = f"The best committee does the work of the reference (within {100 * MARGIN:g} points)"
REACHES = f"Trained anew, the best committee reaches one deep model (within {100 * MARGIN:g} points)"
FASTER = f"The best committee answers faster than one deep model: latency saved (more than {100 * WORTH:g}%)"
BEATS_LINEAR = "The best committee is above a linear model of TF-IDF and logistic regression"
LARGER = "Open: is the largest committee better than one of half its size?"
SHAPES = "Open: is the best shallow architecture better than the next?"


def claims(record: StudyRecord, evidence: Evidence, best: Choice | None) -> pd.DataFrame:
    """Return a row for each claim and open question, with the columns ``COLUMNS``. ``best`` is the answer's committee.

    ``effect``, ``low`` and ``high`` (its 95% interval) are shares: differences of the ``metric`` on test, or the share
    of latency saved (see ``latency_saved``). A claim holds if the interval lies above 0 (for some claims not below -2
    points, or above 5%). It does not hold if the interval lies below. Otherwise, and with fewer than three seeds,
    the study cannot tell. ``seeds`` counts the members of the side with the fewest; it is missing in rows about the
    models of the answer. ``measured_on`` names the configuration, or what the study lacks.

    Claims about overlap compare studies. They also read the studies in the same folder whose spaces differ only in the
    name and in ``selection`` and ``skip`` of the corpus.
    """
    study = Families(evidence)
    others = [Families(other) for other in siblings(record, evidence)]
    rows = [
        _helps(study),
        _grows(study),
        overlaps([study, *others]),
        _does_work(study, best),
        _reaches(study, best),
        _faster(study, best),
        _beats_linear(study, best),
        _larger(study),
        _shapes(study),
        weighted([study, *others]),
        specific([study, *others]),
    ]
    metric = f"test_{record.space.task.metric}"
    named = [{"metric": "latency_ms" if row.claim == FASTER else metric, **vars(row)} for row in rows]
    return pd.DataFrame(named, columns=list(COLUMNS)).astype(
        {"effect": "float64", "low": "float64", "high": "float64", "seeds": "Int64"}
    )


def _helps(study: Families) -> Row:
    family = widest([family for family in study.families if 0 in family and len(family) > 1])
    if family is None:
        return missing(HELPS, "no architecture was trained both with and without pre-training")
    largest = max(family)
    with_it, without = study.contributions(family[largest]), study.contributions(family[0])
    if with_it is None or without is None:
        return missing(HELPS, "the members' logits are missing")
    seeds = min(len(with_it), len(without))
    found = effect(singles(with_it[:seeds] - without[:seeds]), largest=study.largest(family[largest]))
    return judged(HELPS, found, study.words(family[largest], sizes=(0, largest)))


def _grows(study: Families) -> Row:
    family = widest([family for family in study.families if sum(size > 0 for size in family) > 1])
    if family is None:
        return missing(GROWS, "no architecture was pre-trained on two sizes or more")
    sizes = sorted(size for size in family if size)
    contributions = [array for size in sizes if (array := study.contributions(family[size])) is not None]
    if len(contributions) < len(sizes):
        return missing(GROWS, "the members' logits are missing")
    doublings = [float(np.log2(size)) for size in sizes]
    largest = steepest(doublings) * study.largest(family[sizes[-1]])
    found = effect(singles(slope(contributions, doublings)), largest=largest)
    return judged(GROWS, found, study.words(family[sizes[-1]], sizes=sizes))


def _does_work(study: Families, best: Choice | None) -> Row:
    if best is None or best.test_difference is None:
        return missing(DOES_WORK, _nothing_to_compare(best))
    return of_these_models(DOES_WORK, best.test_difference, _against_reference(study, best), margin=MARGIN)


def _reaches(study: Families, best: Choice | None) -> Row:
    """Estimate the difference that both would have if trained anew, which needs a reference of several models."""
    if best is None or best.reference is None:
        return missing(REACHES, _nothing_to_compare(best))
    if best.reference.size == 1:
        return missing(
            REACHES,
            f"the reference is one model, and the claim needs {LEAST_SEEDS}: set committee_size under reference",
        )
    chosen = best.candidate
    # If the committee was confirmed, use the fresh members, which no choice has seen.
    trial = study.record.confirmed(chosen.trial.number, chosen.size) or chosen.trial
    votes, deep = study.evidence.logits_of(trial), study.contributions(best.reference.trial)
    if votes is None or deep is None:
        return missing(REACHES, "the members' logits are missing")
    ours = committee(votes.test[: chosen.size], votes.test_labels, votes.metric)
    found = effect(ours, singles(deep), largest=largest_contribution(votes.metric, votes.test_labels))
    return judged(REACHES, found, _against_reference(study, best), margin=MARGIN)


def _faster(study: Families, best: Choice | None) -> Row:
    if best is None or best.reference is None:
        return missing(FASTER, _nothing_to_compare(best))
    ours, of_one = best.candidate.latency_ms, candidates(best.reference.trial)[0].latency_ms
    if ours is None or not of_one:
        return missing(FASTER, "the latency of the two was not measured")
    measured_on = f"{milliseconds(ours)} against {milliseconds(of_one)}, one text on this machine"
    found = latency_saved(study.record, ours, of_one)
    if found is None:
        measured_on += "; no interval, because no committee was measured at three sizes or more"
        return Row(FASTER, 1 - ours / of_one, None, None, None, UNSURE, measured_on)
    verdict = verdict_of(found.low - WORTH, found.high - WORTH)
    return Row(FASTER, found.mean, found.low, found.high, None, verdict, measured_on)


def _beats_linear(study: Families, best: Choice | None) -> Row:
    baseline = study.record.baseline
    if baseline is None:
        return missing(BEATS_LINEAR, "the study has no linear baseline")
    if best is None or best.baseline_difference is None:
        return missing(BEATS_LINEAR, "no committee may be chosen")
    return of_these_models(
        BEATS_LINEAR, best.baseline_difference, f"{_committee(study, best)}; against {baseline_words(baseline)}"
    )


def _nothing_to_compare(best: Choice | None) -> str:
    return "no committee may be chosen" if best is None else "the study has no finished reference"


def _committee(study: Families, best: Choice) -> str:
    return f"{plural(best.candidate.size, 'member')} of {study.words(best.candidate.trial)}"


def _against_reference(study: Families, best: Choice) -> str:
    assert best.reference is not None
    words = describe(best.reference.trial.settings, ["depth", "width", "pretrain_size"])
    return f"{_committee(study, best)}; against {words}, {plural(best.reference.size, 'model')}"


def _larger(study: Families) -> Row:
    chosen = max(
        (trial for trial in configurations(study.record.trials) if len(trial.frontier) > 1),
        key=lambda trial: (len(trial.frontier), candidates(trial)[-1].validation_metric),
        default=None,
    )
    if chosen is None:
        return missing(LARGER, "no committee has two members or more")
    votes = study.evidence.logits_of(chosen)
    if votes is None:
        return missing(LARGER, "the members' logits are missing")
    members = len(votes.test)
    found = effect(gain_of_doubling(votes.test, votes.test_labels, votes.metric), largest=study.largest(chosen))
    return judged(LARGER, found, f"{members} against {max(members // 2, 1)} members of {study.words(chosen)}")


def _shapes(study: Families) -> Row:
    deepest = study.depth_of_reference()
    best = [max(family.values(), key=alone) for family in study.families]
    best = sorted((trial for trial in best if float(trial.settings["depth"]) < deepest), key=alone, reverse=True)
    if len(best) < 2:
        return missing(SHAPES, "the study has one shallow architecture")
    first, second = (study.contributions(trial) for trial in best[:2])
    if first is None or second is None:
        return missing(SHAPES, "the members' logits are missing")
    seeds = min(len(first), len(second))
    names = differing(best[0], best[1])
    against = describe(best[1].settings, [*names, "pretrain_size"])
    measured_on = f"{describe(best[0].settings, names)}, {study.words(best[0])}; against {against}"
    found = effect(singles(first[:seeds] - second[:seeds]), largest=study.largest(best[0]))
    return judged(SHAPES, found, measured_on)


def latency_saved(record: StudyRecord, ours: float, theirs: float) -> Effect | None:
    """Return the share of the latency ``theirs`` that ``ours`` saves, with its 95% interval. Both are in ms.

    The latencies of committees of 1, 2, ... members grow linearly. Their distances from the fitted line, as shares of
    it, estimate the error of one measurement. The logarithm of the ratio has the error of two, with Student's t. Return
    None if no configuration was measured at three sizes or more.
    """
    series = {
        tuple(c.latency_ms for c in candidates(trial) if c.latency_ms is not None)
        for trial in configurations(record.trials)
    }
    errors = [_errors(latencies) for latencies in series if len(latencies) >= _LEAST_SIZES]
    if not errors:
        return None
    from scipy.special import stdtrit

    freedom = sum(len(shares) - 2 for shares in errors)
    deviation = (sum(float((shares**2).sum()) for shares in errors) / freedom) ** 0.5
    off = float(stdtrit(freedom, 0.975)) * deviation * 2**0.5
    ratio = ours / theirs
    return Effect(1 - ratio, 1 - ratio * np.exp(off), 1 - ratio * np.exp(-off), freedom)


def _errors(latencies: Sequence[float]) -> np.ndarray:
    """Return the distance of each latency from the straight line through all, as a share of the line."""
    sizes = np.arange(1, len(latencies) + 1)
    line = np.polyval(np.polyfit(sizes, latencies, 1), sizes)
    return np.asarray((np.asarray(latencies) - line) / line)
