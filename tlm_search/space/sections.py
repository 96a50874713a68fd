"""The sections of a space besides the task: corpus, tokenizer, resources, budget and report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import (
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


def read_source(raw: Any) -> Any:
    """Read a text as the ``source`` of a section."""
    return {"source": raw} if isinstance(raw, str) else raw


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
    skip: Whole = Field(
        default=0, ge=0, description="skip this many documents of that order, such as those most like the task"
    )

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if self.documents is not None and self.skip >= self.documents:
            raise refuse([Problem(("skip",), refusal(self.skip, f"fewer than documents, which is {self.documents}"))])
        return self

    @property
    def taken(self) -> int | None:
        """The largest number of documents to train on; None without a limit."""
        return None if self.documents is None else self.documents - self.skip


class TokenizerSection(Section):
    """A WordPiece vocabulary trained on the corpus, bytes, or an existing tokenizer.

    Settings of the same names in ``search``, and ``tokenizer_kind`` for the kind, override this section.
    """

    kind: Literal["wordpiece", "bytes"] = Field(
        default="wordpiece",
        description="tokens: word pieces, or bytes, which need no vocabulary",
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
        description="with name: keep the tokens that corpus and training texts use this often or more; cut others up",
    )
    strip_accents: bool | None = Field(
        default=None,
        description="for a trained vocabulary: false keeps accents and vowel marks, true drops them; both cut up words "
        "of any length. When not given, as in BERT: true, but words of more than 100 characters are unknown",
    )
    length: Whole = Field(default=64, ge=8, le=512, description="tokens a text is cut to")

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Not written unless it is given, so that older digests stay equal.
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
            allowed = "only with name; a trained vocabulary has the size that you ask for"
            raise refuse([Problem(("min_count",), refusal(data["min_count"], allowed))])
        if name is not None and data.get("strip_accents") is not None:
            allowed = "only with vocabulary; an existing tokenizer is not changed"
            raise refuse([Problem(("strip_accents",), refusal(data["strip_accents"], allowed))])
        if name is None and "vocabulary" in data and vocabulary is None:
            raise refuse([Problem(("vocabulary",), refusal(None, "a whole number; or give name"))])
        return {**data, "vocabulary": None} if name is not None else data

    def of(self, tokens: Mapping[str, Value]) -> Self:
        """Return the section with its values replaced by the settings in ``tokens`` (from ``tokens_of``)."""
        kind, length = tokens.get("tokenizer_kind", self.kind), tokens.get("length", self.length)
        if kind == "bytes":
            return type(self).model_validate({"kind": kind, "length": length})
        if self.kind == "bytes":  # a section of bytes has no vocabulary: take the default
            vocabulary = tokens.get("vocabulary", type(self).model_fields["vocabulary"].default)
            return type(self).model_validate({"vocabulary": vocabulary, "length": length})
        return self.model_copy(update={"length": length, "vocabulary": tokens.get("vocabulary", self.vocabulary)})


class ResourcesSection(Section):
    """The resources of a trial, and how many trials run at once."""

    cpus_per_trial: Number = Field(default=1, gt=0, description="CPU cores of a trial")
    gpus_per_trial: float | Literal["auto"] = Field(
        default=0.0,
        description="GPUs of a trial; with a share such as 0.25 trials share a GPU; auto: as its configuration needs",
    )
    concurrent_trials: Whole | None = Field(default=None, ge=1, description="trials at once; null: as many as fit")
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
        """The longest time of a run in seconds; None means no limit."""
        return None if self.time is None else parse_seconds(self.time)


class ReportSection(Section):
    """Options of the report."""

    examples: Whole = Field(
        default=6,
        ge=0,
        le=100,
        description="test texts that the report shows on each side, where committee and reference differ most; 0: none",
    )


def parse_seconds(time: str) -> float | None:
    """Return the seconds of a time such as ``90s``, ``30m``, ``1.5h`` or ``1d``, or None for other texts."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", time.strip())
    return float(match[1]) * _SECONDS[match[2]] if match else None
