"""Distillation: single models that learn from a committee of a study, stored and recorded with its trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tlm_search.committee.frontier import alone_on_validation
from tlm_search.committee.metrics import Metric, metric_of
from tlm_search.cost.machine import this_machine
from tlm_search.data.prepared import PreparedData
from tlm_search.errors import UserError
from tlm_search.members.spec import Distillation, MemberSpec
from tlm_search.members.train import Obtained, obtain, trainer_named
from tlm_search.members.trainer import KIND, Trainer
from tlm_search.search.ledger import Ledger
from tlm_search.search.trial import Rung, committee_costs, committee_frontier, trial_specs, with_latency
from tlm_search.space.schema import Space
from tlm_search.store.local import Store
from tlm_search.store.shared import open_store
from tlm_search.study.location import StudyLocation, store_root
from tlm_search.study.record import STUDENT, StudyRecord, TrialRecord

STUDENTS = 5  # at most, with different seeds; their spread is then known to a factor of 3 (with three students, of 6)

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Teachers:
    """A committee that teaches: ``members`` of ``trial``, or of a ``mixed`` committee with ``weights``.

    Students have the configuration of ``trial``. ``weights`` are empty if all votes count the same. ``mixed`` is what
    the study stores of a mixed committee: ``how`` its ``members`` were chosen, and their ``weights``.
    """

    trial: TrialRecord
    members: tuple[str, ...]
    weights: tuple[float, ...] = ()
    mixed: Mapping[str, Any] | None = None

    @property
    def words(self) -> str:
        """The committee in words."""
        return f"trial {self.trial.number}" if self.mixed is None else f"members chosen as {self.mixed['how']}"


def distil(
    record: StudyRecord,
    teachers: Teachers,
    *,
    documents: int = 0,
    storage: str | None = None,
    announce: Announce = lambda line: None,
) -> Obtained:
    """Train students of ``teachers`` and note them in the study. Students that the store has are reused.

    A student has the architecture, pre-training and fine-tuning of a member, without the linear model of a hybrid. It
    learns the committee's mean probabilities on the task's training texts and on the first ``documents`` of the corpus.
    If the committee learned from the task's unlabelled texts, the student learns from these too.

    Raises:
        UserError: the committee has one member, the study is running, or the store lacks what a student needs.
        TrainingError: a student could not be trained.
    """
    trial, size = teachers.trial, len(teachers.members)
    if size < 2:
        what = f"trial {trial.number}" if teachers.mixed is None else "the mixed committee"
        raise UserError(
            f"{what} has only one member at the chosen size, so there is no committee to distil",
            hint=f"tlm-search best {record.name} lists larger ones; take one with --trial N --size K",
        )
    if record.space.reads_data and not record.space.has_weights:
        raise UserError(
            f"the members of {record.name} cannot be distilled: their trainer is {record.space.trainer}",
            hint="distil a study with trainer: bert",
        )
    location, space = StudyLocation.of(record.folder, storage), record.space
    with location.driving(announce):
        ledger = Ledger(location.open(), space)
        store = open_store(store_root(record.folder.parent))
        trainer = _trainer(space, announce)
        data = PreparedData.from_document(record.data, store.root).of(trial.settings)
        specs = _students(teachers, documents, space=space, data=data, trainer=trainer)
        _check_same_tokens(teachers, specs[0], store)
        _tell_of_pretraining(specs, store, space, announce)
        announce(f"training students of the committee of {teachers.words} ({size} members), with {len(specs)} seeds")
        began = time.monotonic()
        obtained = obtain(specs, store=store, data=data, trainer=trainer)
        of: dict[str, Any] = {"trial": trial.number, "size": size, "documents": documents}
        name = f"{STUDENT} {trial.number} {size} {documents}"
        if teachers.mixed is not None:
            of["mixed"], name = teachers.mixed, f"{STUDENT} {teachers.mixed['how']} {documents}"
        noted = ledger.noted(name)
        if noted is None or set(noted["members"]) != {member.digest for member in obtained.members}:
            metric, seconds = metric_of(space.task, data.labels), time.monotonic() - began
            rung = _rung(specs[0], obtained, metric, seconds=seconds, data=data, store=store, trainer=trainer)
            settings = {**trial.settings, "committee_size": len(specs), "linear_member": False}
            ledger.note(name, {**of, **rung.attributes(settings)})
    noun = "student" if obtained.trained == 1 else "students"
    announce(f"{obtained.trained} {noun} trained, {obtained.reused} found in the store")
    return obtained


def _students(
    teachers: Teachers, documents: int, *, space: Space, data: PreparedData, trainer: Trainer
) -> tuple[MemberSpec, ...]:
    if documents > data.documents:
        raise UserError(
            f"students cannot learn from {documents:,} documents: the corpus of the study has {data.documents:,}",
            hint=f"ask for at most {data.documents:,} documents",
        )
    trial = teachers.trial
    # Each student starts from the stored pre-training of one teacher, so there are at most as many as teachers.
    most = len(teachers.members if teachers.mixed is None else trial.members)
    settings = {**trial.settings, "committee_size": min(STUDENTS, most)}
    members = trial_specs(settings, seed=space.seed, data=data, trainer=trainer)
    if tuple(member.digest for member in members) != trial.members[: len(members)]:
        raise UserError(
            f"the members of trial {trial.number} were trained by another version of tlm-search with other digests, "
            "so students cannot be trained like them",
            hint="run the space with another --name, and distil that study",
        )
    corpus = data.prefix_fingerprint(documents)
    unlabelled = members[0].taught.unlabelled if members[0].taught else ""
    teaching = Distillation(teachers.members, documents, corpus, unlabelled, teachers.weights)
    return tuple(replace(member, teaching=teaching, linear=None) for member in members)


def _check_same_tokens(teachers: Teachers, student: MemberSpec, store: Store) -> None:
    """Refuse teachers that read other tokens than the student. Members of one trial all read the same.

    Raises:
        UserError: a teacher has another tokenizer or length.
    """
    for digest in teachers.members if teachers.mixed is not None else ():
        entry = store.read(KIND, digest)
        read = None if entry is None else entry.document["spec"]
        own = (student.task, student.architecture.positions)
        if read is not None and (read["task"], read["architecture"]["positions"]) != own:
            raise UserError(
                f"the mixed committee cannot teach students of trial {teachers.trial.number}: its member {digest} has "
                "another tokenizer or length",
                hint="distil the committee of a trial, with --trial",
            )


def _tell_of_pretraining(specs: Sequence[MemberSpec], store: Store, space: Space, announce: Announce) -> None:
    for spec in specs if space.has_weights else ():
        gone = spec.pretrained is not None and store.modified("pretrained", spec.pretrained.digest) is None
        if gone and store.modified("members", spec.digest) is None:
            announce(f"the pre-trained weights of seed {spec.seed} were removed from the store; they are trained again")


def _trainer(space: Space, announce: Announce) -> Trainer:
    gpus = this_machine(with_gpus=True).gpus if space.resources.gpus_per_trial else 0
    if space.resources.gpus_per_trial and not gpus:
        announce("the study ran on GPUs, but this machine has none: training on the CPU")
    return trainer_named(space.trainer, cpus=space.resources.cpus_per_trial, gpus=min(1, gpus))


def _rung(
    spec: MemberSpec,
    obtained: Obtained,
    metric: Metric,
    *,
    seconds: float,
    data: PreparedData,
    store: Store,
    trainer: Trainer,
) -> Rung:
    """Return the results of the students in the form of a trial's."""
    validation_labels, test_labels = data.true_labels("validation"), data.true_labels("test")

    # Put the best first, because it is the one to export. The figures do not depend on the order.
    members = sorted(
        obtained.members,
        key=lambda member: -alone_on_validation(member.validation_logits, validation_labels, metric),
    )
    scores = committee_frontier(members, validation_labels, test_labels, metric=metric)
    scores = with_latency(scores, spec, trainer=trainer, store=store)
    courses = [member.document["finetuning"] for member in members]
    metrics = {
        **scores[-1].metrics(),
        **committee_costs(spec, members),
        "latency_ms": scores[-1].figures["latency_ms"],
        "distilling_flops": sum(course["flops"] for course in courses),
        "distilling_seconds": sum(course["seconds"] for course in courses),
    }
    return Rung(
        size=len(members),
        done=True,
        metrics=metrics,
        frontier=scores,
        members=[member.digest for member in members],
        trained=obtained.trained,
        reused=obtained.reused,
        tokens=obtained.tokens,
        seconds=seconds,
    )
