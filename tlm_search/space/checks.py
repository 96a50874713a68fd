"""Checks across the sections of a space, so that no impossible configuration reaches a worker."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping

from tlm_search.space.conditions import active, searched_in_order, when_of
from tlm_search.space.objectives import Objective
from tlm_search.space.parameters import Choices, Parameter, Range, Searched
from tlm_search.space.samplers import SamplerSection
from tlm_search.space.section import Problem, given, refusal
from tlm_search.space.sections import TokenizerSection
from tlm_search.space.settings import ONLY_WITH, OWN, SETTINGS, TOKENS, Value, complete, tokens_of
from tlm_search.space.task import TaskSection

SHAPE = ("width", "heads", "head_size")  # width = heads x head_size: any two determine the third
_MOST_GRID_POINTS = 100_000
_EXAMPLES = 3


def resolve(search: Mapping[str, Parameter], params: Mapping[str, Value]) -> dict[str, Value]:
    """Return all settings of a trial: fixed settings, active parameters, and defaults for the rest.

    Raises:
        KeyError: ``params`` lack an active parameter.
        ValueError: width, heads and head size contradict each other.
    """
    chosen: dict[str, Value] = {}
    for name, parameter in search.items():
        if not isinstance(parameter, Choices | Range):
            chosen[name] = parameter
        elif active(search, name, params):
            chosen[name] = params[name]
    return complete(chosen)


def shape_problems(search: Mapping[str, Parameter]) -> list[Problem]:
    """Find combinations of width, heads and head size that do not divide or that exceed their limits."""
    present = [name for name in SHAPE if name in search]
    if not present:
        return []
    involved = {name: search[name] for name in set(present).union(*(_ancestors(search, name) for name in present))}
    failures: dict[str, None] = {}
    for params in _trials_over(involved, SHAPE):
        failure = _shape_failure(involved, params)
        if failure:
            failures[failure] = None
        if len(failures) > _EXAMPLES:
            break
    if not failures:
        return []
    searched = [name for name in present if isinstance(search[name], Choices | Range)]
    shown = "; ".join(itertools.islice(failures, _EXAMPLES)) + ("; and more" if len(failures) > _EXAMPLES else "")
    allowed = "combinations in which width = heads x head_size"
    return [Problem(((searched or present)[-1],), f"some combinations are impossible: {shown}; allowed: {allowed}")]


def _shape_failure(search: Mapping[str, Parameter], params: Mapping[str, Value]) -> str | None:
    try:
        settings = resolve(search, params)
    except ValueError as error:
        return str(error)
    return limit_failure(settings)


def limit_failure(settings: Mapping[str, Value]) -> str | None:
    """Say which of width, heads and head size exceeds its limits; None if all are within them."""
    for name in SHAPE:
        setting, value = SETTINGS[name], settings[name]
        assert setting.low is not None
        assert setting.high is not None
        if not setting.low <= float(value) <= setting.high:
            return f"{name} would be {value}, which is not {setting.allowed()}"
    return None


def point_problems(search: Mapping[str, Parameter], point: Mapping[str, Value]) -> Iterator[Problem]:
    """Find settings of a point that are not searched, values outside of their domain, and inactive parameters."""
    searched = searched_in_order(search)
    for name, value in point.items():
        if name not in searched:
            allowed = ", ".join(searched) or "nothing"
            yield Problem((name,), f"given {given(value)} for {name}, which is not searched; allowed: {allowed}")
            continue
        if not searched[name].contains(value):
            yield Problem((name,), refusal(value, searched[name].words()))
        for parent, listed in searched[name].when.items():
            if parent in point and point[parent] not in listed:
                allowed = f"only with {parent} {' or '.join(given(value) for value in listed)}"
                yield Problem((name,), f"given {given(value)} with {parent} {given(point[parent])}; allowed: {allowed}")


def sampler_problems(
    sampler: SamplerSection, search: Mapping[str, Parameter], objectives: tuple[Objective, ...]
) -> list[Problem]:
    """Find parts of this space that the sampler cannot handle."""
    searched = searched_in_order(search)
    if sampler.name == "cmaes":
        return _cmaes_problems(searched, objectives)
    return _grid_problems(searched) if sampler.name == "grid" else []


def _cmaes_problems(searched: Mapping[str, Searched], objectives: tuple[Objective, ...]) -> list[Problem]:
    problems = []
    choices = [name for name, parameter in searched.items() if isinstance(parameter, Choices)]
    if choices:
        message = f"cmaes needs ranges; given choices for {', '.join(choices)}; allowed here: tpe, nsgaii, gp, random"
        problems.append(Problem((), message))
    if len(objectives) > 1:
        names = ", ".join(objective.metric for objective in objectives)
        problems.append(Problem((), f"cmaes needs one objective; given {names}; allowed here: tpe, nsgaii, gp, random"))
    return problems


def _grid_problems(searched: Mapping[str, Searched]) -> list[Problem]:
    sizes = {name: parameter.size() for name, parameter in searched.items()}
    endless = [name for name, size in sizes.items() if size is None]
    if endless:
        message = f"grid needs finite domains; allowed for {', '.join(endless)}: choices, or a range with step"
        return [Problem((), message)]
    points = math.prod(size for size in sizes.values() if size is not None)
    if points > _MOST_GRID_POINTS:
        return [Problem((), f"the grid has {points:,} points; allowed: at most {_MOST_GRID_POINTS:,}")]
    return []


def documents_problems(parameters: Mapping[str, Parameter], documents: int | None) -> list[Problem]:
    """Find a ``pretrain_size`` that asks for more documents than the corpus may have."""
    size = parameters.get("pretrain_size")
    if size is None or documents is None:
        return []
    allowed = f"at most {documents}, the number of documents that the section corpus leaves"
    if isinstance(size, Choices):
        too_many = [(("pretrain_size", "choices", i), value) for i, value in enumerate(size.choices)]
        return [Problem(path, refusal(value, allowed)) for path, value in too_many if float(value) > documents]
    path, most = (("pretrain_size", "high"), size.high) if isinstance(size, Range) else (("pretrain_size",), size)
    return [Problem(path, refusal(most, allowed))] if float(most) > documents else []


def self_training_problems(parameters: Mapping[str, Parameter], task: TaskSection) -> list[Problem]:
    """Find self-training without unlabelled texts, or without a model that learns from them."""
    problems: list[Problem] = []
    if not _may_be(parameters, "self_training", 1):
        return problems
    if task.unlabelled is None:
        allowed = "0, or a source of texts in task.unlabelled, such as task: {unlabelled: texts.csv}"
        problems.append(
            Problem(("self_training",), f"given 1, but the task has no unlabelled texts; allowed: {allowed}")
        )
    taught = parameters.get("linear_member") is True and parameters.get("student_linear") == "teachers"
    if _may_be(parameters, "student_epochs", 0) and not taught:
        allowed = "1 or more, or 0 with linear_member: true and student_linear: teachers"
        message = f"given 0, but no linear model learns from the unlabelled texts; allowed: {allowed}"
        problems.append(Problem(("student_epochs",), message))
    return problems


def _may_be(parameters: Mapping[str, Parameter], name: str, value: Value) -> bool:
    """Return whether the setting ``name`` can have this ``value`` in a trial."""
    given = parameters.get(name, SETTINGS[name].default)
    return given.contains(value) if isinstance(given, Choices | Range) else given == value


def token_problems(parameters: Mapping[str, Parameter], tokenizer: TokenizerSection) -> list[Problem]:
    """Find tokenizer settings that cannot be searched: for an existing tokenizer, or a vocabulary for bytes."""
    problems = []
    for name in ("tokenizer_kind", "vocabulary"):
        if name in parameters and tokenizer.name is not None:
            allowed = "only without tokenizer.name; an existing tokenizer has its own, and only length can be chosen"
            problems.append(Problem((name,), f"given together with {given(tokenizer.name)}; allowed: {allowed}"))
    if "vocabulary" in parameters and "tokenizer_kind" not in parameters and tokenizer.kind == "bytes":
        allowed = "only with wordpiece; or search tokenizer_kind: {choices: [wordpiece, bytes]} too"
        problems.append(Problem(("vocabulary",), f"given together with tokenizer.kind bytes; allowed: {allowed}"))
    return problems


def token_choices(search: Mapping[str, Parameter]) -> list[dict[str, Value]]:
    """Return each combination of values of ``TOKENS`` that trials can have, in the order of the choices.

    Without such settings the result is a single empty combination.
    """
    present = {name: search[name] for name in TOKENS if name in search}
    involved = {name: search[name] for name in set(present).union(*(_ancestors(search, name) for name in present))}
    found: list[dict[str, Value]] = []
    for params in _trials_over(involved, TOKENS):
        fixed = {name: value for name, value in present.items() if not isinstance(value, Choices | Range)}
        searched = {name: params[name] for name in present if name in params and active(involved, name, params)}
        tokens = tokens_of(complete({**fixed, **searched}))
        if tokens not in found:
            found.append(tokens)
    choices = {name: list(value.values()) for name, value in present.items() if isinstance(value, Choices | Range)}

    def places(tokens: Mapping[str, Value]) -> list[int]:
        return [listed.index(tokens[name]) if name in tokens else -1 for name, listed in choices.items()]

    return sorted(found, key=places)


def lone_problems(parameters: Mapping[str, Parameter]) -> list[Problem]:
    """Find searched settings that depend on a setting that the space does not give."""
    return [
        Problem((name,), f"searched without {other}; allowed: together with {other}")
        for name, (other, _) in ONLY_WITH.items()
        if other not in parameters and isinstance(parameters.get(name), Choices | Range)
    ]


def own_trainer_problems(parameters: Mapping[str, Parameter], *, own: bool) -> list[Problem]:
    """Find settings that the trainer ignores. ``variant`` and ``own_NAME`` are only for ``own`` trainers."""
    if not own:
        return [
            Problem((name,), "given without a trainer of your own; allowed: with trainer: package.module:Class")
            for name in parameters
            if name == "variant" or name.startswith(OWN)
        ]
    read = ("variant", "committee_size", "linear_member", "linear_share", "linear_roles")
    return [
        Problem((name,), f"given with a trainer of your own; allowed: {OWN}NAME, {', '.join(read)}")
        for name in parameters
        if name not in read and not name.startswith(OWN)
    ]


def pooling_problems(parameters: Mapping[str, Parameter], entities: str) -> list[Problem]:
    """Find ``pooling: spans`` if the texts of the task have no entity markers."""
    pooling = parameters.get("pooling")
    if entities == "marked" or pooling is None or isinstance(pooling, Range):
        return []
    allowed = "spans only with task: {entities: marked}, whose texts hold [E1] head [/E1] and [E2] tail [/E2]"
    if not isinstance(pooling, Choices):
        return [Problem(("pooling",), refusal(pooling, allowed))] if pooling == "spans" else []
    listed = enumerate(pooling.choices)
    return [Problem(("pooling", "choices", i), refusal(value, allowed)) for i, value in listed if value == "spans"]


def _trials_over(involved: Mapping[str, Parameter], names: Collection[str]) -> Iterator[dict[str, Value]]:
    """Yield parameters with every combination of ``names``, and of the conditions under which they matter."""
    domains: dict[str, list[Value]] = {}
    for name, parameter in involved.items():
        if isinstance(parameter, Choices | Range):
            listed = {value for child in involved.values() for value in when_of(child).get(name, ())}
            domains[name] = list(parameter.values()) if name in names else _representatives(parameter, listed)
    for values in itertools.product(*domains.values()):
        yield dict(zip(domains, values, strict=True))


def _representatives(parameter: Searched, listed: set[Value]) -> list[Value]:
    """Return the values that conditions name, and another value to represent all others."""
    others = parameter.choices if isinstance(parameter, Choices) else (parameter.low, parameter.high)
    chosen = [value for value in listed if parameter.contains(value)]
    return chosen + [value for value in others if value not in listed][:1]


def _ancestors(search: Mapping[str, Parameter], name: str) -> set[str]:
    parents = set(when_of(search[name]))
    return parents.union(*(_ancestors(search, parent) for parent in parents))
