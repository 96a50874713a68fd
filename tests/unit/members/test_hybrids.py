"""The linear member: what it is fitted to, and that hybrids mix stored members, so that nothing is trained twice."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import builders
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from test_train import FAST, CountingTrainer, specs_of

from tlm_search.data.markers import MARKERS
from tlm_search.data.prepared import PreparedData
from tlm_search.data.tokens import TokenArray
from tlm_search.data.vocabulary import wordpiece
from tlm_search.data.vocabulary.tokenizer import open_tokenizer
from tlm_search.data.vocabulary.words import pieces_of
from tlm_search.errors import StoreError, TrainingError
from tlm_search.members.bert_trainer import BertTrainer
from tlm_search.members.distillation import soft_labels
from tlm_search.members.linear import fit_linear, linear_weights
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.members.spec import Distillation, LinearSpec, MemberSpec, hybrid_digests
from tlm_search.members.train import obtain, train_if_free
from tlm_search.members.trainer import KIND, LINEAR
from tlm_search.model.linear import require_shapes, term_tables, with_terms
from tlm_search.search.trial import run_trial, trial_specs
from tlm_search.space.settings import complete
from tlm_search.store.local import Store

LENGTH = 12
WORDS = [f"{first}{second}" for first in "abcdef" for second in "aeiou"]
SPEC = LinearSpec(task="task", tokenizer="tokenizer", labels=3)


def texts_of(rows: int, seed: int, *, labels: int = 3) -> tuple[list[str], np.ndarray]:
    """Return texts whose words usually show their label."""
    random = np.random.default_rng(seed)
    numbers = np.arange(rows) % labels
    own = [random.choice(WORDS[10 * number : 10 * number + 10], 3) for number in numbers]
    return [" ".join([*words, *random.choice(WORDS, 4)]) for words in own], numbers


@pytest.fixture
def worded(data: PreparedData) -> PreparedData:
    """The data of this room with a tokenizer, and texts of its words."""
    return with_words(data)


def with_words(data: PreparedData, **changes: Any) -> PreparedData:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = wordpiece.wordpiece([*special, *WORDS])
    (data.root / "tokenizer").mkdir(exist_ok=True)
    wordpiece.save(tokenizer, data.root / "tokenizer")
    for seed, (split, rows) in enumerate(data.rows.items()):
        texts, labels = texts_of(rows, seed, labels=len(changes.get("labels", data.labels)))
        if split == "train" and "train" in changes:
            texts = changes["train"]
        TokenArray.write(data.root / split, [tokenizer.encode(text).ids for text in texts], vocabulary=40)
        np.save(data.root / split / "labels.npy", labels)
    return builders.prepared_data(
        data.root, corpus="corpus", documents=40, vocabulary=40, length=LENGTH, rows=data.rows,
        labels=changes.get("labels", data.labels),
    )  # fmt: skip


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def hybrids_of(data: PreparedData, trainer: Any, seeds: range, **settings: Any) -> tuple[MemberSpec, ...]:
    return specs_of(data, trainer, seeds, linear_member=True, **settings)


@pytest.mark.parametrize("labels", [("a", "b", "c"), ("a", "b")])
def test_it_is_the_pipeline_of_scikit_learn(data: PreparedData, labels: tuple[str, ...]) -> None:
    """It is the best on validation of all that were tried. For two labels scikit-learn has one row of coefficients."""
    count = len(labels)
    document, arrays = fit_linear(replace(SPEC, labels=count), data=with_words(data, labels=labels))
    splits = {split: texts_of(rows, seed, labels=count) for seed, (split, rows) in enumerate(data.rows.items())}
    reached = {}
    for pairs in (False, True):
        vectoriser = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 1 + pairs), dtype=np.float32)
        train = vectoriser.fit_transform(splits["train"][0])
        validation, test = (vectoriser.transform(splits[split][0]) for split in ("validation", "test"))
        model = LogisticRegression(solver="sag", max_iter=100, warm_start=True, random_state=0, tol=1e-4)
        for strength in (1.0, 10.0, 100.0):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.set_params(C=strength).fit(train, splits["train"][1])
            said = model.predict_log_proba(validation)
            truth = splits["validation"][1]
            score = (said.argmax(-1) == truth).mean(), said[np.arange(len(truth)), truth].mean()
            reached[pairs, strength] = score, model.predict_log_proba(test)
    best = max(reached, key=lambda name: reached[name][0])
    assert (document["pairs"], document["strength"]) == best
    assert document["validation_accuracy"] == reached[best][0][0] > 0.5
    np.testing.assert_allclose(arrays["logits"]["test"], reached[best][1], atol=2e-3)
    assert document["parameters"] == document["terms"] * (count + 1) + count
    assert document["seconds"] > 0
    assert document["flops"] > 0


def test_words_count_by_their_role_where_entities_are_marked(data: PreparedData) -> None:
    """The head determines the label, and the same words are heads and tails, in any order."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *MARKERS]
    tokenizer = wordpiece.wordpiece([*special, *WORDS])
    tokenizer.add_special_tokens(list(MARKERS))
    (data.root / "tokenizer").mkdir()
    wordpiece.save(tokenizer, data.root / "tokenizer")
    random = np.random.default_rng(0)
    for split, rows in data.rows.items():
        labels = np.arange(rows) % 3
        texts = []
        for label in labels:
            head, tail = WORDS[label], WORDS[(label + random.integers(1, 3)) % 3]
            entities = random.permutation([f"[E1] {head} [/E1]", f"[E2] {tail} [/E2]"])
            texts.append(f" {random.choice(WORDS[20:])} ".join(entities))
        encoded = [tokenizer.encode(text).ids for text in texts]
        TokenArray.write(data.root / split, encoded, vocabulary=50)
        np.save(data.root / split / "labels.npy", labels)
    facts = {"vocabulary": 50, "length": 16, "labels": data.labels, "rows": data.rows}
    ids = {marker: tokenizer.token_to_id(marker) for marker in MARKERS}
    plain = builders.prepared_data(data.root, **facts)
    marked = replace(plain, special={**plain.special, **ids})
    reached = [fit_linear(SPEC, data=given)[0]["validation_accuracy"] for given in (plain, marked)]
    assert reached[0] < 0.7 < reached[1] == 1
    hybrids = {
        spec.linear
        for given in (plain, marked)
        for spec in trial_specs(complete({"linear_member": True}), seed=0, data=given, trainer=SimulatedTrainer())
    }
    assert {spec is not None and spec.marked for spec in hybrids} == {False, True}
    assert len({spec.digest for spec in hybrids if spec is not None}) == 2
    ordered = complete({"linear_member": True, "linear_roles": "ordered"})
    for given, other in ((plain, False), (marked, True)):
        (spec,) = trial_specs(ordered, seed=0, data=given, trainer=SimulatedTrainer())
        assert spec.linear is not None
        assert (spec.linear.ordered, spec.linear in hybrids) == (other, not other)


@pytest.mark.parametrize("older", [False, True])
def test_a_model_of_word_pairs_is_one_that_an_export_takes(worded: PreparedData, older: bool) -> None:
    """An export checks its shapes."""
    pieces = pieces_of(open_tokenizer(worded.folder("tokenizer")), special=range(5))
    keys = np.arange(10, dtype=np.int64)
    floats = {"idf": np.ones(10), "coefficients": np.ones((10, 3)), "intercept": np.ones(3)}
    written = with_terms(term_tables(pieces, pairs=True), keys, **floats)
    arrays = {name: value.numpy() for name, value in written.items()}
    if older:
        arrays["pair"] = arrays["pair"].reshape(1)
    entry = Store(worded.root).write(LINEAR, SPEC.digest, {}, {"model": arrays})
    read = linear_weights(entry)
    shapes = {name: tuple(value.shape) for name, value in read.items()}
    require_shapes(shapes, vocabulary=5 + len(WORDS), labels=3)
    assert all(read[name].equal(value) for name, value in written.items())


def test_a_label_without_training_texts_is_never_said(worded: PreparedData) -> None:
    labels = np.load(worded.folder("train") / "labels.npy")
    np.save(worded.folder("train") / "labels.npy", labels % 2)
    _, arrays = fit_linear(SPEC, data=worded)
    assert arrays["logits"]["test"].shape == (18, 3)
    assert softmax(arrays["logits"]["test"])[:, 2].max() < 1e-9
    np.save(worded.folder("train") / "labels.npy", labels % 1)
    with pytest.raises(TrainingError, match="all training texts have one label"):
        fit_linear(SPEC, data=worded)


def test_the_most_frequent_terms_are_kept_and_pairs_passed_over_where_they_take_long(
    worded: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlm_search.members.linear.MOST_COEFFICIENTS", 30)
    monkeypatch.setattr("tlm_search.members.linear.FEWEST_FEATURES", 1)
    monkeypatch.setattr("tlm_search.members.linear.LONG_PASS", 1)
    document, arrays = fit_linear(SPEC, data=worded)
    assert (document["terms"], document["pairs"]) == (10, False)
    assert arrays["model"]["coefficients"].shape == (10, 3)


def test_no_warning_of_the_fit_is_seen(worded: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlm_search.members.linear.passes_of", lambda rows, labels: 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_linear(SPEC, data=worded)


def test_texts_without_words_are_one_message(data: PreparedData) -> None:
    with pytest.raises(TrainingError, match="no training text has a word") as caught:
        fit_linear(SPEC, data=with_words(data, train=["."] * 30))
    assert caught.value.hint is not None
    assert "linear_member" in caught.value.hint


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_a_hybrid_is_the_member_and_a_share_of_the_linear_model(worded: PreparedData, share: float) -> None:
    store, trainer = Store(worded.root), BertTrainer(threads=1, device="cpu")
    specs = hybrids_of(worded, trainer, range(2), linear_share=share)
    plain = obtain([spec.plain for spec in specs], store=store, data=worded, trainer=trainer)
    hybrids = obtain(specs, store=store, data=worded, trainer=trainer)
    (linear,) = store.entries(LINEAR)
    for one, other in zip(plain.members, hybrids.members, strict=True):
        for split in ("validation", "test"):
            said = softmax(linear.arrays("logits")[split].astype(float))
            own = softmax(getattr(one, f"{split}_logits").astype(float))
            np.testing.assert_allclose(
                np.exp(getattr(other, f"{split}_logits")), (1 - share) * own + share * said, atol=1e-6, rtol=1e-5
            )
        assert hybrid_digests(other.document["spec"]) == (one.digest, linear.digest)
        assert (one.seconds, one.training_flops, one.linear) == (other.seconds, other.training_flops, None)
        assert other.linear == {name: linear.document[name] for name in ("seconds", "flops", "parameters")}
        entry = store.read(KIND, other.digest)
        assert entry is not None
        assert set(entry.files) == {"logits.safetensors"}


def test_nothing_is_trained_twice(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    store, trainer = Store(data.root), CountingTrainer()
    fits: list[LinearSpec] = []
    fit = trainer.fit_linear

    def counted(spec: MemberSpec, **where: Any) -> Any:
        assert spec.linear is not None
        fits.append(spec.linear)
        return fit(spec, **where)

    monkeypatch.setattr(trainer, "fit_linear", counted)
    plain, hybrids = specs_of(data, trainer, range(2)), hybrids_of(data, trainer, range(4))
    obtain(plain, store=store, data=data, trainer=trainer)
    second = obtain(hybrids, store=store, data=data, trainer=trainer)
    assert (second.trained, second.reused) == (2, 2)
    again = obtain(hybrids, store=store, data=data, trainer=trainer)
    assert (again.trained, again.reused, again.tokens) == (0, 4, 0)
    alone = obtain([spec.plain for spec in hybrids], store=store, data=data, trainer=trainer)
    assert alone.trained == 0
    assert len(trainer.trained) == len(set(trainer.trained)) == 4
    assert len(fits) == 1
    assert [member.digest for member in second.members] == [spec.digest for spec in hybrids]
    np.testing.assert_array_equal(second.members[0].test_logits, again.members[0].test_logits)


def test_the_linear_model_of_students_learns_what_the_teachers_say(worded: PreparedData) -> None:
    """It is fitted to training and unlabelled texts; if it learns from labels, it is that of the teachers."""
    texts, _ = texts_of(60, 9)
    encode = wordpiece.wordpiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]).encode
    rows = TokenArray.write(worded.root / "unlabelled", [encode(text).ids for text in texts], vocabulary=40)
    data = replace(
        worded, unlabelled="unlabelled", unlabelled_texts={"used": 60}, unlabelled_fingerprint=rows.fingerprint()
    )
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    at = {"seed": 0, "data": data, "store": store, "trainer": trainer}
    given = {**FAST, "committee_size": 1, "teachers": 1, "linear_member": True, "self_training": 1}
    reached = {}
    for learns in ("labels", "teachers"):
        settings = complete({**given, "student_linear": learns})
        (student,) = trial_specs(settings, seed=0, data=data, trainer=trainer)
        (rung,) = run_trial(settings, **at)
        assert student.linear is not None
        entry = store.read(LINEAR, student.linear.digest)
        assert entry is not None
        reached[learns] = student, student.linear, entry, rung.metrics["training_seconds"]
    (one, of_teacher, _, seconds), (other, own, entry, more) = reached["labels"], reached["teachers"]
    assert one.plain == other.plain
    (teacher,) = trial_specs(complete({**given, "self_training": 0}), seed=0, data=data, trainer=trainer)
    assert of_teacher == teacher.linear != own
    assert entry.document["spec"]["teaching"]["teachers"] == [teacher.digest]
    assert more - seconds == pytest.approx(entry.document["seconds"]), "that of the teacher is counted too"
    lesson = soft_labels(other, store=store, data=data, device="cpu")
    assert len(lesson.texts) == data.rows["train"] + 60
    _, expected = fit_linear(own, data=data, taught=(lesson.texts, lesson.labels.argmax(1)))
    np.testing.assert_array_equal(entry.arrays("logits")["test"], expected["logits"]["test"])


def test_without_students_the_teachers_vote_beside_a_linear_model_that_learns_what_they_say(
    worded: PreparedData,
) -> None:
    """Only members that learn from labels are trained, and each cost is counted once."""
    texts, _ = texts_of(60, 9)
    encode = wordpiece.wordpiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]).encode
    rows = TokenArray.write(worded.root / "unlabelled", [encode(text).ids for text in texts], vocabulary=40)
    data = replace(
        worded, unlabelled="unlabelled", unlabelled_texts={"used": 60}, unlabelled_fingerprint=rows.fingerprint()
    )
    store, trainer = Store(data.root), BertTrainer(threads=1, device="cpu")
    at = {"seed": 0, "data": data, "store": store, "trainer": trainer}
    given = {**FAST, "teachers": 2, "linear_member": True, "self_training": 1, "student_linear": "teachers"}
    settings = complete({**given, "student_epochs": 0, "committee_size": 3})
    first, last = list(run_trial(settings, **at))[::2]
    assert [(rung.trained, rung.reused) for rung in (first, last)] == [(2, 0), (3, 0)], "each member is counted once"
    members = trial_specs(settings, seed=0, data=data, trainer=trainer)
    plain = complete({**given, "self_training": 0, "committee_size": 3})
    before = trial_specs(plain, seed=0, data=data, trainer=trainer)
    assert [spec.plain for spec in members] == [spec.plain for spec in before]
    own = members[0].linear
    assert own is not None
    assert own.teaching is not None
    assert own.teaching.teachers == tuple(spec.digest for spec in before[:2])
    entries = [store.read(KIND, spec.plain.digest) for spec in members]
    models = [store.read(LINEAR, spec.linear.digest) for spec in (members[0], before[0]) if spec.linear]
    costs = [entry.document["finetuning"]["flops"] for entry in entries if entry]
    costs += [entry.document["flops"] for entry in models if entry]
    answers = models[0] and models[0].document["answers"]["flops"]
    assert answers
    assert last.metrics["training_flops"] == pytest.approx(sum(costs) + answers)
    # A committee of students has the same linear model, and its cost includes the teachers' answers.
    (taught, *_) = run_trial(complete({**given, "committee_size": 1}), **at)
    (student,) = trial_specs(complete({**given, "committee_size": 1}), seed=0, data=data, trainer=trainer)
    assert student.linear == own
    entry = store.read(KIND, student.plain.digest)
    assert entry is not None
    expected = sum(costs) - costs[2] + entry.document["finetuning"]["flops"]
    assert taught.metrics["training_flops"] == pytest.approx(expected)


def test_helpers_of_hybrids_train_the_plain_members(data: PreparedData) -> None:
    store, trainer = Store(data.root), CountingTrainer()
    specs = hybrids_of(data, trainer, range(3))
    assert train_if_free(specs[1:], store=store, data=data, trainer=trainer, attempt="this")
    assert not train_if_free(specs[1:], store=store, data=data, trainer=trainer, attempt="this")
    assert not list(store.entries(LINEAR))
    obtained = obtain(specs, store=store, data=data, trainer=trainer, attempt="this")
    assert (obtained.trained, obtained.reused) == (3, 0), "what a helper trained for this attempt is its own"
    assert "helped" not in obtained.members[1].document
    assert obtain(specs, store=store, data=data, trainer=trainer, attempt="other").trained == 0


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_a_teacher_that_is_a_hybrid_answers_with_its_mixture(worded: PreparedData, share: float) -> None:
    store, trainer = Store(worded.root), BertTrainer(threads=1, device="cpu")
    specs = hybrids_of(worded, trainer, range(2), linear_share=share)
    # To get its answers to the training texts, read them as a test split.
    renamed = replace(worded, test=worded.train, task_fingerprint="other")
    members = obtain(specs, store=store, data=renamed, trainer=trainer).members
    student = replace(specs[0].plain, teaching=Distillation(tuple(member.digest for member in members)))
    lesson = soft_labels(student, store=store, data=worded, device="cpu")
    expected = np.mean([np.exp(member.test_logits) for member in members], axis=0)
    np.testing.assert_allclose(lesson.labels, expected, atol=1e-5)
    assert specs[0].linear is not None
    assert student.teaching is not None
    store.remove(LINEAR, specs[0].linear.digest)
    store.remove("soft_labels", student.teaching.digest)
    with pytest.raises(StoreError, match="the linear model"):
        soft_labels(student, store=store, data=worded, device="cpu")


def test_latency_counts_the_linear_model_once(worded: PreparedData) -> None:
    store, trainer = Store(worded.root), BertTrainer(threads=1, device="cpu")
    (spec,) = hybrids_of(worded, trainer, range(1))
    with pytest.raises(StoreError, match="is missing or damaged in the store"):
        trainer.latency_ms(spec, members=2, store=store)
    obtain([spec], store=store, data=worded, trainer=trainer)
    latency = trainer.latency_ms(spec, members=2, store=store)
    assert 0 < latency == trainer.latency_ms(spec, members=2, store=store)
    trainer.latency_ms(spec.plain, members=2, store=store)
    keys: Sequence[Any] = [entry.document["key"].get("linear") for entry in store.entries("latency")]
    assert set(keys) == {None, spec.linear and spec.linear.digest}


def test_students_and_hybrids_have_names_of_their_own(data: PreparedData) -> None:
    (hybrid,) = hybrids_of(data, CountingTrainer(), range(1))
    (plain,) = specs_of(data, CountingTrainer(), range(1))
    assert hybrid.plain == plain
    assert hybrid.digest != plain.digest
    assert hybrid.linear is not None
    assert hybrid_digests(hybrid.to_document()) == (plain.digest, hybrid.linear.digest)
    assert hybrid_digests(plain.to_document()) is None
    student = replace(hybrid, teaching=Distillation(("a" * 32,)))
    assert hybrid_digests(student.to_document()) == (student.plain.digest, hybrid.linear.digest)
    other = replace(hybrid, linear=replace(hybrid.linear, tokenizer="other"))
    assert other.digest != hybrid.digest
    assert "linear_share" not in hybrid.to_document(), "hybrids of before the share could be set keep their names"
    (quiet,) = hybrids_of(data, CountingTrainer(), range(1), linear_share=0.2)
    assert quiet.plain == plain
    assert quiet.digest != hybrid.digest
    assert hybrid_digests(quiet.to_document()) == hybrid_digests(hybrid.to_document())
    (without,) = specs_of(data, CountingTrainer(), range(1), linear_share=0.2)
    assert without == plain, "a share of no linear model is nothing"
