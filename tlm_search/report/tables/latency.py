"""Measure the latency of a study's models on this machine: reference, linear baseline and best committees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tlm_search.committee.select import select
from tlm_search.data.prepared import PreparedData, facts_of
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import encode, open_tokenizer
from tlm_search.errors import StoreError, StudyError
from tlm_search.members.baseline import KIND as BASELINE_KIND
from tlm_search.members.baseline import Linear
from tlm_search.members.linear import linear_weights
from tlm_search.members.spec import hybrid_digests
from tlm_search.members.trainer import KIND, LINEAR
from tlm_search.model.architecture import Architecture
from tlm_search.model.latency import Answer, committee_answer, race, torch_threads, transformers_answer
from tlm_search.model.linear import LinearWeights
from tlm_search.report.tables.tables import configuration_words, label_of
from tlm_search.search.trial import rungs
from tlm_search.store.local import Store
from tlm_search.study.record import BASELINE_NUMBER, REFERENCE_NUMBER, StudyRecord, TrialRecord

CONFIGURATIONS = 3  # of the best configurations with different architectures
ONE, STACKED, ONE_BY_ONE = "one model", "stacked", "one by one"
UNSTEADY = 3.0  # p95 / p50; above it other programs used the processor


@dataclass(frozen=True)
class Contender:
    """A model whose latency is measured: committees of one architecture, of each of ``sizes``.

    ``trial`` is None for the reference. In committees of hybrids a ``linear`` model votes too. ``reading`` has the text
    and the tokenizer for times from a text on; None if the tokenizer is missing.
    """

    words: str
    trial: int | None
    architecture: Architecture
    pooling: str
    sizes: tuple[int, ...]
    linear: LinearWeights | None = field(default=None, compare=False)
    reading: Reading | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Baseline:
    """The linear baseline, whose latency is measured too."""

    words: str
    model: Linear


@dataclass(frozen=True)
class Reading:
    """A text of full length, made of test texts, with its tokenizer and the ``labels`` of the task."""

    text: str
    tokenizer: Tokenizer
    length: int
    labels: tuple[str, ...]

    def ids(self) -> Tensor:
        """Return the text as ids, (1, tokens)."""
        return torch.tensor(list(encode(self.tokenizer, [self.text], length=self.length)))


@dataclass(frozen=True)
class Row:
    """One measurement. ``ratio`` is its median divided by that of the reference's fastest form under equal conditions.

    ``p50_ms`` and ``p95_ms`` are those of the model alone, from ids (for the baseline, features) to probabilities.
    ``text_p50_ms`` goes from one text to its label, including tokenising. It is None for more than one text, or without
    the tokenizer. ``trial`` is None for the reference and -3 for the baseline. ``form`` is the way of computing: one
    model; a committee ``stacked`` or ``one by one``, whichever is faster here; or plain ``transformers`` with one of
    its attentions.
    """

    threads: int
    texts: int
    model: str
    trial: int | None
    form: str
    members: int
    p50_ms: float
    p95_ms: float
    ratio: float | None
    text_p50_ms: float | None = None


def contenders_of(record: StudyRecord, store: Store) -> list[Contender]:
    """Return the reference, if it has a result, and the best configurations with different architectures.

    Only configurations with a committee within the study's constraints count.

    Raises:
        StudyError: no trial is complete, none meets the constraints, or the members are of a user's own trainer.
    """
    if record.space.is_own_trainer:
        raise StudyError(
            f"the members of {record.name} have no latency to measure: their trainer is {record.space.trainer}",
            hint="measure the models of your own trainer with your own code",
        )
    found: dict[tuple[Architecture, str, bool], Contender] = {}
    constraints = record.space.constraints
    selection = select(record.trials, record.reference, constraints=constraints, top=len(record.trials) or 1)
    for choice in selection.choices:
        trial = choice.candidate.trial
        assert isinstance(trial, TrialRecord)
        shape, linear = _shape(record, trial), _linear_of(trial, store)
        key = (*shape, linear is not None)
        if key not in found and len(found) < CONFIGURATIONS:
            words = configuration_words(record, trial)
            found[key] = Contender(words, trial.number, *shape, tuple(rungs(len(trial.frontier))), linear)
    if not found and record.in_state("complete"):
        raise StudyError(
            f"no committee of the study {record.name} meets its constraints ({', '.join(map(str, constraints))}), "
            "so there is none to measure",
            hint="export one with tlm-search export --trial N, and measure it with tlm-search latency DIR",
        )
    if not found:
        raise StudyError(
            f"the study {record.name} has no complete trial yet, so there is no committee to measure",
            hint=f"tlm-search status {record.name} shows its progress",
        )
    deep = record.reference
    if deep is None or deep.error is not None or not deep.frontier:
        return list(found.values())
    words = f"reference: {configuration_words(record, deep)}"
    reference = Contender(words, None, *_shape(record, deep), (len(deep.frontier),), _linear_of(deep, store))
    return [reference, *found.values()]


def baseline_of(record: StudyRecord, store: Store) -> Baseline | None:
    """Return the linear baseline of a study; None if the study has none, or a simulated one, or if it was removed."""
    if record.baseline is None:
        return None
    try:
        entry = store.read(BASELINE_KIND, record.baseline.members[0])
        return None if entry is None else Baseline(label_of(record, record.baseline), Linear.of_entry(entry))
    except StoreError:
        return None


def reading_of(record: StudyRecord, store: Store, trial: TrialRecord | None = None) -> Reading | None:
    """Return a text of full length made of the first test texts; None if they or the tokenizer are missing.

    The tokenizer is that of ``trial``; without a trial it is the first one of the study.
    """
    if not record.space.has_weights:
        return None
    data = PreparedData.from_document(record.data, store.root)
    data = data if trial is None else data.of(trial.settings)
    try:
        tokens, folder = TokenArray.open(data.folder("test")), data.folder("tokenizer")
    except StoreError:
        return None
    if not (folder / "tokenizer.json").is_file():
        return None
    tokenizer = open_tokenizer(folder)
    some = tokens.prefix(min(len(tokens), data.length)).ids.tolist()
    words = [number for number in some if number not in set(data.special.values())] or [data.special["unk"]]
    whole = (words * data.length)[: data.length]  # the tokenizer cuts the end to add [CLS] and [SEP]
    return Reading(tokenizer.decode(whole, skip_special_tokens=False), tokenizer, data.length, data.labels)


def with_readings(contenders: Sequence[Contender], record: StudyRecord, store: Store) -> list[Contender]:
    """Return the contenders with a text of full length and the tokenizer of each, if the store has them."""
    numbers = [REFERENCE_NUMBER if contender.trial is None else contender.trial for contender in contenders]
    readings = (reading_of(record, store, record.numbered(number)) for number in numbers)
    return [replace(contender, reading=reading) for contender, reading in zip(contenders, readings, strict=True)]


def measure(
    contenders: Sequence[Contender],
    *,
    threads: int,
    texts: int,
    labels: int,
    baseline: Baseline | None = None,
    reading: Reading | None = None,
    seconds: float,
) -> list[Row]:
    """Measure the contenders in turn on ``texts`` texts. The reference runs in three forms, and its fastest one counts.

    If ``texts`` is 1, contenders with a reading are also measured from the text to its label. The ``baseline`` runs if
    a ``reading`` is given. ``seconds`` is the time for all.
    """
    forms: list[tuple[Contender | Baseline, int, str, Answer, Answer | None]] = [
        (c, members, form, answer, _from_text(answer, c.reading) if c.reading is not None and texts == 1 else None)
        for c in contenders
        for members, form, answer in _forms(c, texts=texts, labels=labels)
    ]
    if baseline is not None and reading is not None:
        rival = (baseline, 1, ONE, *_linear_answers(baseline.model, reading, texts=texts))
        forms.insert(sum(isinstance(c, Contender) and c.trial is None for c, *_ in forms), rival)
    answers = {f"{i}": answer for i, (_, _, _, answer, _) in enumerate(forms)}
    answers |= {f"{i} text": answer for i, (*_, answer) in enumerate(forms) if answer is not None}
    with torch_threads(threads):
        measured = race(answers, seconds=seconds)
    rows: dict[tuple[str, int | None, int, str], Row] = {}
    for i, (contender, members, form, *_) in enumerate(forms):
        time, of_text = measured[f"{i}"], measured.get(f"{i} text")
        trial = contender.trial if isinstance(contender, Contender) else BASELINE_NUMBER
        row = Row(threads, texts, contender.words, trial, form, members, time.p50_ms, time.p95_ms, None)
        row = replace(row, text_p50_ms=None if of_text is None else of_text.p50_ms)
        # A committee counts with its faster form. The forms of transformers are listed too.
        key = (contender.words, trial, members, form if form.startswith("transformers") else "")
        if key not in rows or row.p50_ms < rows[key].p50_ms:
            rows[key] = row
    base = min((row.p50_ms for row in rows.values() if row.trial is None), default=None)
    return [replace(row, ratio=None if base is None else row.p50_ms / base) for row in rows.values()]


def is_unsteady(rows: Sequence[Row]) -> bool:
    """Return whether other programs used the processor: in most rows the 95th percentile is far above the median."""
    return sum(row.p95_ms > UNSTEADY * row.p50_ms for row in rows) > len(rows) / 2


def _from_text(answer: Callable[[], Tensor], reading: Reading) -> Answer:
    """Return a function from a text to its label: tokenising, the model, and the name of the label."""

    def label() -> str:
        reading.ids()
        return reading.labels[int(answer()[0].argmax())]

    return label


def _linear_answers(model: Linear, reading: Reading, *, texts: int) -> tuple[Answer, Answer | None]:
    """Return the baseline's functions from ready features to answers, and from one text to its label."""
    rows = model.read([reading.text] * texts)

    def label() -> str:
        return reading.labels[int(model.answer(model.read([reading.text]))[0].argmax())]

    return lambda: model.answer(rows), label if texts == 1 else None


def _forms(contender: Contender, *, texts: int, labels: int) -> Iterator[tuple[int, str, Callable[[], Tensor]]]:
    shape = contender.architecture
    for members in contender.sizes:
        for form in (STACKED, ONE_BY_ONE) if members > 1 else ("",):
            stacked = form != ONE_BY_ONE
            answer = committee_answer(
                shape,
                members=members,
                labels=labels,
                pooling=contender.pooling,
                texts=texts,
                stacked=stacked,
                linear=contender.linear,
            )
            yield members, form or ONE, answer
    # Other programs would serve the deep model like this. A reference of several members has no such form.
    if contender.trial is None and contender.sizes == (1,) and shape.is_bert and contender.linear is None:
        yield 1, "transformers eager", transformers_answer(shape, labels=labels, attention="eager", texts=texts)
        yield 1, "transformers sdpa", transformers_answer(shape, labels=labels, attention="sdpa", texts=texts)


def _shape(record: StudyRecord, trial: TrialRecord) -> tuple[Architecture, str]:
    facts: Mapping[str, Any] = facts_of(record.data, trial.settings)
    vocabulary, positions = int(facts["vocabulary"]), int(facts["length"])
    return Architecture.of(trial.settings, vocabulary=vocabulary, positions=positions), str(trial.settings["pooling"])


def _linear_of(trial: TrialRecord, store: Store) -> LinearWeights | None:
    """Return the linear model of a committee of hybrids; None for other committees, or if it is missing."""
    if not trial.settings.get("linear_member") or not trial.members:
        return None
    try:
        member = store.read(KIND, trial.members[0])
        digests = None if member is None else hybrid_digests(member.document["spec"])
        entry = None if digests is None else store.read(LINEAR, digests.linear)
        return None if entry is None else linear_weights(entry)
    except StoreError:  # simulated members have no weights
        return None
