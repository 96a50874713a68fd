"""The section ``task`` of a space: where the labelled texts are, how they are split, and what judges them."""

from __future__ import annotations

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
from tlm_search.space.section import Problem, Section, Text, Whole, given, refusal, refuse
from tlm_search.space.sections import read_source

MetricOfAllLabels = Literal["accuracy", "balanced_accuracy", "macro_f1"]
MetricOfOneLabel = Literal["precision", "recall", "f1", "average_precision"]
METRICS_OF_ALL_LABELS: tuple[MetricOfAllLabels, ...] = get_args(MetricOfAllLabels)
METRICS_OF_ONE_LABEL: tuple[MetricOfOneLabel, ...] = get_args(MetricOfOneLabel)
JUDGED_BY = frozenset({"metric", "positive"})  # keys of a task that do not affect its texts
_PER_LABEL = {"train_per_label": 100, "validation_per_label": 50, "test_per_label": 100}  # defaults
_AS_THEY_ARE = ("train", "validation", "test", "validation_source")  # not with _PER_LABEL
DEFAULT_SHARE = 0.15  # share of the rows for validation, and for test
MOST_OF_DEFAULT_SHARE = 10_000  # most rows that a default share takes


def _text_columns(raw: Any) -> Any:
    if raw is None or isinstance(raw, str):
        return raw
    if isinstance(raw, list | tuple) and all(isinstance(name, str) for name in raw) and len(raw) == len(set(raw)) == 2:
        return tuple(raw)
    raise refuse([Problem((), refusal(raw, "a column, or two for pairs, such as [premise, hypothesis]"))])


TextColumns = Annotated[
    Text | tuple[Text, Text], BeforeValidator(_text_columns, json_schema_input_type=str | tuple[str, str])
]


def columns_of_texts(text: str | tuple[str, str]) -> tuple[str, ...]:
    """Return the column names in a key ``text``: a single name, or two names for pairs."""
    return (text,) if isinstance(text, str) else text


class UnlabelledSection(Section):
    """Texts like those of the task without labels, for self-training. A bare text is the ``source``.

    It may be the source of the task itself, because labels are not read.
    """

    source: Text = Field(min_length=1, description="a local file or folder, a Hugging Face id, or pydocs")
    config: Text | None = Field(
        default=None, description="configuration of a Hugging Face data set; default: the task's, for the task's source"
    )
    split: Text | None = Field(
        default=None, description="split of a Hugging Face data set; default: the task's train_split"
    )
    text: TextColumns | None = Field(
        default=None, description="column with the text, or two columns for pairs; default: the task's"
    )
    documents: Whole | None = Field(default=None, ge=1, description="use at most this many texts")


def _of_default(part: str) -> str:
    return (
        f"when not given, all rows of a {part} file or split; without one, {DEFAULT_SHARE} of the rows, at most "
        f"{MOST_OF_DEFAULT_SHARE:,}"
    )


class TrainSection(Section):
    """Train only on some of the rows: ``per_label`` rows of each label, or ``rows`` in total."""

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
    """Each text is a line of a log, and members read it with the lines before it."""

    rows: Whole = Field(
        ge=1, le=512, description="number of earlier lines that are read with it; the oldest are cut first"
    )
    group: Text | None = Field(
        default=None,
        min_length=1,
        description="column of groups of lines, such as hosts or sessions; splits do not divide a group",
    )
    time: Text | None = Field(
        default=None,
        min_length=1,
        description="column of times, as numbers or ISO; when not given, the rows must be sorted by time",
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns for group and time, if given."""
        return tuple(column for column in (self.group, self.time) if column is not None)


class TaskSection(Section):
    """Labelled texts, split once into train, validation and test. A bare text is the ``source``.

    All rows are used: train has the rows that validation and test do not take. With a key ``..._per_label`` each split
    has the same number of rows of every label. That is the default for pydocs.
    """

    source: Text = Field(
        default="pydocs", min_length=1, description="pydocs, a local file or folder, or a Hugging Face id"
    )
    config: Text | None = Field(default=None, description="configuration of a Hugging Face data set")
    text: TextColumns = Field(
        default="text",
        description="column with the text; or two columns for pairs, such as [premise, hypothesis]",
    )
    label: Text = Field(default="label", description="column with the label")
    context: ContextSection | None = Field(
        default=None, description="texts are lines of a log; members read each with the lines before it"
    )
    train_split: Text = Field(default="train", description="split that train and validation are cut from")
    test_split: Text = Field(
        default="test", description="split that test is cut from; if it does not exist, test is cut from train"
    )
    validation_source: Text | None = Field(
        default=None, min_length=1, description="file with the validation texts; all are used"
    )
    test_source: Text | None = Field(
        default=None, min_length=1, description="file with the test texts; all are used, except with test_per_label"
    )
    format: Literal["auto", "fewrel"] = Field(default="auto", description="fewrel: the original JSON layout of FewRel")
    entities: Literal["prefixed", "marked"] = Field(
        default="prefixed",
        description="marked: texts contain [E1] head [/E1] and [E2] tail [/E2], and each marker is a token; FewRel is "
        "then read in this form. prefixed: head ; tail ; comes before the sentence",
    )
    labels: Whole | None = Field(default=None, ge=2, description="keep the most frequent labels (pydocs: packages)")
    train: Annotated[
        Literal["all"] | TrainSection | None,
        BeforeValidator(_train, json_schema_input_type=Literal["all"] | TrainSection | None),
    ] = Field(default=None, description="all (the rows that validation and test leave), {per_label: N} or {rows: N}")
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
        default="accuracy", description="metric of choices and reports; the last four are metrics of the label positive"
    )
    positive: Annotated[Text | None, BeforeValidator(_label, json_schema_input_type=str | int | None)] = Field(
        default=None, min_length=1, description="the label of precision, recall, f1 and average_precision"
    )
    seed: Whole = Field(default=0, ge=0, le=2**32 - 1, description="seed of the sample and of the splits")
    unlabelled: Annotated[
        UnlabelledSection | None, BeforeValidator(read_source, json_schema_input_type=str | UnlabelledSection | None)
    ] = Field(default=None, description="texts without labels for self_training: 1")

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Later keys are written only if they are not the default, so that older digests stay equal.
        absent: dict[str, Any] = dict.fromkeys((*_AS_THEY_ARE, *_PER_LABEL))
        absent |= {"entities": "prefixed", "unlabelled": None, "metric": "accuracy", "positive": None, "context": None}
        return without_defaults(write(self), absent)

    @property
    def per_label(self) -> dict[str, int] | None:
        """The number of rows of each label in train, validation and test; None if they are not balanced."""
        if self.train_per_label is None or self.validation_per_label is None or self.test_per_label is None:
            return None
        return {"train": self.train_per_label, "validation": self.validation_per_label, "test": self.test_per_label}

    def train_rows(self, labels: int) -> int | None:
        """Return the most rows that train can have with this number of ``labels``; None if it depends on the data."""
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
        """The column with the texts, or the two columns with pairs."""
        return columns_of_texts(self.text)

    @property
    def columns(self) -> tuple[str, ...]:
        """Each column to read, once."""
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
            "prefixed; entities cannot be marked in pairs": ("entities", self.entities == "marked"),
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
            "text": (len(self.text_columns) > 1, "one column; the context of a line is the first text of the pair"),
            "source": (self.source == "pydocs", "a file, a folder or a Hugging Face id; pydocs has no lines in order"),
            "format": (self.format == "fewrel", "auto; the rows of FewRel have no order"),
            "entities": (self.entities == "marked", "prefixed; entities cannot be marked in lines"),
            "unlabelled": (self.unlabelled is not None, "no unlabelled texts; their context cannot be read"),
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
                allowed = "a column other than text and label"
                raise refuse([Problem(("context", key), refusal(column, allowed))])
        return self

    @property
    def markers(self) -> int:
        """The number of tokens that mark the entities of a text."""
        return 4 if self.entities == "marked" else 0

    @model_validator(mode="after")
    def _with_entities(self) -> Self:
        if self.entities == "marked" and self.source == "pydocs":
            allowed = "prefixed, because the texts of pydocs have no entities; or give another source"
            raise refuse([Problem(("entities",), refusal(self.entities, allowed))])
        return self
