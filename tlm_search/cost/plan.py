"""The cost of a study before it runs: members, tokens, updates, floating-point operations, seconds. No torch here.

Texts count at full length, so tokens and operations are upper bounds. Seconds are counted only with a clock.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain
from types import MappingProxyType
from typing import Any, Protocol

from tlm_search.cost.extremes import extremes
from tlm_search.data.prepared import PreparedData
from tlm_search.data.vocabulary.byte_level import BYTE_TOKENS
from tlm_search.digest import canonical_json
from tlm_search.members.spec import MemberSpec, PretrainSpec, committee_specs, settings_of_teachers, students
from tlm_search.members.stacks import phases_of
from tlm_search.model.architecture import Architecture
from tlm_search.space.parameters import Choices, Searched
from tlm_search.space.schema import Space
from tlm_search.space.sections import TokenizerSection
from tlm_search.space.settings import CLASS_WEIGHTS, Value, tokens_of

TRAINING_PASSES = 3  # a backward pass takes as long as two forward passes
_LABELS_ASSUMED = 10
_VOCABULARY_ASSUMED = 30_522  # as in bert-base-uncased
_UNLABELLED_ASSUMED = 20_000
_TRAIN_ROWS_ASSUMED = 5_000
_NOTHING: Mapping[str, Value] = MappingProxyType({})


class Seconds(Protocol):
    """A clock: an object that tells how long trainings take."""

    def pretraining(self, spec: PretrainSpec, members: int) -> float:
        """Return the seconds of ``members`` pre-trainings like ``spec``, which differ in their seeds."""
        ...

    def finetuning(self, spec: MemberSpec, members: int) -> float:
        """Return the seconds of ``members`` fine-tunings like ``spec``, with answers on validation and test."""
        ...

    def latencies(self, size: int) -> float:
        """Return the seconds of measuring the latencies of committees of 1 to ``size`` members."""
        ...


@dataclass(frozen=True)
class DataSizes:
    """The sizes of the data that affect the cost of a member: ``length`` in tokens, the others as numbers.

    Students learn from ``unlabelled`` texts in addition to the ``train_rows``. If configurations have different
    tokenizers or lengths, ``variants`` maps the settings that choose them, as JSON, to vocabulary and length.
    """

    vocabulary: int
    length: int
    labels: int
    train_rows: int
    assumptions: tuple[str, ...] = ()
    unlabelled: int = 0
    variants: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def tokens(self, settings: Mapping[str, Value]) -> tuple[int, int]:
        """Return vocabulary and length of a configuration with complete ``settings``."""
        return self.variants.get(canonical_json(tokens_of(settings)), (self.vocabulary, self.length))

    @classmethod
    def of_space(cls, space: Space) -> DataSizes:
        """Estimate the sizes from the space alone. ``assumptions`` says in sentences what is assumed."""
        sections = [section for _, section in space.tokenizers]
        assumptions = [_whole_texts(section.length for section in sections)]
        labels = space.task.labels
        if labels is None:
            labels = _LABELS_ASSUMED
            assumptions.append(f"the task has {labels} labels")
        if space.tokenizer.name is not None:
            most = "at most " if space.tokenizer.min_count else ""
            assumptions.append(f"the tokenizer has {most}{_VOCABULARY_ASSUMED:,} tokens")
        rows, unlabelled = space.task.train_rows(labels), 0
        if rows is None:
            rows = _TRAIN_ROWS_ASSUMED
            assumptions.append(f"the task has {rows:,} training texts")
        if space.task.unlabelled is not None:
            unlabelled = space.task.unlabelled.documents or _UNLABELLED_ASSUMED
            if space.task.unlabelled.documents is None:
                assumptions.append(f"the task has {unlabelled:,} unlabelled texts")
        sizes = [(_vocabulary(section) + space.task.markers, section.length) for section in sections]
        names = [canonical_json(tokens) for tokens, _ in space.tokenizers]
        variants = dict(zip(names, sizes, strict=True)) if len(sizes) > 1 else {}
        return cls(*sizes[0], labels, rows, tuple(assumptions), unlabelled, variants)

    @classmethod
    def of_data(cls, data: PreparedData) -> DataSizes:
        """Return the sizes of prepared data."""
        return cls(
            data.vocabulary,
            data.length,
            len(data.labels),
            data.rows["train"],
            (_whole_texts(each.length for each in data.all()),),
            data.unlabelled_texts.get("used", 0),
            {
                canonical_json(variant["tokens"]): (each.vocabulary, each.length)
                for variant, each in zip(data.variants, data.all(), strict=False)
            },
        )


@dataclass(frozen=True)
class Cost:
    """The cost of trainings: members, tokens, optimiser updates, floating-point operations (a multiply-add counts 2).

    ``seconds`` is the total time of trials that run one after another: training, answers on validation and test,
    measuring latencies.
    """

    members: float = 0
    pretraining_tokens: float = 0
    finetuning_tokens: float = 0
    updates: float = 0
    flops: float = 0
    seconds: float = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            members=self.members + other.members,
            pretraining_tokens=self.pretraining_tokens + other.pretraining_tokens,
            finetuning_tokens=self.finetuning_tokens + other.finetuning_tokens,
            updates=self.updates + other.updates,
            flops=self.flops + other.flops,
            seconds=self.seconds + other.seconds,
        )

    def __mul__(self, times: float) -> Cost:
        return Cost(
            members=self.members * times,
            pretraining_tokens=self.pretraining_tokens * times,
            finetuning_tokens=self.finetuning_tokens * times,
            updates=self.updates * times,
            flops=self.flops * times,
            seconds=self.seconds * times,
        )


@dataclass(frozen=True)
class Plan:
    """The cost of a study with its reference, if the store is empty and nothing is pruned.

    ``at_least``: all trials propose the cheapest committee. ``expected``: the trials are the points of the space, then
    random. ``at_most``: each trial proposes another committee with the highest cost. All three include ``reference``,
    the cost of all ``reference_tries``. ``costliest_try`` is the cost of the try with the most operations. ``timed``
    says whether seconds were counted.
    """

    at_least: Cost
    expected: Cost
    at_most: Cost
    reference: Cost
    assumptions: tuple[str, ...]
    timed: bool = False
    reference_tries: int = 1
    costliest_try: Cost | None = None

    def columns(self) -> dict[str, dict[str, float]]:
        """Return the measures of each cost, without seconds if they were not counted."""
        names = ("reference", "at_least", "expected", "at_most")
        left_out = set() if self.timed else {"seconds"}
        return {
            name: {measure: value for measure, value in asdict(getattr(self, name)).items() if measure not in left_out}
            for name in names
        }

    def to_document(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        tries = {"reference_tries": self.reference_tries} if self.reference_tries > 1 else {}
        return {**self.columns(), **tries, "assumptions": list(self.assumptions)}


def plan(space: Space, sizes: DataSizes, clock: Seconds | None = None) -> Plan:
    """Count the trainings of a study within its budget of trials. Members that trials share count once.

    A ``clock`` adds seconds. It is called for the reference first, then for trials in the order of the search.
    """
    tries = [_members(settings, sizes) for settings in space.reference_tries()]
    reference_members = list(chain.from_iterable(tries))
    reference = _cost(reference_members, sizes, clock)
    costliest = max(tries, key=lambda members: _cost(members, sizes, None).flops, default=[])
    generator = random.Random(space.seed)
    points = [*space.points[: space.budget.trials], *[{}] * (space.budget.trials - len(space.points))]
    drawn = (_members(space.settings(draw(space, generator, point)), sizes) for point in points)
    expected = _cost(chain(reference_members, *drawn), sizes, clock)
    trials = [committee_cost(space.settings(params), sizes, clock) for params in extremes(space)]
    return Plan(
        at_least=_extreme(min, trials) + reference,
        expected=expected,
        at_most=_extreme(max, trials) * different_trials(space) + reference,
        reference=reference,
        assumptions=sizes.assumptions,
        timed=clock is not None,
        reference_tries=len(tries),
        costliest_try=reference if len(tries) < 2 else _cost(costliest, sizes, clock),
    )


def draw(space: Space, generator: random.Random, point: Mapping[str, Value] = _NOTHING) -> dict[str, Value]:
    """Draw random values of the active parameters of the space. Parameters in ``point`` keep their values."""
    params: dict[str, Value] = {}
    for name, parameter in space.searched().items():
        if space.is_active(name, params):
            params[name] = point[name] if name in point else _draw(parameter, generator)
    return params


def _whole_texts(lengths: Iterable[int]) -> str:
    return f"every text has {' or '.join(map(str, sorted(set(lengths))))} tokens"


def _vocabulary(tokenizer: TokenizerSection) -> int:
    if tokenizer.kind == "bytes":
        return BYTE_TOKENS
    return tokenizer.vocabulary or _VOCABULARY_ASSUMED


def _draw(parameter: Searched, generator: random.Random) -> Value:
    if isinstance(parameter, Choices):
        return generator.choice(parameter.choices)
    size = parameter.size()
    if parameter.log or size is None:
        return parameter.at(generator.random())
    return parameter.value(generator.randrange(size))


def different_trials(space: Space) -> int:
    """Return the largest number of trials that differ in more than their committee size."""
    sizes = [parameter.size() for name, parameter in space.searched().items() if name != "committee_size"]
    finite = [size for size in sizes if size is not None]
    return min(space.budget.trials, math.prod(finite)) if len(finite) == len(sizes) else space.budget.trials


def _members(settings: Mapping[str, Value], sizes: DataSizes) -> Sequence[MemberSpec]:
    """Return the members that a trial trains; with self-training the teachers, then the students."""
    # Fingerprints are empty and seeds start at 0, because these members need only differ when members of the study do.
    # Hybrids are left out: they add no trainings, and the linear model takes seconds once. Class weights take no time,
    # and the names of the labels are unknown here.
    settings = {**settings, "linear_member": False, CLASS_WEIGHTS: "none"}
    vocabulary, length = sizes.tokens(settings)
    members = committee_specs(
        settings,
        vocabulary=vocabulary,
        positions=length,
        labels=sizes.labels,
        corpus="",
        task="",
        seeds=range(int(settings["committee_size"])),
    )
    of_teachers = settings_of_teachers(settings)
    if of_teachers is None:
        return members
    teachers = _members(of_teachers, sizes)
    return [*teachers, *students(members, teachers, settings, unlabelled="unlabelled")]


def committee_cost(settings: Mapping[str, Value], sizes: DataSizes, clock: Seconds | None = None) -> Cost:
    """Return the cost of a trial, or of a try of the reference, with an empty store."""
    return _cost(_members(settings, sizes), sizes, clock)


def _cost(specs: Iterable[MemberSpec], sizes: DataSizes, clock: Seconds | None) -> Cost:
    # Each once and in order, so that in every process the clock measures the same trainings before its time is up.
    members = list(dict.fromkeys(specs))
    pretrained = list(dict.fromkeys(member.pretrained for member in members if member.pretrained is not None))
    parts = [_finetuning(member, sizes) for member in members] + [_pretraining(spec) for spec in pretrained]
    taught = {member.teaching: member for member in members if member.teaching is not None}
    parts += [_answers(student, sizes) for student in taught.values()]
    return sum(parts, Cost(seconds=0 if clock is None else _seconds(members, pretrained, clock)))


def _seconds(members: Sequence[MemberSpec], pretrained: Sequence[PretrainSpec], clock: Seconds) -> float:
    # Members that differ only in their seeds can be trained as a single model.
    encoders = Counter(replace(spec, seed=0) for spec in pretrained)
    alike = Counter(replace(member, seed=0, pretrained=_unseeded(member.pretrained)) for member in members)
    total = sum(clock.pretraining(spec, count) for spec, count in encoders.items())
    total += sum(clock.finetuning(spec, count) for spec, count in alike.items())
    # Equal committees have equal latencies. Seeds count from 0, so the largest seed gives the size.
    largest: dict[tuple[Architecture, str], int] = {}
    for member in members:
        shape = (member.architecture, member.settings.pooling)
        largest[shape] = max(largest.get(shape, 0), member.seed + 1)
    return total + sum(clock.latencies(size) for size in largest.values())


def _unseeded(spec: PretrainSpec | None) -> PretrainSpec | None:
    return None if spec is None else replace(spec, seed=0)


def _pretraining(spec: PretrainSpec) -> Cost:
    settings, length = spec.settings, spec.architecture.positions
    texts = spec.documents * settings.epochs
    scored, phase = round(settings.masking_probability * length), phases_of(spec)[-1]
    words = phase.words(spec.architecture)
    return Cost(
        pretraining_tokens=texts * length,
        updates=math.ceil(spec.documents / settings.batch_size) * settings.epochs,
        flops=TRAINING_PASSES * texts * spec.architecture.forward_flops(length, scored=scored, words=words),
    )


def _finetuning(spec: MemberSpec, sizes: DataSizes) -> Cost:
    settings, rows, length = spec.settings, _rows(spec, sizes), spec.architecture.positions
    texts = rows * settings.epochs
    return Cost(
        members=1,
        finetuning_tokens=texts * length,
        updates=math.ceil(rows / settings.batch_size) * settings.epochs,
        flops=TRAINING_PASSES * texts * spec.architecture.forward_flops(length),
    )


def _answers(student: MemberSpec, sizes: DataSizes) -> Cost:
    """Return the cost of the teachers' answers. All their students share it."""
    assert student.teaching is not None
    texts = len(student.teaching.teachers) * _rows(student, sizes)
    return Cost(flops=texts * student.architecture.forward_flops(student.architecture.positions))


def _rows(spec: MemberSpec, sizes: DataSizes) -> int:
    return sizes.train_rows + (sizes.unlabelled if spec.teaching is not None else 0)


def _extreme(choose: Callable[[Iterable[float]], float], costs: Sequence[Cost]) -> Cost:
    """Return the minimum or maximum of each measure over ``costs``."""
    return Cost(*(choose(getattr(cost, part.name) for cost in costs) for part in fields(Cost)))
