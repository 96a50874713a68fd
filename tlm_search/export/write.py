"""Write a committee to a folder for use elsewhere: weights, tokenizer, labels, card, and inputs for a check."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tlm_search.committee.calibration import Calibration, fit_calibration
from tlm_search.committee.candidates import Trial
from tlm_search.committee.choice import Choice
from tlm_search.committee.combine import weighted_vote
from tlm_search.committee.interval import paired_interval
from tlm_search.committee.logits import MemberLogits
from tlm_search.committee.select import standing_of
from tlm_search.committee.vote import soft_vote
from tlm_search.data.markers import HEAD, TAIL, Markers
from tlm_search.data.pairs import Pair, TextOrPair
from tlm_search.data.prepared import PreparedData
from tlm_search.data.sources.place import PYDOCS
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import open_tokenizer, tokenizer_fingerprint
from tlm_search.errors import ExportError
from tlm_search.export.card import card
from tlm_search.export.choose import Chosen
from tlm_search.export.committee import Committee
from tlm_search.export.facts import Facts, Graph, no_members
from tlm_search.export.fit import architecture_of
from tlm_search.export.folder import (
    CARD,
    CHECK,
    CONFIG,
    LABELS,
    MODEL,
    MODEL_TYPE,
    ONNX,
    ONNX_INT8,
    new_export,
    write_json,
)
from tlm_search.export.onnx import TOLERANCE as ONNX_TOLERANCE
from tlm_search.export.onnx import onnx_answers, open_session, require_onnx, write_int8, write_onnx
from tlm_search.export.stacks import data_of, entry_of, layout_of, stacks_of, weights_of
from tlm_search.members.trainer import KIND
from tlm_search.members.trainer import LINEAR as LINEAR_KIND
from tlm_search.model.architecture import Architecture
from tlm_search.model.hf import bert_config, with_every_layer
from tlm_search.model.layers import EPSILON
from tlm_search.report.evidence import Evidence
from tlm_search.store.local import Entry, Store
from tlm_search.study.record import REFERENCE_NUMBER, StudyRecord

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FLOAT32 = {"format": "pt"}  # transformers refuses a file without it
_CHECK_WORDS = (3, 8, 8)
# Probabilities on another machine or device differ by at most 1e-3, with other data by tenths.
_MOST_DIFFERENCE = 5e-3
_TOKENIZER_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class Exported:
    """The result: the folder, its facts, and whether each member loads in plain ``transformers``."""

    folder: Path
    facts: Facts
    plain_members: bool


def export_committee(
    record: StudyRecord, store: Store, chosen: Chosen, *, out: Path, onnx: bool = False, int8: bool = False
) -> Exported:
    """Write the committee ``chosen`` of ``record`` to the new folder ``out``, whole or not at all.

    Before it is written, the committee answers the study's test texts. The card has the largest difference of its
    probabilities from those of the stored logits. ``onnx`` adds an ONNX graph, which must give the same answers;
    ``int8`` adds another one with weights of 8 bits, and the card has its accuracy on the test texts.

    Raises:
        ExportError: the study's members have no weights here, ``out`` is not empty, the store lacks members of the
            committee, their answers differ from the stored logits, or the packages that make ONNX graphs are not
            installed.
        StoreError: the store lacks the study's data.
    """
    check_has_weights(record)
    if onnx or int8:
        require_onnx()
    data = PreparedData.from_document(record.data, store.root)
    with new_export(out) as folder:
        entries = [entry_of(store, KIND, digest, chosen) for digest in chosen.members]
        states = [weights_of(store, entry, chosen) for entry in entries]
        specs = [entry.document["spec"] for entry in entries]
        layout = layout_of(specs, chosen.weights)
        data = data_of(data, specs[0])
        linear = {digest: entry_of(store, LINEAR_KIND, digest, chosen) for digest in layout.linear}
        probabilities, labels = _study_vote(record, entries, data, chosen.weights)
        calibration = _calibration(chosen, probabilities["validation"], labels["validation"])
        members, weights = stacks_of(layout, entries, states, linear)
        config = _config(members, data) | _columns(record) | {"calibration": asdict(calibration)}
        shapes = [architecture_of(entry.document["spec"]["architecture"]) for entry in entries]
        why_not = no_members(entry.document for entry in entries)
        _write_tokenizer(data, folder)
        tokenizer = open_tokenizer(folder)
        committee = Committee.of(config, weights, tokenizer, labels=data.labels, expected={})
        answers = committee.answers_to_tokens(TokenArray.open(data.folder("test"))).probabilities
        facts = Facts(
            record=record,
            chosen=chosen,
            data=data,
            documents=[entry.document for entry in entries],
            votes=probabilities,
            calibration=calibration,
            labels=labels,
            difference=float(np.abs(answers - calibration.of(probabilities["test"])).max()),
            linear=[entry.document for entry in linear.values()],
            standing=_standing(record, store, chosen),
        )
        if not facts.difference <= _MOST_DIFFERENCE:
            raise ExportError(
                f"the committee does not answer as it did in the study: probabilities differ by {facts.difference:.2g}",
                hint="the data in the store are not those on which the members were trained, because older versions "
                "could continue a study with other data; run the space again with another --name",
            )
        if onnx or int8:
            facts = replace(facts, graphs=_write_graphs(committee, data, folder, facts, int8=int8))
        write_json(folder / CONFIG, config)
        write_json(folder / LABELS, list(data.labels))
        save_file({name: value.numpy() for name, value in weights.items()}, folder / MODEL, _FLOAT32)
        texts = check_texts(tokenizer, length=data.length, marked=committee.markers is not None, pairs=data.pairs)
        write_json(folder / CHECK, {"texts": texts, "probabilities": committee.probabilities(texts).tolist()})
        if why_not is None:
            for index, (state, shape) in enumerate(zip(states, shapes, strict=True)):
                _write_member(folder, index, state, shape, data)
        (folder / CARD).write_text(card(facts), encoding="utf-8")
    return Exported(out, facts, plain_members=why_not is None)


def check_has_weights(record: StudyRecord) -> None:
    """Refuse a study whose members have no weights in the store.

    Raises:
        ExportError: the trainer is simulated, or a class of the user's own.
    """
    space = record.space
    if space.has_weights:
        return
    can = "only members of trainer bert can be exported"
    if space.is_own_trainer:
        raise ExportError(
            f"the members of {record.name} cannot be exported: {space.trainer} trained them, and {can}",
            hint=f"tlm-search best {record.name} names the settings and the committee size; train these members again "
            "with your own code, and save them there",
        )
    raise ExportError(
        f"the members of {record.name} cannot be exported: they are {space.trainer}, and {can}",
        hint="run a space with trainer: bert",
    )


def check_texts(
    tokenizer: Tokenizer, *, length: int, marked: bool = False, pairs: bool = False
) -> Sequence[TextOrPair]:
    """Return inputs for ``check.json``: empty, short and too long texts of the vocabulary's words, never of the data.

    ``marked`` adds a text with marked entities. With ``pairs`` the second texts are the same in another order.
    """
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=False))
    letters = [word for word in vocabulary if word.isalpha()]
    words = [word for word in letters if len(word) > 1] or letters or ["text"]
    drawn = np.random.default_rng(0).choice(words, size=sum(_CHECK_WORDS) + 2 * length).tolist()
    places = np.cumsum([0, *_CHECK_WORDS, 2 * length]).tolist()
    texts = ["", *(" ".join(drawn[begin:end]) for begin, end in pairwise(places))]
    if marked:
        entities = [drawn[0], HEAD[0], drawn[1], HEAD[1], drawn[2], TAIL[0], drawn[3], TAIL[1], drawn[4]]
        texts.append(" ".join(entities))
    return [Pair(*both) for both in zip(texts, [*texts[1:], texts[0]], strict=True)] if pairs else texts


def _config(members: Mapping[str, Any], data: PreparedData) -> dict[str, Any]:
    markers = Markers.of(data.special)
    return {
        "architectures": ["SoftCommittee"],
        "model_type": MODEL_TYPE,
        **members,
        "length": data.length,
        "pad_token_id": data.special["pad"],
        "dtype": "float32",
        **({} if markers is None else {"markers": list(markers)}),
        **({"pairs": True} if data.pairs else {}),
        **({} if data.context is None else {"context": dict(data.context)}),
        **_label_settings(data.labels),
    }


def _columns(record: StudyRecord) -> dict[str, Any]:
    """Return the names of the columns of the study's task; nothing if its source is not a table."""
    task = record.space.task
    if task.source == PYDOCS or task.format == "fewrel":
        return {}
    return {"columns": {"text": task.text, "label": task.label}}


def _label_settings(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


def _write_graphs(
    committee: Committee, data: PreparedData, folder: Path, facts: Facts, *, int8: bool
) -> tuple[Graph, ...]:
    """Write the ONNX graphs and answer the test texts with each.

    Raises:
        ExportError: a graph cannot be run, or the answers of the fp32 graph differ from torch's.
    """
    test = TokenArray.open(data.folder("test"))
    expected, labels = committee.answers_to_tokens(test).probabilities, facts.labels["test"]
    graphs = []
    write_onnx(committee, folder / ONNX)
    if int8:
        write_int8(folder / ONNX, folder / ONNX_INT8)
    for name in (ONNX, ONNX_INT8) if int8 else (ONNX,):
        answers = onnx_answers(open_session(folder / name), test, labels=len(data.labels), pad=committee.pad)
        difference = float(np.abs(answers.probabilities - expected).max())
        right = (answers.probabilities.argmax(-1) == labels).astype(np.float64)
        before = (expected.argmax(-1) == labels).astype(np.float64)
        graphs.append(Graph(name, difference, float(right.mean()), paired_interval(right, before)))
    if graphs[0].difference > ONNX_TOLERANCE:
        raise ExportError(
            f"the ONNX graph does not answer as torch does: probabilities differ by {graphs[0].difference:g}",
            hint="export without --onnx, and compare the versions of torch, onnxscript and onnxruntime",
        )
    return tuple(graphs)


def _study_vote(
    record: StudyRecord, entries: Sequence[Entry], data: PreparedData, weights: Sequence[float] | None
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.int64]]]:
    """Return by split the vote of the stored logits (rows, classes) and the true labels (rows,)."""
    arrays = [entry.arrays("logits") for entry in entries]
    logits = {part: np.stack([own[part] for own in arrays]) for part in ("validation", "test")}
    probabilities = {
        part: soft_vote(own) if weights is None else weighted_vote(own, np.asarray(weights))
        for part, own in logits.items()
    }
    try:
        labels = {part: data.true_labels(part) for part in probabilities}
    except (OSError, ValueError, EOFError) as error:  # EOFError: the file is empty
        raise ExportError(
            f"the labels of the study {record.name} cannot be read from the store {data.root}: {error}",
            hint="tlm-search store verify lists what is damaged",
        ) from error
    return probabilities, labels


def _calibration(chosen: Chosen, vote: NDArray[np.float64], labels: NDArray[np.integer]) -> Calibration:
    """Return the calibration of a committee, fitted to its ``vote`` on validation, with the bias of its figures."""
    return fit_calibration(vote, labels, chosen.candidate.scores.bias)


def _standing(record: StudyRecord, store: Store, chosen: Chosen) -> Choice:
    """Compare the committee with the reference, unless it is the reference, and with the linear model."""
    candidate, evidence = chosen.candidate, Evidence(record, store)
    deep = None if chosen.trial.number == REFERENCE_NUMBER else record.reference

    def logits_of(trial: Trial) -> MemberLogits | None:
        return chosen.mixed.votes if chosen.mixed is not None and trial is chosen.trial else evidence.logits_of(trial)

    standing = partial(standing_of, baseline=record.baseline, logits_of=logits_of)
    if chosen.student is not None or chosen.mixed is not None:
        return standing(candidate, deep)
    return standing(candidate, deep, confirmed=record.confirmed)


def _write_tokenizer(data: PreparedData, folder: Path) -> None:
    source = data.folder("tokenizer")
    if not (source / "tokenizer.json").is_file():
        raise ExportError(
            f"the study's tokenizer is not in the store: {source} is missing or incomplete",
            hint="tlm-search run on the study's space makes it again",
        )
    config = source / _TOKENIZER_CONFIG
    try:
        settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        whole = tokenizer_fingerprint(source) == data.tokenizer_fingerprint
    except ValueError:
        whole = False
    if not whole:
        raise ExportError(
            f"the study's tokenizer in {source} was changed after the study ran",
            hint="remove that folder; tlm-search run on the study's space makes it again",
        )
    for file in source.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copyfile(file, folder / file.name)
    # Cut texts as `encode` does and as the members' positions require, not as the tokenizer's own setting says.
    sides: dict[str, Any] = {"padding_side": "right", "truncation_side": "right"}
    if data.pairs:  # otherwise some tokenizers do not return the segments
        sides["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    if data.context is not None:  # cut the oldest lines of the context first
        sides["truncation_side"] = "left"
    write_json(folder / _TOKENIZER_CONFIG, {**settings, "model_max_length": data.length, **sides})


def _write_member(
    folder: Path, index: int, state: Mapping[str, np.ndarray], architecture: Architecture, data: PreparedData
) -> None:
    member = folder / "members" / str(index)
    member.mkdir(parents=True)
    save_file(with_every_layer(state, architecture), member / "model.safetensors", _FLOAT32)
    settings = {
        **bert_config(architecture, pad=data.special["pad"]),
        **_label_settings(data.labels),
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "layer_norm_eps": EPSILON,
        "type_vocab_size": 2,
    }
    write_json(member / "config.json", settings)
    _write_tokenizer(data, member)
