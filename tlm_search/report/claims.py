"""The claims of "Tiny language models" (arXiv 2507.14871) and its open questions, put to a study: effect and verdict.

What is compared is chosen on validation; effects are those of the test set, with intervals over its rows and the seeds.
No figure of the paper's is used: only its questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tlm_search.committee.candidates import Candidate, candidates, configurations
from tlm_search.committee.effect import Effect, committee, effect, gain_of_doubling, singles, slope
from tlm_search.committee.select import MARGIN
from tlm_search.digest import canonical_json
from tlm_search.errors import TlmSearchError
from tlm_search.report.evidence import Evidence
from tlm_search.report.words import describe, milliseconds, number, plural
from tlm_search.search.folder import is_study, read_study
from tlm_search.search.record import StudyRecord, TrialRecord
from tlm_search.space.settings import SETTINGS, Value

COLUMNS = ("claim", "effect", "low", "high", "seeds", "verdict", "measured_on")
HOLDS, FAILS, UNSURE = "holds", "does not hold", "cannot tell at this scale"
LEAST_SEEDS = 3  # fewer say next to nothing about others

HELPS = "Pre-training helps: accuracy with it minus without"
GROWS = "More pre-training helps more: accuracy per doubling of the text"
OVERLAPS = "Overlap with the task helps: accuracy after text of high minus of low overlap"
REACHES = f"A shallow committee reaches one deep model (within {100 * MARGIN:g} points)"
FASTER = "That committee answers faster: latency saved"
LARGER = "Open: is the largest committee better than one of half its size?"
SHAPES = "Open: is the best shallow architecture better than the next?"
WEIGHTED = "Open: does frequency-weighted overlap choose better text than plain overlap?"
SPECIFIC = (
    f"Open: does little text chosen for the task do the work of more random text (within {100 * MARGIN:g} points)?"
)

Right = NDArray[np.float64]


def claims(record: StudyRecord, evidence: Evidence) -> pd.DataFrame:
    """Return a row for each claim and open question: `COLUMNS`.

    ``effect``, ``low`` and ``high`` (its 95% interval, see `tlm_search.committee.effect`) are shares: differences of
    test accuracy, for the latency the share saved, which has no interval. ``seeds`` counts the members of the side
    with fewest. A claim holds where the interval lies above 0 (above -2 points where it says so), does not hold where
    it lies below, and cannot be told otherwise, with fewer than three seeds, or where the study does not vary what it
    takes; ``measured_on`` says which configuration it was, or what is missing.

    Claims about overlap compare studies: those beside this one whose spaces differ in nothing but ``selection`` and
    ``skip`` of the corpus (and the name) are read too.
    """
    study = _Study(evidence)
    beside = [_Study(other) for other in _siblings(record, evidence)]
    rows = [
        _helps(study),
        _grows(study),
        _overlaps([study, *beside]),
        *_reaches(study),
        _larger(study),
        _shapes(study),
        _weighted([study, *beside]),
        _specific([study, *beside]),
    ]
    return pd.DataFrame([vars(row) for row in rows], columns=list(COLUMNS)).astype(
        {"effect": "float64", "low": "float64", "high": "float64", "seeds": "Int64"}
    )


@dataclass(frozen=True)
class _Row:
    claim: str
    effect: float | None
    low: float | None
    high: float | None
    seeds: int | None
    verdict: str
    measured_on: str


def _judged(claim: str, found: Effect, measured_on: str, *, margin: float = 0.0) -> _Row:
    verdict = UNSURE
    if found.seeds >= LEAST_SEEDS:
        # Zero is no effect, however sure it is.
        above = found.low > 0 if margin == 0 else found.low >= -margin
        below = found.high < -margin
        verdict = HOLDS if above else FAILS if below else UNSURE
    return _Row(claim, found.mean, found.low, found.high, found.seeds, verdict, measured_on)


def _missing(claim: str, what: str) -> _Row:
    return _Row(claim, None, None, None, None, UNSURE, f"not measured: {what}")


class _Study:
    """A study by families: configurations of one architecture, at each size of pre-training the best on validation.

    Other settings, such as learning rates, are chosen by the validation accuracy of single members, for each size anew.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.record = evidence.record
        families: dict[str, dict[int, TrialRecord]] = {}
        for trial in sorted(self._trials(), key=_alone):  # the best comes last
            families.setdefault(_family(trial), {})[_pretrain_size(trial)] = trial
        self.families = list(families.values())

    def _trials(self) -> list[TrialRecord]:
        reference = self.record.reference
        more = [reference] if reference is not None and reference.state == "complete" and reference.frontier else []
        return [*configurations(self.record.trials), *more]

    def right(self, trial: TrialRecord) -> Right | None:
        """Return where each member is right on test, (members, rows); None without logits."""
        votes = self.evidence.votes_of(trial)
        return None if votes is None else (votes.test.argmax(axis=-1) == votes.test_labels).astype(np.float64)

    def depth_of_reference(self) -> float:
        reference = self.record.reference
        return float("inf") if reference is None else float(reference.settings.get("depth", float("inf")))

    def words(self, trial: TrialRecord, *, sizes: Iterable[int] = ()) -> str:
        """Say the architecture, the pre-training and the task."""
        names = ["depth", "width", *(["convolution_layers"] if trial.settings.get("convolution_layers") else [])]
        given = list(sizes) or [_pretrain_size(trial)]
        listed = " and ".join(", ".join(number(size) for size in given).rsplit(", ", 1))
        trained = f"pre-trained on {listed}" if any(given) else "not pre-trained"
        return f"{describe(trial.settings, names)}, {trained}; {self.task}"

    @property
    def task(self) -> str:
        section = self.record.space.task
        source = Path(section.source).name if Path(section.source).exists() else section.source
        rows = self.record.data.get("rows", {}).get("test", 0)
        labels = len(self.record.labels)
        return f"{source}: {labels} labels, {section.train_per_label:,} texts each, {rows:,} test texts"


def _helps(study: _Study) -> _Row:
    family = _widest([family for family in study.families if 0 in family and len(family) > 1])
    if family is None:
        return _missing(HELPS, "no architecture was trained both with and without pre-training")
    largest = max(family)
    with_it, without = study.right(family[largest]), study.right(family[0])
    if with_it is None or without is None:
        return _missing(HELPS, "the members' logits are not at hand")
    seeds = min(len(with_it), len(without))
    found = effect(singles(with_it[:seeds] - without[:seeds]))
    return _judged(HELPS, found, study.words(family[largest], sizes=(0, largest)))


def _grows(study: _Study) -> _Row:
    family = _widest([family for family in study.families if sum(size > 0 for size in family) > 1])
    if family is None:
        return _missing(GROWS, "no architecture was pre-trained on two sizes or more")
    sizes = sorted(size for size in family if size)
    right = [array for size in sizes if (array := study.right(family[size])) is not None]
    if len(right) < len(sizes):
        return _missing(GROWS, "the members' logits are not at hand")
    found = effect(singles(slope(right, [float(np.log2(size)) for size in sizes])))
    return _judged(GROWS, found, study.words(family[sizes[-1]], sizes=sizes))


def _reaches(study: _Study) -> list[_Row]:
    reference = study.record.reference
    if reference is None or reference.state != "complete" or not reference.frontier:
        return [_missing(claim, "the study has no reference") for claim in (REACHES, FASTER)]
    chosen = _best_committee(study)
    if chosen is None:
        return [_missing(claim, "no committee is shallower than the reference") for claim in (REACHES, FASTER)]
    trial = chosen.trial
    assert isinstance(trial, TrialRecord)
    votes, deep = study.evidence.votes_of(trial), study.right(reference)
    if votes is None or deep is None:
        return [_missing(claim, "the members' logits are not at hand") for claim in (REACHES, FASTER)]
    measured_on = (
        f"{plural(chosen.size, 'member')} of {study.words(trial)}; against "
        f"{describe(reference.settings, ['depth', 'width', 'pretrain_size'])}, "
        f"{plural(len(deep), 'model')}"
    )
    found = effect(committee(votes.test[: chosen.size], votes.test_labels), singles(deep))
    rows = [_judged(REACHES, found, measured_on, margin=MARGIN)]
    of_one = candidates(reference)[0].latency_ms
    if chosen.latency_ms is None or not of_one:
        return [*rows, _missing(FASTER, "the latency of the two was not measured")]
    saved = 1 - chosen.latency_ms / of_one
    measured_on = (
        f"{milliseconds(chosen.latency_ms)} against {milliseconds(of_one)}, one text on this machine; no interval"
    )
    return [*rows, _Row(FASTER, saved, None, None, None, HOLDS if saved > 0 else FAILS, measured_on)]


def _larger(study: _Study) -> _Row:
    chosen = max(
        (trial for trial in configurations(study.record.trials) if len(trial.frontier) > 1),
        key=lambda trial: (len(trial.frontier), trial.frontier[-1]["validation_accuracy"]),
        default=None,
    )
    if chosen is None:
        return _missing(LARGER, "no committee has two members or more")
    votes = study.evidence.votes_of(chosen)
    if votes is None:
        return _missing(LARGER, "the members' logits are not at hand")
    members = len(votes.test)
    found = effect(gain_of_doubling(votes.test, votes.test_labels))
    return _judged(LARGER, found, f"{members} against {max(members // 2, 1)} members of {study.words(chosen)}")


def _shapes(study: _Study) -> _Row:
    deepest = study.depth_of_reference()
    best = [max(family.values(), key=_alone) for family in study.families]
    best = sorted((trial for trial in best if float(trial.settings["depth"]) < deepest), key=_alone, reverse=True)
    if len(best) < 2:
        return _missing(SHAPES, "the study has one shallow architecture")
    first, second = (study.right(trial) for trial in best[:2])
    if first is None or second is None:
        return _missing(SHAPES, "the members' logits are not at hand")
    seeds = min(len(first), len(second))
    names = _differing(best[0], best[1])
    against = describe(best[1].settings, [*names, "pretrain_size"])
    measured_on = f"{describe(best[0].settings, names)}, {study.words(best[0])}; against {against}"
    return _judged(SHAPES, effect(singles(first[:seeds] - second[:seeds])), measured_on)


def _overlaps(studies: Sequence[_Study]) -> _Row:
    kind = next((study.record.space.corpus.selection for study in studies if _ranked(study)), None)
    ranked = sorted(
        (study for study in studies if study.record.space.corpus.selection == kind and kind),
        key=lambda study: study.record.space.corpus.skip,
    )
    if len(ranked) < 2:
        return _missing(OVERLAPS, "it takes studies of one selection at two values of skip")
    return _compared(
        OVERLAPS,
        ranked[0],
        ranked[-1],
        f"{kind}, skip {{}} against {{}}".format(
            number(ranked[0].record.space.corpus.skip), number(ranked[-1].record.space.corpus.skip)
        ),
    )


def _weighted(studies: Sequence[_Study]) -> _Row:
    weighted, plain = _selected(studies, "weighted_overlap"), _selected(studies, "overlap")
    if weighted is None or plain is None:
        return _missing(WEIGHTED, "it takes a study of each of the two selections")
    return _compared(WEIGHTED, weighted, plain, "weighted_overlap against overlap")


def _specific(studies: Sequence[_Study]) -> _Row:
    random = _selected(studies, "random")
    chosen = [study for study in studies if _ranked(study) and not study.record.space.corpus.skip]
    pairs = [
        (study, small, large, sizes[small], others[large])
        for study in chosen
        for sizes in [_sizes(study)]
        for others in [_sizes(random) if random is not None else {}]
        for small in sizes
        for large in others
        if 2 * small <= large <= 8 * small
    ]
    if random is None or not pairs:
        return _missing(SPECIFIC, "it takes a study of chosen text and one of two to eight times more random text")
    # The most that little text can do: the largest step in size, then the best selection on validation.
    study, small, large, little, much = max(pairs, key=lambda pair: (pair[2] / pair[1], _alone(pair[3])))
    first, second = study.right(little), random.right(much)
    if first is None or second is None or first.shape[1] != second.shape[1]:
        return _missing(SPECIFIC, "the members' logits are not at hand")
    seeds = min(len(first), len(second))
    found = effect(singles(first[:seeds] - second[:seeds]))
    words = f"{study.record.space.corpus.selection}, {number(small)} texts against {number(large)} random ones"
    return _judged(SPECIFIC, found, f"{words}; {study.words(little)}", margin=MARGIN)


def _compared(claim: str, first: _Study, second: _Study, words: str) -> _Row:
    """Compare two studies at the largest size of pre-training that both have."""
    ours, theirs = _sizes(first), _sizes(second)
    common = sorted(size for size in ours if size and size in theirs)
    if not common:
        return _missing(claim, "the two studies share no size of pre-training")
    right, other = first.right(ours[common[-1]]), second.right(theirs[common[-1]])
    if right is None or other is None or right.shape[1] != other.shape[1]:
        return _missing(claim, "the members' logits are not at hand")
    seeds = min(len(right), len(other))
    return _judged(claim, effect(singles(right[:seeds] - other[:seeds])), f"{words}; {first.words(ours[common[-1]])}")


def _siblings(record: StudyRecord, evidence: Evidence) -> list[Evidence]:
    """Return the studies beside this one that differ only in how their corpus was chosen; none where it was not."""
    if record.space.corpus.selection is None:
        return []
    found = []
    for folder in sorted(record.folder.parent.iterdir()) if record.folder.parent.is_dir() else []:
        if folder.resolve() == record.folder.resolve() or not is_study(folder):
            continue
        try:
            other = read_study(folder)
        except TlmSearchError:  # a study of another version, or whose database is not at hand
            continue
        if _but_selection(other) == _but_selection(record):
            found.append(Evidence(other, evidence.store))
    return found


def _but_selection(record: StudyRecord) -> str:
    identity = record.space.identity()
    corpus = {key: value for key, value in identity["corpus"].items() if key not in ("selection", "skip")}
    return canonical_json([{**identity, "corpus": corpus}, record.data.get("task_fingerprint")])


def _selected(studies: Iterable[_Study], selection: str) -> _Study | None:
    return next(
        (s for s in studies if s.record.space.corpus.selection == selection and not s.record.space.corpus.skip), None
    )


def _ranked(study: _Study) -> bool:
    return study.record.space.corpus.selection not in (None, "random")


def _sizes(study: _Study) -> dict[int, TrialRecord]:
    """Return the best configuration at each size of the family with most sizes."""
    return {size: trial for size, trial in (_widest(study.families) or {}).items() if size}


def _best_committee(study: _Study) -> Candidate | None:
    deepest = study.depth_of_reference()
    pool = [
        candidate
        for trial in configurations(study.record.trials)
        if float(trial.settings["depth"]) < deepest
        for candidate in candidates(trial)
        if candidate.size > 1
    ]
    return max(pool, key=lambda c: (c.validation_accuracy, -c.size), default=None)


def _widest(families: Sequence[dict[int, TrialRecord]]) -> dict[int, TrialRecord] | None:
    """Return the family with most sizes of pre-training, of equal ones that with the best member on validation."""
    return max(families, key=lambda f: (len(f), max(_alone(trial) for trial in f.values())), default=None)


def _family(trial: TrialRecord) -> str:
    return canonical_json({name: _shape(trial, name) for name in _shape_names()})


def _shape_names() -> list[str]:
    return [name for name, setting in SETTINGS.items() if setting.part == "architecture"]


def _differing(first: TrialRecord, second: TrialRecord) -> list[str]:
    return [name for name in _shape_names() if _shape(first, name) != _shape(second, name)]


def _shape(trial: TrialRecord, name: str) -> Value | None:
    # Trials of an earlier version do not say what there was no choice of.
    return trial.settings.get(name, SETTINGS[name].default)


def _alone(trial: TrialRecord) -> float:
    return float(trial.frontier[0]["validation_accuracy"])


def _pretrain_size(trial: TrialRecord) -> int:
    return int(trial.settings.get("pretrain_size", 0))
