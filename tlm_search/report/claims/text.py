"""The claims about the choice of text for pre-training by its overlap with the task. They compare several studies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tlm_search.committee.effect import effect, singles
from tlm_search.committee.verdict import MARGIN
from tlm_search.digest import canonical_json
from tlm_search.errors import TlmSearchError
from tlm_search.report.claims.families import Families, alone
from tlm_search.report.claims.verdicts import Row, judged, missing
from tlm_search.report.evidence import Evidence
from tlm_search.report.formatting import number
from tlm_search.study.location import is_study, read_study
from tlm_search.study.record import StudyRecord, TrialRecord

OVERLAPS = "Overlap with the task helps: text of high minus text of low overlap"
WEIGHTED = "Open: does frequency-weighted overlap choose better text than plain overlap?"
SPECIFIC = (
    f"Open: does little text chosen for the task do the work of more random text (within {100 * MARGIN:g} points)?"
)


def siblings(record: StudyRecord, evidence: Evidence) -> list[Evidence]:
    """Return the studies in the same folder that differ only in the choice of their corpus."""
    if record.space.corpus.selection is None:
        return []
    found = []
    for folder in sorted(record.folder.parent.iterdir()) if record.folder.parent.is_dir() else []:
        if folder.resolve() == record.folder.resolve() or not is_study(folder):
            continue
        try:
            other = read_study(folder)
        except TlmSearchError:  # a study of another version, or one whose database cannot be reached
            continue
        if _key_but_selection(other) == _key_but_selection(record):
            found.append(Evidence(other, evidence.store))
    return found


def overlaps(studies: Sequence[Families]) -> Row:
    """Compare text of high overlap with text of low overlap, from the two ends of one ranking of the corpus."""
    kind = next((study.record.space.corpus.selection for study in studies if _ranked(study)), None)
    ranked = sorted(
        (study for study in studies if study.record.space.corpus.selection == kind and kind),
        key=lambda study: study.record.space.corpus.skip,
    )
    if len(ranked) < 2:
        return missing(OVERLAPS, "it needs studies of one selection at two values of skip")
    return _compared(
        OVERLAPS,
        ranked[0],
        ranked[-1],
        f"{kind}, skip {{}} against {{}}".format(
            number(ranked[0].record.space.corpus.skip), number(ranked[-1].record.space.corpus.skip)
        ),
    )


def weighted(studies: Sequence[Families]) -> Row:
    """Compare text chosen by frequency-weighted overlap with text chosen by plain overlap."""
    by_frequency, plain = _selected(studies, "weighted_overlap"), _selected(studies, "overlap")
    if by_frequency is None or plain is None:
        return missing(WEIGHTED, "it needs a study of each of the two selections")
    return _compared(WEIGHTED, by_frequency, plain, "weighted_overlap against overlap")


def specific(studies: Sequence[Families]) -> Row:
    """Compare little text chosen for the task with two to eight times as much text drawn at random."""
    random = _selected(studies, "random")
    chosen = [study for study in studies if _ranked(study) and not study.record.space.corpus.skip]
    pairs = [
        (study, small, large, little, much)
        for study in chosen
        for ours, theirs in _alike(study, random)
        for small, little in ours.items()
        for large, much in theirs.items()
        if small and 2 * small <= large <= 8 * small
    ]
    if random is None or not pairs:
        return missing(
            SPECIFIC,
            "it needs a study of chosen text and one of two to eight times as much random text, both with one "
            "architecture",
        )
    # The best case for little text: the largest step in size, then the best selection on validation.
    study, small, large, little, much = max(pairs, key=lambda pair: (pair[2] / pair[1], alone(pair[3])))
    first, second = study.contributions(little), random.contributions(much)
    if first is None or second is None or first.shape[1] != second.shape[1]:
        return missing(SPECIFIC, "the members' logits are missing")
    seeds = min(len(first), len(second))
    found = effect(singles(first[:seeds] - second[:seeds]), largest=study.largest(little))
    words = f"{study.record.space.corpus.selection}, {number(small)} texts against {number(large)} random ones"
    return judged(SPECIFIC, found, f"{words}; {study.words(little)}", margin=MARGIN)


def _compared(claim: str, first: Families, second: Families, words: str) -> Row:
    """Compare two studies in one architecture, at the largest size of pre-training that both have.

    Take the architecture with the most common sizes; the best member on validation breaks ties.
    """
    pairs = [
        [(ours[size], theirs[size]) for size in sorted(ours) if size and size in theirs]
        for ours, theirs in _alike(first, second)
    ]
    common = max(pairs, key=lambda p: (len(p), max((alone(t) for pair in p for t in pair), default=0)), default=[])
    if not common:
        return missing(claim, "the two studies have no common architecture that both pre-trained on as much text")
    trial, other = common[-1]
    ours, theirs = first.contributions(trial), second.contributions(other)
    if ours is None or theirs is None or ours.shape[1] != theirs.shape[1]:
        return missing(claim, "the members' logits are missing")
    seeds = min(len(ours), len(theirs))
    found = effect(singles(ours[:seeds] - theirs[:seeds]), largest=first.largest(trial))
    return judged(claim, found, f"{words}; {first.words(trial)}")


def _alike(first: Families, second: Families | None) -> list[tuple[dict[int, TrialRecord], dict[int, TrialRecord]]]:
    """Return pairs of the families of each architecture that both studies have."""
    others = {} if second is None else second.by_shape
    return [(family, others[shape]) for shape, family in first.by_shape.items() if shape in others]


def _key_but_selection(record: StudyRecord) -> str:
    """Return a key that is equal for studies that differ only in the selection of their corpus."""
    identity = record.space.identity()
    corpus = {key: value for key, value in identity["corpus"].items() if key not in ("selection", "skip")}
    return canonical_json([{**identity, "corpus": corpus}, record.data.get("task_fingerprint")])


def _selected(studies: Iterable[Families], selection: str) -> Families | None:
    return next(
        (s for s in studies if s.record.space.corpus.selection == selection and not s.record.space.corpus.skip), None
    )


def _ranked(study: Families) -> bool:
    return study.record.space.corpus.selection not in (None, "random")
