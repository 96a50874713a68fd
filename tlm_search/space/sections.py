"""The sections of a space that say what to train on, and with how much of a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from tlm_search.digest import without_defaults
from tlm_search.space.section import Number, Problem, Section, Text, Whole, given, is_number, refusal, refuse
from tlm_search.space.settings import Value

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MetricOfAllLabels = Literal["accuracy", "balanced_accuracy", "macro_f1"]
MetricOfOneLabel = Literal["precision", "recall", "f1", "average_precision"]
METRICS_OF_ALL_LABELS: tuple[MetricOfAllLabels, ...] = get_args(MetricOfAllLabels)
METRICS_OF_ONE_LABEL: tuple[MetricOfOneLabel, ...] = get_args(MetricOfOneLabel)
JUDGED_BY = frozenset({"metric", "positive"})  # keys of a task that do not change which texts are read
_PER_LABEL = {"train_per_label": 100, "validation_per_label": 50, "test_per_label": 100}  # what each is by default
_AS_THEY_ARE = ("train", "validation", "test", "validation_source")  # keys that do not go with those of _PER_LABEL
DEFAULT_SHARE = 0.15  # of the rows, for validation and for test
MOST_OF_DEFAULT_SHARE = 10_000  # rows that a default share takes at most


def read_source(raw: Any) -> Any:
    """Read a bare text as the ``source`` of a section."""
    return {"source": raw} if isinstance(raw, str) else raw


def _text_columns(raw: Any) -> Any:
    if raw is None or isinstance(raw, str):
        return raw
    if isinstance(raw, list | tuple) and all(isinstance(name, str) for name in raw) and len(raw) == len(set(raw)) == 2:
        return tuple(raw)
    raise refuse([Problem((), refusal(raw, "a column, or two for pairs, such as [premise, hypothesis]"))])


TextColumns = Annotated[
    Text | tuple[Text, Text], BeforeValidator(_text_columns, json_schema_input_type=str | tuple[str, str])
]


class CorpusSection(Section):
    """Unlabelled documents for pre-training. A bare text is the ``source``."""

    source: Text = Field(
        default="pydocs", min_length=1, description="pydocs, a local file or folder, or a Hugging Face id"
    )
    config: Text | None = Field(default=None, description="configuration of a Hugging Face data set")
    split: Text = Field(default="train", description="split of a Hugging Face data set")
    text: Text = Field(default="text", description="column with the text")
    documents: Whole | None = Field(default=None, ge=1, description="use at most this many documents")
    selection: Literal["random", "overlap", "weighted_overlap", "tfidf"] | None = Field(
        default=None, description="the order in which documents are taken: at random, or most like the task first"
    )
    skip: Whole = Field(default=0, ge=0, description="documents of that order to pass over, such as the most like it")

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if self.documents is not None and self.skip >= self.documents:
            raise refuse([Problem(("skip",), refusal(self.skip, f"fewer than documents, which is {self.documents}"))])
        return self

    @property
    def taken(self) -> int | None:
        """The most documents that are left to train on; None without a limit."""
        return None if self.documents is None else self.documents - self.skip


class TokenizerSection(Section):
    """A WordPiece vocabulary trained on the corpus, bytes, or a tokenizer that exists.

    Settings of the same names in ``search``, and ``tokenizer_kind`` for the kind, take the place of what is said here.
    """

    kind: Literal["wordpiece", "bytes"] = Field(
        default="wordpiece",
        description="what a token is: a piece of a word, or a byte, which needs no vocabulary",
    )
    vocabulary: Whole | None = Field(
        default=4096, ge=32, le=1_000_000, description="tokens of a WordPiece trained on the corpus"
    )
    name: Text | None = Field(
        default=None, min_length=1, description="a tokenizer instead: a folder or a Hugging Face id"
    )
    min_count: Whole | None = Field(
        default=None,
        ge=1,
        description="with name: only the tokens that corpus and training texts use so often; others are cut up",
    )
    strip_accents: bool | None = Field(
        default=None,
        description="of a trained vocabulary: false keeps accents and vowel marks, true drops them; with both, words "
        "of any length are cut up. Not given is as BERT has it: dropped, and words of over 100 characters are unknown",
    )
    length: Whole = Field(default=64, ge=8, le=512, description="tokens a text is cut to")

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Not there unless it is given: what was named before it came keeps its name.
        return without_defaults(write(self), {"kind": "wordpiece", "min_count": None, "strip_accents": None})

    @model_validator(mode="before")
    @classmethod
    def _one_of_the_two(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        name, vocabulary = data.get("name"), data.get("vocabulary")
        if data.get("kind") == "bytes":
            for key in ("vocabulary", "name", "min_count", "strip_accents"):
                if data.get(key) is not None:
                    message = f"given {given(data[key])} together with kind bytes; allowed: {key} only with wordpiece"
                    raise refuse([Problem((key,), message)])
            return {**data, "vocabulary": None}
        if name is not None and vocabulary is not None:
            message = f"given {given(vocabulary)} together with name; allowed: one of the two"
            raise refuse([Problem(("vocabulary",), message)])
        if name is None and data.get("min_count") is not None:
            allowed = "only with name; a trained vocabulary is as large as asked"
            raise refuse([Problem(("min_count",), refusal(data["min_count"], allowed))])
        if name is not None and data.get("strip_accents") is not None:
            allowed = "only with vocabulary; a tokenizer that exists is as it is"
            raise refuse([Problem(("strip_accents",), refusal(data["strip_accents"], allowed))])
        if name is None and "vocabulary" in data and vocabulary is None:
            raise refuse([Problem(("vocabulary",), refusal(None, "a whole number; or give name"))])
        return {**data, "vocabulary": None} if name is not None else data

    def of(self, tokens: Mapping[str, Value]) -> Self:
        """Return the section with the values of settings, as ``tokens_of`` has them, in the place of its own."""
        kind, length = tokens.get("tokenizer_kind", self.kind), tokens.get("length", self.length)
        if kind == "bytes":
            return type(self).model_validate({"kind": kind, "length": length})
        if self.kind == "bytes":  # in its place the default of a trained vocabulary
            vocabulary = tokens.get("vocabulary", type(self).model_fields["vocabulary"].default)
            return type(self).model_validate({"vocabulary": vocabulary, "length": length})
        return self.model_copy(update={"length": length, "vocabulary": tokens.get("vocabulary", self.vocabulary)})


def columns_of_texts(text: str | tuple[str, str]) -> tuple[str, ...]:
    """Return the names that a key ``text`` gives: one, or the two of pairs."""
    return (text,) if isinstance(text, str) else text


class UnlabelledSection(Section):
    """Texts of the task's kind without labels, for self-training. A bare text is the ``source``.

    The source of the task itself will do: its labels are not read.
    """

    source: Text = Field(min_length=1, description="a local file or folder, a Hugging Face id, or pydocs")
    config: Text | None = Field(
        default=None, description="configuration of a Hugging Face data set; the task's where the source is the task's"
    )
    split: Text | None = Field(default=None, description="split of a Hugging Face data set; the task's train_split")
    text: TextColumns | None = Field(
        default=None, description="column with the text, or the two of a pair; the task's when not given"
    )
    documents: Whole | None = Field(default=None, ge=1, description="use at most this many texts")


def _of_default(part: str) -> str:
    return (
        f"when not given all of a {part} file or split, else {DEFAULT_SHARE} of the rows, at most "
        f"{MOST_OF_DEFAULT_SHARE:,}"
    )


class TrainSection(Section):
    """Train on some of the rows only: ``per_label`` of each label, or ``rows`` in all."""

    per_label: Whole | None = Field(default=None, ge=1, description="at most this many rows of each label")
    rows: Whole | None = Field(default=None, ge=1, description="this many rows, in the proportions of the labels")

    @model_serializer(mode="wrap")
    def _only_what_is_given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(write(self), {"per_label": None, "rows": None})

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if (self.per_label is None) == (self.rows is None):
            raise refuse([Problem((), refusal(self.model_dump(), "per_label or rows, one of the two"))])
        return self


def _train(raw: Any) -> Any:
    if raw is None or raw == "all" or isinstance(raw, TrainSection):
        return raw
    if not isinstance(raw, dict):
        raise refuse([Problem((), refusal(raw, "all, {per_label: N} or {rows: N}"))])
    return TrainSection.model_validate(raw)


def _label(raw: Any) -> Any:
    return str(raw) if type(raw) is int else raw  # labels are texts; YAML reads 1 as a number


class ContextSection(Section):
    """Each text is a line of a log, which is read with the lines before it."""

    rows: Whole = Field(ge=1, le=512, description="how many lines before it; those nearest to it are cut last")
    group: Text | None = Field(
        default=None,
        min_length=1,
        description="column of what lines belong together, such as a host or a session; whole groups are of one part",
    )
    time: Text | None = Field(
        default=None,
        min_length=1,
        description="column of the times, numbers or ISO; when not given the rows are in the order of time",
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names."""
        return tuple(column for column in (self.group, self.time) if column is not None)


class TaskSection(Section):
    """Labelled texts, split once into train, validation and test. A bare text is the ``source``.

    All rows are used: train has those that validation and test do not take. With one of the keys ``..._per_label``
    each part has the same number of rows of every label. That is the default for pydocs.
    """

    source: Text = Field(
        default="pydocs", min_length=1, description="pydocs, a local file or folder, or a Hugging Face id"
    )
    config: Text | None = Field(default=None, description="configuration of a Hugging Face data set")
    text: TextColumns = Field(
        default="text",
        description="column with the text; or two, [premise, hypothesis], whose texts are read as a pair",
    )
    label: Text = Field(default="label", description="column with the label")
    context: ContextSection | None = Field(
        default=None, description="texts are lines of a log; each is read with the lines before it"
    )
    train_split: Text = Field(default="train", description="split that train and validation are cut from")
    test_split: Text = Field(
        default="test", description="split that test is cut from; without one it is cut from train"
    )
    validation_source: Text | None = Field(
        default=None, min_length=1, description="file with the validation texts, all of which are used"
    )
    test_source: Text | None = Field(
        default=None, min_length=1, description="file with the test texts; all are used, but with test_per_label"
    )
    format: Literal["auto", "fewrel"] = Field(default="auto", description="fewrel: the original JSON layout of FewRel")
    entities: Literal["prefixed", "marked"] = Field(
        default="prefixed",
        description="marked: texts hold [E1] head [/E1] and [E2] tail [/E2], each marker one token; FewRel's are "
        "written so, where prefixed puts head ; tail ; before the sentence",
    )
    labels: Whole | None = Field(default=None, ge=2, description="keep the most frequent labels (pydocs: packages)")
    train: Annotated[
        Literal["all"] | TrainSection | None,
        BeforeValidator(_train, json_schema_input_type=Literal["all"] | TrainSection | None),
    ] = Field(default=None, description="all rows that validation and test leave, or {per_label: N}, or {rows: N}")
    validation: int | float | None = Field(
        default=None, description=f"rows, or a share of them, stratified; {_of_default('validation')}"
    )
    test: int | float | None = Field(
        default=None, description=f"rows, or a share of them, stratified; {_of_default('test')}"
    )
    train_per_label: Whole | None = Field(default=None, ge=1, description="balanced: training texts per label")
    validation_per_label: Whole | None = Field(
        default=None, ge=1, description="balanced: validation texts per label, cut from train"
    )
    test_per_label: Whole | None = Field(default=None, ge=1, description="balanced: test texts per label")
    metric: Literal[MetricOfAllLabels, MetricOfOneLabel] = Field(
        default="accuracy", description="what choices and reports are made by; the last four are those of positive"
    )
    positive: Annotated[Text | None, BeforeValidator(_label, json_schema_input_type=str | int | None)] = Field(
        default=None, min_length=1, description="the label of precision, recall, f1 and average_precision"
    )
    seed: Whole = Field(default=0, ge=0, le=2**32 - 1, description="seed of the sample and of the splits")
    unlabelled: Annotated[
        UnlabelledSection | None, BeforeValidator(read_source, json_schema_input_type=str | UnlabelledSection | None)
    ] = Field(default=None, description="texts without labels, which self_training: 1 learns from too")

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What came later is there only where it was chosen: what was named before keeps its name.
        absent: dict[str, Any] = dict.fromkeys((*_AS_THEY_ARE, *_PER_LABEL))
        absent |= {"entities": "prefixed", "unlabelled": None, "metric": "accuracy", "positive": None, "context": None}
        return without_defaults(write(self), absent)

    @property
    def per_label(self) -> dict[str, int] | None:
        """How many rows of each label train, validation and test have; None where they are not balanced."""
        if self.train_per_label is None or self.validation_per_label is None or self.test_per_label is None:
            return None
        return {"train": self.train_per_label, "validation": self.validation_per_label, "test": self.test_per_label}

    def train_rows(self, labels: int) -> int | None:
        """Return the most rows that train can have with this number of ``labels``; None where only the data tell."""
        if not isinstance(self.train, TrainSection):
            return None if self.train_per_label is None else self.train_per_label * labels
        return self.train.rows or (self.train.per_label or 0) * labels

    @model_validator(mode="before")
    @classmethod
    def _balanced_or_not(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        balanced = [key for key in _PER_LABEL if data.get(key) is not None]
        natural = [key for key in _AS_THEY_ARE if data.get(key) is not None]
        if balanced and natural:
            message = f"given {given(data[natural[0]])} together with {balanced[0]}; allowed: "
            message += f"{', '.join(_AS_THEY_ARE)}, or the keys {', '.join(_PER_LABEL)}, not both"
            raise refuse([Problem((natural[0],), message)])
        if balanced or (not natural and data.get("source", "pydocs") == "pydocs"):
            return {**data, **{key: _PER_LABEL[key] for key in _PER_LABEL if key not in balanced}}
        return {**data, "train": "all"} if data.get("train") is None else data

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _share_or_rows(cls, value: Any) -> Any:
        if value is None or (type(value) is int and value >= 1) or (type(value) is float and 0 < value < 1):
            return value
        raise refuse([Problem((), refusal(value, "a share above 0 and below 1, or a whole number of rows"))])

    @model_validator(mode="after")
    def _files_are_used_whole(self) -> Self:
        for part in ("validation", "test"):
            if getattr(self, part) is not None and getattr(self, f"{part}_source") is not None:
                allowed = f"{part} or {part}_source; all rows of a file are used"
                raise refuse([Problem((part,), refusal(getattr(self, part), allowed))])
        return self

    @model_validator(mode="after")
    def _with_its_label(self) -> Self:
        if self.metric in METRICS_OF_ONE_LABEL and self.positive is None:
            allowed = f"with positive: LABEL, whose {self.metric} it is; without, {', '.join(METRICS_OF_ALL_LABELS)}"
            raise refuse([Problem(("metric",), refusal(self.metric, allowed))])
        return self

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The column with the texts, or the two with pairs."""
        return columns_of_texts(self.text)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        of_context = () if self.context is None else self.context.columns
        return tuple(dict.fromkeys((*self.text_columns, self.label, *of_context)))

    @property
    def pairs(self) -> bool:
        """Whether a row has two texts: two columns, or a line and its context."""
        return len(self.text_columns) > 1 or self.context is not None

    @model_validator(mode="after")
    def _with_pairs(self) -> Self:
        unlabelled = None if self.unlabelled is None else self.unlabelled.text
        if unlabelled is not None and len(columns_of_texts(unlabelled)) != len(self.text_columns):
            allowed = f"as many columns as text of the task names, {len(self.text_columns)}"
            columns = ", ".join(columns_of_texts(unlabelled))
            raise refuse([Problem(("unlabelled", "text"), refusal(columns, allowed))])
        if len(self.text_columns) == 1:
            return self
        others = {
            "a file, a folder or a Hugging Face id; pydocs has no pairs": ("source", self.source == "pydocs"),
            "auto; FewRel has no pairs": ("format", self.format == "fewrel"),
            "prefixed; of pairs no entities can be marked": ("entities", self.entities == "marked"),
        }
        for allowed, (key, wrong) in others.items():
            if wrong:
                message = f"given {given(getattr(self, key))} together with two columns in text; allowed: {allowed}"
                raise refuse([Problem((key,), message)])
        if self.unlabelled is not None and self.unlabelled.source == "pydocs":
            allowed = "a source of pairs; pydocs has none"
            raise refuse([Problem(("unlabelled", "source"), refusal("pydocs", allowed))])
        return self

    @model_validator(mode="after")
    def _with_context(self) -> Self:
        if self.context is None:
            return self
        others = {
            "text": (len(self.text_columns) > 1, "one column; of a line the context is the first text of a pair"),
            "source": (self.source == "pydocs", "a file, a folder or a Hugging Face id; pydocs has no lines in order"),
            "format": (self.format == "fewrel", "auto; the rows of FewRel have no order"),
            "entities": (self.entities == "marked", "prefixed; of lines no entities can be marked"),
            "unlabelled": (self.unlabelled is not None, "no unlabelled texts, whose contexts nobody reads"),
            **{
                key: (getattr(self, key) is not None, "train, validation and test; lines are split by group and time")
                for key in _PER_LABEL
            },
        }
        for key, (wrong, allowed) in others.items():
            if wrong:
                message = f"given {given(getattr(self, key))} together with context; allowed: {allowed}"
                raise refuse([Problem((key,), message)])
        for key in ("group", "time"):
            column = getattr(self.context, key)
            if column in (*self.text_columns, self.label):
                allowed = "another column than those of text and label"
                raise refuse([Problem(("context", key), refusal(column, allowed))])
        return self

    @property
    def markers(self) -> int:
        """How many tokens mark the entities of a text."""
        return 4 if self.entities == "marked" else 0

    @model_validator(mode="after")
    def _with_entities(self) -> Self:
        if self.entities == "marked" and self.source == "pydocs":
            allowed = "prefixed with the source pydocs, whose texts have no entities; or give another source"
            raise refuse([Problem(("entities",), refusal(self.entities, allowed))])
        return self


class ResourcesSection(Section):
    """What one trial takes of the machine, and how many run at once."""

    cpus_per_trial: Number = Field(default=1, gt=0, description="CPU cores of a trial")
    gpus_per_trial: float | Literal["auto"] = Field(
        default=0.0,
        description="GPUs of a trial; a share such as 0.25 lets trials share one; auto: as its configuration needs",
    )
    concurrent_trials: Whole | None = Field(default=None, ge=1, description="trials at once; null is as many as fit")
    memory_gb: float | Literal["auto"] | None = Field(
        default="auto", description="main memory of a trial, in GB; auto: as its configuration needs; null: not counted"
    )

    @field_validator("gpus_per_trial", mode="before")
    @classmethod
    def _share_or_whole(cls, gpus: object) -> object:
        if gpus != "auto" and not (is_number(gpus) and gpus >= 0 and (gpus <= 1 or float(gpus).is_integer())):
            raise refuse([Problem((), refusal(gpus, "a share from 0 to 1, a whole number of GPUs, or auto"))])
        return gpus

    @field_validator("memory_gb", mode="before")
    @classmethod
    def _above_zero(cls, memory: object) -> object:
        if memory not in ("auto", None) and not (is_number(memory) and memory > 0):
            raise refuse([Problem((), refusal(memory, "a number above 0, auto or null"))])
        return memory


class BudgetSection(Section):
    """When the study ends."""

    trials: Whole = Field(default=20, ge=1, description="finished trials")
    time: Text | None = Field(default=None, description="longest time of one run, such as 90s, 30m or 2h")
    failures_in_a_row: Whole = Field(default=5, ge=1, description="failed trials in a row that end the study")

    @field_validator("time")
    @classmethod
    def _readable(cls, time: str | None) -> str | None:
        if time is not None and (parse_seconds(time) or 0) <= 0:
            raise refuse([Problem((), refusal(time, "a time such as 90s, 30m, 2h or 1d"))])
        return time

    @property
    def seconds(self) -> float | None:
        """The longest time of one run in seconds; None is no limit."""
        return None if self.time is None else parse_seconds(self.time)


class ReportSection(Section):
    """What the report shows."""

    examples: Whole = Field(
        default=6,
        ge=0,
        le=100,
        description="test texts that the report shows on each side, where committee and reference differ most; 0: none",
    )


def parse_seconds(time: str) -> float | None:
    """Return the seconds of a time such as ``90s``, ``30m``, ``1.5h`` or ``1d``; None if it is not one."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", time.strip())
    return float(match[1]) * _SECONDS[match[2]] if match else None
