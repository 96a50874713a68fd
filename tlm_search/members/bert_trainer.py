"""The real trainer: it pre-trains and fine-tunes tiny BERTs, evaluates them on validation and test, and stores them."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch

from tlm_search.data.markers import Markers
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.errors import DivergedError, OutOfMemoryError
from tlm_search.members.distillation import Targets, member_weights, soft_labels
from tlm_search.members.linear import fit_linear, linear_entry, linear_weights
from tlm_search.members.precision import measured_precision
from tlm_search.members.provenance import provenance
from tlm_search.members.spec import Distillation, MemberSpec, PretrainSpec
from tlm_search.members.stacks import phases_of, stack_size
from tlm_search.members.trainer import (
    COUNTING,
    FINETUNING,
    MICRO_BATCHES,
    PRETRAINING,
    Step,
    Tell,
    TrainedMember,
    silent,
)
from tlm_search.members.word_vectors import obtain_vectors, vectors_of
from tlm_search.model.architecture import Architecture
from tlm_search.model.footprint import Phase
from tlm_search.model.hf import to_transformers
from tlm_search.model.latency import machine, measure_latency_ms
from tlm_search.model.weights import Weights
from tlm_search.store.local import Arrays, Entry, Store
from tlm_search.store.measured import measured
from tlm_search.training.batches import BatchSampler
from tlm_search.training.checkpoint import Checkpoint, saved_facts
from tlm_search.training.engine import TrainingLog, Watch
from tlm_search.training.finetune import finetune, predict
from tlm_search.training.memory import keep_freed_memory
from tlm_search.training.pretrain import pretrain
from tlm_search.training.settings import Execution, Precision

PRETRAINED = "pretrained"
LATENCY = "latency"
CHECKPOINT_SECONDS = 120.0  # an interruption loses at most this much pre-training


class BertTrainer:
    """A ``Trainer`` on ``device`` with ``threads`` threads, which may use a ``share`` of a GPU's memory."""

    identity = ""

    def __init__(
        self, *, threads: int, device: str, share: float = 1.0, checkpoint_seconds: float = CHECKPOINT_SECONDS
    ) -> None:
        self.device = device
        self.threads = threads
        self.share = share
        self.checkpoint_seconds = checkpoint_seconds
        self.tell: Tell = silent
        self._targets_of: tuple[Distillation, Targets] | None = None  # only the latest result, because it may be large
        torch.set_num_threads(threads)
        keep_freed_memory()
        if device != "cpu" and share < 1:
            # Ray only counts shares. Without this limit a trial could take memory of other trials.
            torch.cuda.set_per_process_memory_fraction(share)

    def stack(self, spec: MemberSpec | PretrainSpec) -> int:
        """Return how many members like ``spec`` are trained as a single model."""
        phases = phases_of(spec)
        return stack_size(spec.architecture, phases, device=self.device, threads=self.threads, share=self.share)

    def peak_gb(self) -> float:
        """Return the peak memory of this process in GB, on the GPU or in main memory."""
        if self.device == "cpu":
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
        return torch.cuda.max_memory_reserved() / 1e9

    def train(self, specs: Sequence[MemberSpec], *, store: Store, data: PreparedData) -> tuple[TrainedMember, ...]:
        """Train the members of ``specs``, which differ only in their seeds.

        If memory runs out, they are trained again with each batch split into micro-batches.

        Raises:
            DivergedError: a loss is not a number.
            OutOfMemoryError: the device is too small even for the micro-batches.
        """
        if not specs:
            return ()
        reason = ""
        for micro_batches in (1, MICRO_BATCHES):
            try:
                return self._train(specs, store, data, micro_batches)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                reason = (str(error).splitlines() or ["no memory left"])[0]
        raise OutOfMemoryError(
            f"{self.device} has too little memory for {len(specs)} members, "
            f"even with batches in {MICRO_BATCHES} micro-batches: "
            f"{reason}",
            hint="lower the batch size, the width or the number of trials at once",
        )

    def fit_linear(self, spec: MemberSpec, *, store: Store, data: PreparedData) -> tuple[Mapping[str, Any], Arrays]:
        """Fit the linear model of a hybrid on the CPU."""
        assert spec.linear is not None
        if spec.linear.teaching is None:
            return fit_linear(spec.linear, data=data)
        targets = self._targets(spec, store, data)
        taught = targets.texts, targets.labels.argmax(axis=1)
        document, arrays = fit_linear(spec.linear, data=data, taught=taught)
        return {**document, **_answers(targets)}, arrays

    def latency_ms(self, spec: MemberSpec, *, members: int, store: Store) -> float:
        """Return the measured latency. A machine measures it once for equal committees."""
        where = machine(self.device)
        shape, pooling = spec.architecture, spec.settings.pooling
        key = {"architecture": shape.to_document(), "pooling": pooling, "labels": spec.labels, "members": members}
        if spec.linear is not None:
            key["linear"] = spec.linear.digest

        def measure() -> dict[str, float]:
            linear = None if spec.linear is None else linear_weights(linear_entry(spec.linear, store=store))
            latency = measure_latency_ms(
                shape, members=members, labels=spec.labels, pooling=pooling, device=self.device, linear=linear
            )
            return {"latency_ms": latency}

        document = measured(LATENCY, {**key, "machine": where}, measure, machine=where, store=store)
        return float(document["latency_ms"])

    def _watch(self, phase: str, seeds: Sequence[int], tokens: int) -> Watch:
        """Return a function that reports each update of a training in which each member reads ``tokens`` tokens."""
        seeds = tuple(seeds)

        def watch(update: int, updates: int) -> None:
            self.tell(Step(phase, seeds, update, updates, len(seeds) * tokens * update // updates))

        return watch

    def _precision(self, spec: PretrainSpec | MemberSpec, store: Store) -> Precision:
        stack = self.stack(spec)
        return measured_precision(spec.architecture, spec.settings, stack=stack, device=self.device, store=store)

    def _train(
        self, specs: Sequence[MemberSpec], store: Store, data: PreparedData, micro_batches: int
    ) -> tuple[TrainedMember, ...]:
        first = specs[0]
        seeds = [spec.seed for spec in specs]
        pad, markers = data.special["pad"], Markers.of(data.special)
        encoders, entries, tokens = self._pretrained(
            [s.pretrained for s in specs if s.pretrained], store, data, micro_batches
        )
        targets = self._targets(first, store, data)
        finetuned = first.settings.epochs * int(targets.texts.offsets[-1])
        weights, log = finetune(
            first.architecture,
            first.settings,
            targets.texts,
            targets.labels,
            classes=first.labels,
            pad=pad,
            markers=markers,
            seeds=seeds,
            pretrained=encoders,
            execution=Execution(self.device, self._precision(first, store), micro_batches),
            watch=self._watch(FINETUNING, seeds, finetuned),
        )
        _check(log, seeds, "fine-tuning", "finetune_learning_rate")
        logits = {
            split: predict(
                first.architecture,
                weights,
                TokenArray.open(data.folder(split)),
                pooling=first.settings.pooling,
                pad=pad,
                markers=markers,
            )
            for split in ("validation", "test")
        }
        phase = phases_of(first)[0]
        flops = targets.flops + _training_flops(first.architecture, targets.texts, first.settings.epochs, phase)
        trained = []
        for index, spec in enumerate(specs):
            document = {
                "spec": spec.to_document(),
                "labels": list(data.labels),
                "finetuning": {
                    **_log_document(log, index, finetuned, flops, before=targets.seconds),
                    **(_answers(targets) if spec.teaching else {}),
                },
                "pretraining": dict(entries[index].document["course"]) if entries else None,
                "pieces": micro_batches,
                **provenance(data, self.device),
            }
            arrays = {
                "logits": {split: values[index] for split, values in logits.items()},
                "model": _member_arrays(weights, index),
            }
            trained.append(TrainedMember(spec, document, arrays, tokens=finetuned + tokens // len(specs)))
        return tuple(trained)

    def _targets(self, spec: MemberSpec, store: Store, data: PreparedData) -> Targets:
        if spec.taught is not None:
            # All students of a committee share the same targets.
            if self._targets_of is None or self._targets_of[0] != spec.taught:
                self._targets_of = spec.taught, soft_labels(spec, store=store, data=data, device=self.device)
            return self._targets_of[1]
        return Targets(TokenArray.open(data.folder("train")), data.true_labels("train"))

    def _pretrained(
        self, specs: Sequence[PretrainSpec], store: Store, data: PreparedData, micro_batches: int
    ) -> tuple[Weights | None, Sequence[Entry], int]:
        """Return the stacked encoders, their entries, and the tokens that this call processed."""
        if not specs:
            return None, (), 0
        tokens = 0
        with ExitStack() as locks:
            wanted = {spec.digest: spec for spec in specs}  # members may share a pre-training
            for name in sorted(wanted):
                locks.enter_context(store.lock(PRETRAINED, name))
            found = {name: store.read(PRETRAINED, name) for name in wanted}
            missing = [spec for name, spec in wanted.items() if found[name] is None]
            if missing:
                corpus = TokenArray.open(data.folder("corpus")).prefix(specs[0].documents)
                tokens = len(missing) * specs[0].settings.epochs * int(corpus.offsets[-1])
                found.update(self._pretrain(missing, corpus, store, data, micro_batches))
        entries = [entry for spec in specs if (entry := found[spec.digest])]
        members = [member_weights(entry, specs[0].architecture) for entry in entries]
        return {name: torch.stack([m[name] for m in members]).to(self.device) for name in members[0]}, entries, tokens

    def _pretrain(
        self, specs: Sequence[PretrainSpec], corpus: TokenArray, store: Store, data: PreparedData, micro_batches: int
    ) -> Mapping[str, Entry]:
        first, seeds = specs[0], [spec.seed for spec in specs]
        if first.settings.initial_embeddings == "cooccurrence":
            self.tell(Step(COUNTING, tuple(seeds), 0, 0, 0))
        vectors = obtain_vectors(first, store=store, corpus=corpus, special=data.special)
        # Each member counts the time in full, like everything that members share.
        counting = 0.0 if vectors is None else vectors.document["seconds"]
        folder, key = store.scratch(PRETRAINED, first.digest), [spec.digest for spec in specs]
        # A training that another machine began continues in its precision, as if it was never interrupted.
        facts = saved_facts(folder)
        precision = facts.get("precision") or (self._precision(first, store) if first.settings.epochs else "float32")

        def make_checkpointer(sampler: BatchSampler, dropouts: Sequence[torch.Generator]) -> Checkpoint:
            return Checkpoint(
                folder,
                key=key,
                facts={"precision": precision},
                seconds=self.checkpoint_seconds,
                sampler=sampler,
                dropouts=dropouts,
                saved=partial(store.keep_scratch, PRETRAINED, first.digest),
            )

        tokens = first.settings.epochs * int(corpus.offsets[-1])
        weights, log = pretrain(
            first.architecture,
            first.settings,
            corpus,
            special=data.special,
            seeds=seeds,
            word_vectors=None if vectors is None else vectors_of(vectors),
            execution=Execution(self.device, precision, micro_batches),
            make_checkpointer=make_checkpointer,
            watch=self._watch(PRETRAINING, seeds, tokens),
        )
        flops = _training_flops(first.architecture, corpus, first.settings.epochs, phases_of(first)[-1])
        entries = {}
        for index, spec in enumerate(specs):
            if log.broken(index) is not None:
                continue  # store the members of a stack that did not diverge
            document = {
                "spec": spec.to_document(),
                "course": _log_document(log, index, tokens, flops, before=counting),
                "precision": precision,
                "pieces": micro_batches,
                **provenance(data, self.device),
            }
            arrays = {"model": _member_arrays(weights, index)}
            entries[spec.digest] = store.write(PRETRAINED, spec.digest, document, arrays)
        _check(log, seeds, "pre-training", "pretrain_learning_rate")
        return entries


def _answers(targets: Targets) -> dict[str, Any]:
    """Return the cost of the teachers' answers for the document of a student."""
    return {"answers": {"seconds": targets.seconds, "flops": targets.flops}}


def _is_out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def _check(log: TrainingLog, seeds: Sequence[int], phase: str, setting: str) -> None:
    for index, seed in enumerate(seeds):
        broken = log.broken(index)
        if broken is not None:
            raise DivergedError(
                f"the {phase} loss of seed {seed} is no longer a number at update {broken}", hint=f"lower {setting}"
            )


def _training_flops(architecture: Architecture, texts: TokenArray, epochs: int, phase: Phase) -> float:
    """Return the operations of training: three times the forward pass, over all texts and epochs."""
    mean = int(texts.offsets[-1]) / len(texts)
    forward = architecture.forward_flops(mean, scored=phase.scored * mean, words=phase.words(architecture))
    return 3.0 * epochs * len(texts) * forward


def _log_document(log: TrainingLog, index: int, tokens: int, flops: float, *, before: float = 0.0) -> dict[str, Any]:
    losses, seconds = [list(point) for point in log.losses[index]], before + log.seconds / len(log.losses)
    return {"losses": losses, "seconds": seconds, "tokens": tokens, "flops": flops}


def _member_arrays(weights: Weights, index: int) -> dict[str, np.ndarray]:
    member = {name: value[index].detach().cpu() for name, value in weights.items()}
    return {name: value.numpy() for name, value in to_transformers(member).items()}
