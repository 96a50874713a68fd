"""Members of a user's own class: asked for, checked, stored under their own digests, and part of a whole study."""

import sys
from pathlib import Path

import numpy as np
import pytest
from driven import run_without_ray
from finished import finished_study

from tlm_search.api import Study
from tlm_search.data.prepared import PreparedData
from tlm_search.errors import ExportError, SpaceError, TrainingError, UserError
from tlm_search.members.own import SPLITS, OwnMembers, load_own, texts_of
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.members.train import trainer_named
from tlm_search.report.tables.latency import contenders_of
from tlm_search.report.tables.tables import frontiers_table
from tlm_search.search.trial import trial_specs
from tlm_search.space.schema import Space
from tlm_search.space.settings import complete
from tlm_search.store.local import Store
from tlm_search.testing import check_trainer, request_of

EXAMPLES = Path(__file__).parents[3] / "examples"


class Constant:
    """A trainer that answers what a test gives it."""

    def __init__(self, answer=None, **own):
        self.answer = answer
        vars(self).update(own)

    def train(self, request):
        if callable(self.answer):
            return self.answer(request)
        if self.answer is not None:
            return self.answer
        noise = np.random.default_rng(request.seed)
        return {split: noise.normal(size=(len(request.texts[split]), len(request.names))) for split in SPLITS}


@pytest.fixture
def words(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from words_trainer import WordsTrainer

    yield WordsTrainer
    sys.modules.pop("words_trainer")


@pytest.mark.parametrize("variant", ["regression", "characters", "bayes"])
def test_the_example_keeps_the_contract(words, variant):
    check_trainer(words(), variant=variant)


def logits(request, *, rows=0, value=0.0):
    one = np.eye(3)[np.arange(30) % 3] * 4 + request.seed + value
    return {"validation": one[rows:], "test": one}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "the same request otherwise|right on"),
        (lambda request: {**logits(request), "validation": np.zeros((30, 3)) + request.seed}, "is right on"),
        (lambda request: {split: np.eye(3)[np.arange(30) % 3] for split in SPLITS}, "two seeds alike"),
        (lambda request: request.texts["train"].append("x") or logits(request), "changed the texts"),
        (lambda request: logits(request) | {"test": np.random.default_rng().normal(size=(30, 3))}, "otherwise on test"),
    ],
)
def test_a_class_that_breaks_the_contract_is_told_what(answer, message):
    with pytest.raises(AssertionError, match=message):
        check_trainer(Constant(answer))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([1], "returned list, not a mapping"),
        ({"validation": np.zeros((30, 3))}, "returned no test"),
        ({split: np.zeros((30, 2)) for split in SPLITS}, r"returned \(30, 2\) for validation, not \(30, 3\)"),
        ({split: np.full((30, 3), np.nan) for split in SPLITS}, "not finite"),
        (dict.fromkeys(SPLITS, "no"), "returned no numbers for validation"),
    ],
)
def test_an_answer_of_another_form_is_refused(answer, message):
    with pytest.raises(TrainingError, match=message):
        check_trainer(Constant(answer))


def test_a_contract_that_is_kept_is_silent():
    check_trainer(Constant(logits))
    assert request_of(0).texts == request_of(1).texts


def test_members_hold_the_trainer_and_its_version_in_their_digests(tmp_path):
    finished = finished_study(tmp_path)
    data = PreparedData.from_document(finished.record.data, finished.store.root)
    settings = complete({"committee_size": 2, "pretrain_size": 0})

    def digests(trainer, **changed):
        specs = trial_specs({**settings, **changed}, seed=0, data=data, trainer=trainer)
        return tuple(spec.digest for spec in specs)

    own, newer, other = (OwnMembers(name, Constant(version=v)) for name, v in (("a:A", ""), ("a:A", "2"), ("a:B", "")))
    found = {digests(own), digests(newer), digests(other), digests(own, variant="x"), digests(SimulatedTrainer())}
    assert len(found) == 5
    assert digests(SimulatedTrainer()) == digests(SimulatedTrainer(), variant="x"), "no other member has a variant"
    with pytest.raises(UserError, match="its version is 2"):
        OwnMembers("a:A", Constant(version=2))


def test_requests_have_the_texts_and_a_failure_says_which_member(tmp_path):
    finished = finished_study(tmp_path)
    data = PreparedData.from_document(finished.record.data, finished.store.root)
    assert [text.split()[:2] for text in texts_of(data, "test")] == [text.split()[:2] for text in finished.texts]
    settings = complete({"committee_size": 1, "pretrain_size": 0, "variant": "x"})

    def fail(request):
        raise ValueError("no such variant")

    trainer = OwnMembers("a:A", Constant(fail))
    specs = trial_specs(settings, seed=0, data=data, trainer=trainer)
    with pytest.raises(TrainingError, match="a:A, variant 'x', seed 0: ValueError: no such variant"):
        trainer.train(specs, store=finished.store, data=data)
    (member,) = OwnMembers("a:A", Constant()).train(specs, store=finished.store, data=data)
    assert member.arrays["logits"]["test"].shape == (18, 3)
    assert member.arrays["logits"]["test"].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:A", "No module named 'no_such_module'"),
        ("json:Nothing", "has no attribute 'Nothing'"),
        ("json:JSONDecoder", "has no method train"),
    ],
)
def test_a_class_that_cannot_be_made_is_one_clear_error(name, message):
    with pytest.raises(UserError, match=message):
        trainer_named(name, cpus=1, gpus=0)
    with pytest.raises(UserError, match=message):
        load_own(name)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"trainer": "a b:C"}, "package.module:Class"),
        ({"search": {"depth": 1}}, "depth.*allowed are variant, committee_size"),
        ({"reference": {"variant": "x"}}, "no depth"),
        ({"objectives": ["validation_accuracy", "latency_ms"]}, "latency_ms, which is unknown"),
        ({"constraints": ["parameters <= 5"]}, "parameters, which is unknown"),
        ({"trainer": "bert", "search": {"variant": "x"}}, "without a trainer of your own"),
    ],
)
def test_a_space_that_asks_for_what_its_trainer_lacks_is_refused(sections, message, tmp_path):
    import yaml

    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"trainer": "a:B", **sections}))
    with pytest.raises(SpaceError, match=message):
        Space.load(tmp_path / "x.yaml")


def test_a_whole_study_of_scikit_learns_models(words, tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLES.parent)
    space = Space.load(EXAMPLES / "words.yaml")
    run = run_without_ray(tmp_path, monkeypatch)
    study = Study.open(str(run(space).folder))
    assert {trial.state for trial in study.record.trials} == {"complete"}
    assert len(study.record.trials) == 9
    assert study.record.baseline is not None
    table = frontiers_table(study.record).query("trial >= 0")
    assert table["test_accuracy"].max() > 0.7
    assert table[["latency_ms", "serving_flops", "training_flops"]].isna().all(axis=None)
    assert study.report(tmp_path / "report").exists()
    with pytest.raises(ExportError, match="is words_trainer:WordsTrainer"):
        study.export(tmp_path / "out")
    with pytest.raises(UserError, match="no latency to measure"):
        contenders_of(study.record, study.store)
    with pytest.raises(UserError, match="cannot be distilled"):
        study.distil(trial=study.best(top=1).choices[0].candidate.trial.number)
    assert not run(space).worked, "nothing is trained twice"


def test_the_class_is_tried_before_anything_is_read(tmp_path, monkeypatch):
    run = run_without_ray(tmp_path, monkeypatch)
    space = Space.from_document({"name": "x", "trainer": "no_such_module:A", "task": {"source": "nowhere.csv"}})
    with pytest.raises(UserError, match="cannot be made here: ModuleNotFoundError"):
        run(space)
    assert not list(Store(tmp_path / "studies" / ".store").root.parent.glob("x"))
