"""Members of your own: a class of yours trains members, which vote and are stored like all other members.

A space names the class as ``trainer: my_package.module:MyTrainer``. The driver and the workers import it.
"""

from __future__ import annotations

import importlib
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary.tokenizer import open_tokenizer
from tlm_search.errors import TrainingError, UserError
from tlm_search.members.provenance import provenance
from tlm_search.members.spec import MemberSpec
from tlm_search.members.trainer import Tell, TrainedMember, silent
from tlm_search.space.schema import Space
from tlm_search.space.section import unknown
from tlm_search.space.settings import OWN, Value
from tlm_search.store.local import Arrays, Store

SPLITS = ("validation", "test")
_CONTRACT = "docs/own-trainer.md says what it must return; tlm_search.testing.check_trainer checks it"


@dataclass(frozen=True)
class Request:
    """The request for a single member, with its labelled texts.

    ``texts`` has the lists ``train``, ``validation`` and ``test``; a pair is a tuple of two texts. The texts are
    normalised and cut to the tokenizer's length, so that your member reads what others read. ``labels`` are the labels
    of ``train``, ints below ``len(names)``. ``validation_labels`` are for early stopping. Test has no labels here.
    ``variant`` is the setting of that name. ``seed`` differs between the members of a committee. ``settings`` maps NAME
    to the value of each ``own_NAME`` of the space; a setting whose ``when`` does not hold is absent.
    """

    texts: Mapping[str, Sequence[Any]]
    labels: NDArray[np.int64]
    validation_labels: NDArray[np.int64]
    names: tuple[str, ...]
    variant: str
    seed: int
    settings: Mapping[str, Value] = field(default_factory=dict)


class OwnTrainer(Protocol):
    """A class of your own, created without arguments in each worker.

    An optional ``version``, a str, is part of the members' digests. Raise it when a change of your code trains another
    member for the same request. An optional ``settings``, a tuple of str, names the settings that it reads.
    """

    def train(self, request: Request) -> Mapping[str, ArrayLike]:
        """Train a member, and return its logits or log-probabilities for ``validation`` and ``test``.

        Each is ``(texts, names)``. An optional entry ``parameters`` is the member's number of parameters.
        """
        ...


class OwnMembers:
    """A `Trainer` that gets each member from an `OwnTrainer`. It reports NaN as latency, because it measures none."""

    tell: Tell = staticmethod(silent)

    def __init__(self, name: str, own: OwnTrainer) -> None:
        version = getattr(own, "version", "")
        if not isinstance(version, str):
            raise UserError(f"trainer {name}: its version is {version!r}", hint="allowed: a str, such as '2'")
        reads = getattr(own, "settings", ())
        if not isinstance(reads, tuple | list) or not all(isinstance(one, str) for one in reads):
            raise UserError(f"trainer {name}: its settings are {reads!r}", hint="allowed: names, such as ('C',)")
        self.own, self.reads = own, tuple(reads)
        self.identity = f"{name} {version}".strip()
        self._texts: tuple[str, dict[str, list[Any]]] | None = None

    def stack(self, spec: MemberSpec) -> int:
        """Return 1: members are trained one by one."""
        return 1

    def peak_gb(self) -> float:
        """Return the peak memory of this process in GB."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9

    def train(self, specs: Sequence[MemberSpec], *, store: Store, data: PreparedData) -> tuple[TrainedMember, ...]:
        """Request each member from the class, and check the answers.

        Raises:
            TrainingError: the class raised, or its answer is not logits for these texts.
        """
        return tuple(self._train(spec, data) for spec in specs)

    def fit_linear(self, spec: MemberSpec, *, store: Store, data: PreparedData) -> tuple[Mapping[str, Any], Arrays]:
        """Fit the linear model of a hybrid on the CPU."""
        from tlm_search.members.linear import fit_linear

        assert spec.linear is not None
        return fit_linear(spec.linear, data=data)

    def latency_ms(self, spec: MemberSpec, *, members: int, store: Store) -> float:
        """Return NaN, because the latency is not measured."""
        return float("nan")

    def _train(self, spec: MemberSpec, data: PreparedData) -> TrainedMember:
        if self._texts is None or self._texts[0] != data.task_fingerprint:
            self._texts = data.task_fingerprint, {split: texts_of(data, split) for split in ("train", *SPLITS)}
        texts = self._texts[1]
        request = Request(
            texts=texts,
            labels=data.true_labels("train"),
            validation_labels=data.true_labels("validation"),
            names=tuple(data.labels),
            variant=spec.variant,
            seed=spec.seed,
            settings=dict(spec.own),
        )
        began = time.perf_counter()
        try:
            answer = self.own.train(request)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            which = "".join(f", {name} {value}" for name, value in spec.own)
            raise TrainingError(f"{spec.trainer}, variant {spec.variant!r}{which}, seed {spec.seed}: {what}") from error
        seconds = time.perf_counter() - began
        logits = checked(
            answer, {split: len(texts[split]) for split in SPLITS}, labels=len(data.labels), who=spec.trainer
        )
        parameters = answer.get("parameters")
        document = {
            "spec": spec.to_document(),
            "labels": list(data.labels),
            "finetuning": {"seconds": seconds},
            "pretraining": None,
            **({} if parameters is None else {"parameters": int(cast(int, parameters))}),
            **provenance(data, "cpu"),
        }
        return TrainedMember(spec, document, {"logits": logits}, tokens=0)


def load_own(name: str) -> OwnMembers:
    """Import the class ``package.module:Class`` and create an instance.

    Raises:
        UserError: the class cannot be imported or created, or has no ``train``.
    """
    module, _, attribute = name.partition(":")
    try:
        own = getattr(importlib.import_module(module), attribute)()
    except Exception as error:  # the user's module can raise anything
        raise UserError(
            f"trainer {name} cannot be made here: {type(error).__name__}: {error}",
            hint="install its package, or put the folder of its module on PYTHONPATH, here and on every machine",
        ) from error
    if not callable(getattr(own, "train", None)):
        raise UserError(f"trainer {name} has no method train", hint=_CONTRACT)
    return OwnMembers(name, own)


def try_own(space: Space) -> None:
    """Create the trainer of a space, and check that it reads the settings of the space.

    Raises:
        UserError: the class cannot be created, or does not read a setting.
    """
    reads = [OWN + name for name in load_own(space.trainer).reads]
    for name in space.search:
        if name.startswith(OWN) and name not in reads:
            raise UserError(
                f"search.{name}: {unknown('setting', name, reads or ['none'])}",
                hint=f"{space.trainer} names what it reads in its attribute settings, such as settings = "
                f"({name.removeprefix(OWN)!r},)",
            )


def texts_of(data: PreparedData, split: str) -> list[Any]:
    """Return the texts of a split, normalised and cut by the tokenizer; pairs are tuples."""
    tokens, tokenizer = TokenArray.open(data.folder(split)), open_tokenizer(data.folder("tokenizer"))
    texts: list[Any] = []
    for row in range(len(tokens)):
        ids = tokens[row].tolist()
        if tokens.firsts is None:
            texts.append(tokenizer.decode(ids))
        else:
            first = int(tokens.firsts[row])
            texts.append((tokenizer.decode(ids[:first]), tokenizer.decode(ids[first:])))
    return texts


def checked(answer: object, rows: Mapping[str, int], *, labels: int, who: str) -> dict[str, NDArray[np.float32]]:
    """Return the logits in an ``answer``.

    Raises:
        TrainingError: a split is missing, has another shape than ``(rows, labels)``, or is not finite.
    """
    if not isinstance(answer, Mapping):
        raise TrainingError(f"{who} returned {type(answer).__name__}, not a mapping", hint=_CONTRACT)
    logits = {}
    for split, texts in rows.items():
        if split not in answer:
            raise TrainingError(f"{who} returned no {split}", hint=_CONTRACT)
        try:
            values = np.asarray(answer[split], np.float32)
        except (TypeError, ValueError) as error:
            raise TrainingError(f"{who} returned no numbers for {split}: {error}", hint=_CONTRACT) from error
        if values.shape != (texts, labels):
            raise TrainingError(
                f"{who} returned the shape {values.shape} for {split}, not {(texts, labels)}, texts x labels",
                hint=_CONTRACT,
            )
        if not np.isfinite(values).all():
            raise TrainingError(f"{who} returned values for {split} that are not finite", hint=_CONTRACT)
        logits[split] = values
    return logits
