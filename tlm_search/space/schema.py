"""The space: the full definition of a study, checked as a whole before anything starts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_serializer, field_validator

from tlm_search.digest import digest
from tlm_search.files import is_plain
from tlm_search.space import checks
from tlm_search.space.conditions import active, condition_problems, searched_in_order, with_implied
from tlm_search.space.entries import read_search, read_settings
from tlm_search.space.load import NO_OVERRIDES, load
from tlm_search.space.objectives import (
    Constraint,
    Objective,
    default_objectives,
    label_problems,
    read_constraints,
    read_objectives,
)
from tlm_search.space.parameters import Choices, Parameter, Range, Searched
from tlm_search.space.reference import (
    ReferenceSection,
    nuisance_names,
    read_reference,
    reference_problems,
    reference_tries,
)
from tlm_search.space.samplers import (
    MedianPruner,
    NoPruner,
    PrunerSection,
    SamplerSection,
    TPESampler,
    read_pruner,
    read_sampler,
)
from tlm_search.space.section import Problem, Section, Text, Whole, problems_of, refusal, refuse
from tlm_search.space.sections import (
    BudgetSection,
    CorpusSection,
    ReportSection,
    ResourcesSection,
    TokenizerSection,
    read_source,
)
from tlm_search.space.settings import Value, tokens_of
from tlm_search.space.task import TaskSection

_STORED = "stored"  # validation context of a space that a study stored
_NOT_IDENTITY = frozenset(
    {"name", "description", "points", "import_from", "tracking", "resources", "budget", "baseline", "confirm", "report"}
)


BERT, SIMULATED = "bert", "simulated"
OWN_TRAINER = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
UNKNOWN_OF_OWN = ("latency_ms", "parameters", "training_flops")  # metrics that are not measured

Tracker = Literal["tensorboard", "mlflow", "wandb"]


def _texts(raw: Any) -> Any:
    return (raw,) if isinstance(raw, str) else raw


def _objectives(raw: Any, info: ValidationInfo) -> tuple[Objective, ...]:
    # The empty tuple is the default; a file gives a list.
    return default_objectives(info.data.get("task", TaskSection())) if raw == () else read_objectives(raw)


def _points(raw: Any) -> tuple[dict[str, Value], ...]:
    if not isinstance(raw, list | tuple):
        raise refuse([Problem((), refusal(raw, "a list of mappings from searched settings to values"))])
    points: list[dict[str, Value]] = []
    problems: list[Problem] = []
    for i, point in enumerate(raw):
        try:
            points.append(read_settings(point))
        except ValidationError as error:
            problems += [Problem((i, *problem.path), problem.message) for problem in problems_of(error)]
    if problems:
        raise refuse(problems)
    return tuple(points)


def _pruner(raw: Any, info: ValidationInfo) -> PrunerSection:
    if raw is not None:
        return read_pruner(raw)
    # Pruners see only the first objective. They would stop trials that are better in another objective, or the only
    # feasible trials. Only TPE learns from pruned trials. The figures are in studies/LOG.md, 2026-11-24.
    alone = len(info.data.get("objectives", ())) == 1 and not info.data.get("constraints")
    return MedianPruner() if alone and isinstance(info.data.get("sampler"), TPESampler) else NoPruner()


def _is_own(trainer: str) -> bool:
    return trainer not in (BERT, SIMULATED)


def _refuse_unknown_of_own(metrics: Sequence[str], info: ValidationInfo) -> None:
    if _is_own(info.data.get("trainer", BERT)):
        problems = [
            Problem((i,), f"given {metric}, which is unknown for members of your own; allowed: metrics of the task")
            for i, metric in enumerate(metrics)
            if metric in UNKNOWN_OF_OWN
        ]
        if problems:
            raise refuse(problems)


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class Space(Section):
    """A study before it runs. Build it with ``load_space`` or ``Space.from_document``.

    The order of the fields matters: the check of a field reads the fields above it.
    """

    name: Text = Field(default="space", description="name of the study; by default the file's name")
    description: Text = Field(default="", description="the question that the study asks")
    seed: Whole = Field(default=0, ge=0, le=2**32 - 1, description="seed of members and of the sampler")
    trainer: Text = Field(
        default="bert",
        description="bert; simulated: made-up results, to try a space; or a class of your own, package.module:Class",
        json_schema_extra={"pattern": f"^(bert|simulated|{OWN_TRAINER})$"},
    )
    corpus: Annotated[CorpusSection, BeforeValidator(read_source, json_schema_input_type=str | CorpusSection)] = Field(
        default=CorpusSection(), description="unlabelled documents for pre-training"
    )
    tokenizer: TokenizerSection = Field(default=TokenizerSection(), description="how text becomes tokens")
    task: Annotated[TaskSection, BeforeValidator(read_source, json_schema_input_type=str | TaskSection)] = Field(
        default=TaskSection(), description="labelled texts to classify"
    )
    search: Annotated[Mapping[str, Parameter], BeforeValidator(read_search)] = Field(
        default={}, description="fixed and searched settings"
    )
    reference: Annotated[ReferenceSection | None, BeforeValidator(read_reference)] = Field(
        default=None,
        description="the deep model that committees are compared with; it inherits the fixed settings of search; with "
        "trials its nuisance settings are searched too",
    )
    baseline: Literal["linear", "none"] = Field(
        default="linear", description="the linear model that committees have to beat: TF-IDF and logistic regression"
    )
    objectives: Annotated[tuple[Objective, ...], BeforeValidator(_objectives)] = Field(
        default=(),
        validate_default=True,
        description="metrics to optimise; when not given, the metric of the task",
        json_schema_extra=_without_default,
    )
    constraints: Annotated[tuple[Constraint, ...], BeforeValidator(read_constraints)] = Field(
        default=(), description="conditions on a result, such as latency_ms <= 5 or beats_reference"
    )
    sampler: Annotated[SamplerSection, BeforeValidator(read_sampler)] = Field(
        default=TPESampler(), description="algorithm that proposes parameters"
    )
    pruner: Annotated[PrunerSection, BeforeValidator(_pruner)] = Field(
        default=None,
        validate_default=True,
        description="rule that stops trials before their committee is complete; if not given, median for tpe with one "
        "objective and no constraint, else none",
        json_schema_extra=_without_default,
    )
    points: Annotated[tuple[Mapping[str, Value], ...], BeforeValidator(_points)] = Field(
        default=(), description="parameters to try first"
    )
    import_from: Annotated[tuple[Text, ...], BeforeValidator(_texts, json_schema_input_type=str | list[str])] = Field(
        default=(), description="studies on the same data, by name or folder, whose trials the sampler learns from"
    )
    tracking: Annotated[
        tuple[Tracker, ...], BeforeValidator(_texts, json_schema_input_type=Tracker | list[Tracker])
    ] = Field(default=(), description="trackers that also log each finished trial as a run")
    confirm: Whole | None = Field(
        default=None,
        ge=0,
        le=1,
        description="1: after the search, train the chosen committee, and a reference of one or two models, once more "
        "with fresh seeds; 0: do not; when not given, train if it takes at most a tenth of the study",
    )
    resources: ResourcesSection = Field(default=ResourcesSection(), description="resources of a trial")
    budget: BudgetSection = Field(default=BudgetSection(), description="when the study ends")
    report: ReportSection = Field(default=ReportSection(), description="options of the report")

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str, info: ValidationInfo) -> str:
        # Studies of older versions can have other names.
        is_allowed = info.context == _STORED or is_plain(name)
        if not is_allowed or not re.fullmatch(r"[^\s./\\\0][^/\\\0\n]{0,99}", name):
            allowed = "a folder's name: up to 100 characters, no slash, no control character, no dot or dash first"
            raise refuse([Problem((), refusal(name, allowed))])
        return name

    @field_validator("trainer")
    @classmethod
    def _known_trainer(cls, trainer: str) -> str:
        if _is_own(trainer) and not re.fullmatch(OWN_TRAINER, trainer):
            raise refuse([Problem((), refusal(trainer, "one of bert, simulated, or package.module:Class"))])
        return trainer

    @field_validator("search")
    @classmethod
    def _possible_search(cls, search: Mapping[str, Parameter], info: ValidationInfo) -> Mapping[str, Parameter]:
        search = with_implied(search)
        problems = (condition_problems(search) or checks.shape_problems(search)) + checks.lone_problems(search)
        if "trainer" in info.data:
            problems = problems + checks.own_trainer_problems(search, own=_is_own(info.data["trainer"]))
        if "corpus" in info.data:
            problems = problems + checks.documents_problems(search, info.data["corpus"].taken)
        if "task" in info.data:
            problems = problems + checks.self_training_problems(search, info.data["task"])
            problems = problems + checks.pooling_problems(search, info.data["task"].entities)
        if "tokenizer" in info.data:
            problems = problems + checks.token_problems(search, info.data["tokenizer"])
        if problems:
            raise refuse(problems)
        return search

    @field_validator("reference")
    @classmethod
    def _possible_reference(cls, reference: ReferenceSection | None, info: ValidationInfo) -> ReferenceSection | None:
        problems: list[Problem] = []
        if reference is not None and _is_own(info.data.get("trainer", BERT)):
            raise refuse([Problem((), "given with a trainer of your own, whose members have no depth; leave it out")])
        if reference is not None and {"search", "seed"} <= set(info.data):
            problems += reference_problems(info.data["search"], reference, seed=info.data["seed"])
        if reference is not None and "corpus" in info.data:
            problems += checks.documents_problems(reference.settings, info.data["corpus"].taken)
        if reference is not None and "task" in info.data:
            inherited = {**info.data.get("search", {}), **reference.settings}
            problems += checks.self_training_problems(inherited, info.data["task"])
            problems += checks.pooling_problems(reference.settings, info.data["task"].entities)
        if reference is not None and {"search", "tokenizer"} <= set(info.data):
            all_of_it = {**info.data["search"], **reference.settings}
            problems += checks.token_problems(all_of_it, info.data["tokenizer"])
        if problems:
            raise refuse(problems)
        return reference

    @field_validator("objectives")
    @classmethod
    def _possible_objectives(cls, objectives: tuple[Objective, ...], info: ValidationInfo) -> tuple[Objective, ...]:
        _refuse_unknown_of_own([objective.metric for objective in objectives], info)
        if "task" in info.data:
            problems = label_problems([objective.metric for objective in objectives], info.data["task"])
            if problems:
                raise refuse(problems)
        return objectives

    @field_validator("constraints")
    @classmethod
    def _possible_constraints(cls, constraints: tuple[Constraint, ...], info: ValidationInfo) -> tuple[Constraint, ...]:
        _refuse_unknown_of_own([constraint.metric for constraint in constraints], info)
        if "reference" in info.data and info.data["reference"] is None:
            problems = [
                Problem((i,), "given beats_reference without a reference; allowed: only with a section reference")
                for i, constraint in enumerate(constraints)
                if constraint.bound is None
            ]
            if problems:
                raise refuse(problems)
        if "task" in info.data:
            task = info.data["task"]
            problems = label_problems([constraint.metric for constraint in constraints], task)
            if problems:
                raise refuse(problems)
            # A committee beats the reference if it has at least its value of the task's metric.
            own = {"metric": f"validation_{task.metric}"}
            constraints = tuple(c.model_copy(update=own) if c.bound is None else c for c in constraints)
        return constraints

    @field_validator("sampler")
    @classmethod
    def _possible_sampler(cls, sampler: SamplerSection, info: ValidationInfo) -> SamplerSection:
        if "search" in info.data:
            problems = checks.sampler_problems(sampler, info.data["search"], info.data.get("objectives", ()))
            if problems:
                raise refuse(problems)
        return sampler

    @field_validator("points")
    @classmethod
    def _possible_points(
        cls, points: tuple[Mapping[str, Value], ...], info: ValidationInfo
    ) -> tuple[Mapping[str, Value], ...]:
        problems = [
            Problem((i, *problem.path), problem.message)
            for i, point in enumerate(points if "search" in info.data else ())
            for problem in checks.point_problems(info.data["search"], point)
        ]
        if problems:
            raise refuse(problems)
        return points

    @property
    def is_own_trainer(self) -> bool:
        """Whether a class of the user trains the members."""
        return _is_own(self.trainer)

    @property
    def has_weights(self) -> bool:
        """Whether members are models of this package, with weights, an architecture and a latency."""
        return self.trainer == BERT

    @property
    def reads_data(self) -> bool:
        """Whether members learn prepared texts; simulated members learn nothing."""
        return self.trainer != SIMULATED

    @field_serializer("constraints")
    def _as_text(self, constraints: tuple[Constraint, ...]) -> list[str]:
        return [str(constraint) for constraint in constraints]

    def searched(self) -> dict[str, Searched]:
        """Return the searched settings, each after the settings that it depends on."""
        return searched_in_order(self.search)

    def fixed(self) -> dict[str, Value]:
        """Return the settings that ``search`` fixes."""
        return {name: value for name, value in self.search.items() if not isinstance(value, Searched)}

    def is_active(self, name: str, params: Mapping[str, Value]) -> bool:
        """Return whether the searched setting ``name`` matters in a trial; ``params`` must have its parents."""
        return active(self.search, name, params)

    def settings(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Return all settings of a trial: fixed settings, active ``params``, and defaults for the rest.

        Raises:
            KeyError: ``params`` lack an active parameter.
        """
        return checks.resolve(self.search, params)

    def reference_settings(self) -> dict[str, Value] | None:
        """Return all settings of the first try of the reference, or None without a reference."""
        return None if self.reference is None else next(reference_tries(self.search, self.reference, seed=self.seed))

    def reference_tries(self) -> tuple[dict[str, Value], ...]:
        """Return all settings of each try of the reference; empty without a reference."""
        return () if self.reference is None else tuple(reference_tries(self.search, self.reference, seed=self.seed))

    def reference_nuisance(self) -> tuple[str, ...]:
        """Return the settings that the trials of the reference draw; empty for a single trial."""
        return () if self.reference is None else nuisance_names(self.search, self.reference)

    @cached_property
    def tokenizers(self) -> tuple[tuple[Mapping[str, Value], TokenizerSection], ...]:
        """The tokenizers of trials and reference: the settings (``tokens_of``) and the section of each."""
        chosen = [*checks.token_choices(self.search), *map(tokens_of, self.reference_tries())]
        different = [tokens for number, tokens in enumerate(chosen) if tokens not in chosen[:number]]
        return tuple((tokens, self.tokenizer.of(tokens)) for tokens in different)

    def sources(self) -> tuple[str, ...]:
        """Return each source once: paths, ids of the hub, or ``pydocs``."""
        task = self.task
        unlabelled = None if task.unlabelled is None else task.unlabelled.source
        named = (self.corpus.source, task.source, task.validation_source, task.test_source, unlabelled)
        return tuple(dict.fromkeys(source for source in named if source is not None))

    def largest_pretrain_size(self) -> int:
        """Return the largest number of documents that a member can be pre-trained on."""
        sizes = [0, (self.reference_settings() or {}).get("pretrain_size", 0)]
        searched = self.search.get("pretrain_size", 0)
        if isinstance(searched, Choices):
            sizes += searched.choices
        else:
            sizes.append(searched.high if isinstance(searched, Range) else searched)
        return max(int(size) for size in sizes)

    def to_document(self) -> dict[str, Any]:
        """Return the resolved space as JSON; ``Space.from_document`` reads it back."""
        return self.model_dump(mode="json")

    @staticmethod
    def load(file: Path | str, changes: Mapping[str, Any] | None = None) -> Space:
        """Read and check a space file; ``changes`` are values for dotted keys: ``{"budget.trials": 4}``.

        Raises:
            SpaceError: the space has problems. The message has a line for each, with file, line, key, value and
                allowed values.
        """
        overrides = {key: json.dumps(value, ensure_ascii=False) for key, value in (changes or {}).items()}
        return load(Space, Path(file), overrides=overrides)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, stored: bool = False) -> Self:
        """Read the result of ``to_document``. A ``stored`` space may have a name that new studies cannot have.

        Raises:
            pydantic.ValidationError: the document is not a space.
        """
        return cls.model_validate(document, context=_STORED if stored else None)

    def identity(self) -> dict[str, Any]:
        """Return the keys that must be equal for a study to continue: all except ``_NOT_IDENTITY``."""
        return {key: value for key, value in self.to_document().items() if key not in _NOT_IDENTITY}

    @cached_property
    def digest(self) -> str:
        """The digest of the identity."""
        return digest(self.identity())


def load_space(path: Path, *, overrides: Mapping[str, str] = NO_OVERRIDES) -> Space:
    """Read and check a space file.

    ``overrides`` are YAML values for dotted keys, such as ``{"search.depth": "2"}``. They override the file and its
    variants. A space without a name gets the name of the file, followed by the names of the chosen variants.

    Raises:
        SpaceError: the space has problems. The message has a line for each, with file, line, key, value and allowed
            values.
    """
    return load(Space, path, overrides=overrides)
