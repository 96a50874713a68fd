"""Members of a user's own class: requested, checked, stored under their own digests, and part of a whole study."""

import sys
from pathlib import Path

import numpy as np
import pytest
from driven import run_without_ray
from finished import finished_study
from optuna.distributions import IntDistribution

from tlm_search.api import Study
from tlm_search.data.prepared import PreparedData
from tlm_search.errors import ExportError, SpaceError, TrainingError, UserError
from tlm_search.members.own import SPLITS, OwnMembers, load_own, texts_of
from tlm_search.members.simulated import SimulatedTrainer
from tlm_search.members.train import trainer_named
from tlm_search.report.claims.answer import answer_of
from tlm_search.report.tables.latency import contenders_of
from tlm_search.report.tables.tables import frontiers_table
from tlm_search.search.samplers import distribution_of
from tlm_search.search.trial import trial_specs
from tlm_search.space.parameters import Choices
from tlm_search.space.schema import Space
from tlm_search.space.settings import OWN, SETTINGS, complete, own_settings
from tlm_search.store.local import Store
from tlm_search.testing import check_trainer, request_of

EXAMPLES = Path(__file__).parents[3] / "examples"


class Constant:
    """A trainer that gives the answer of a test."""

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
    check_trainer(words(), variant=variant, settings={"C": 3})


def test_the_contract_covers_settings(words):
    with pytest.raises(AssertionError, match=r"WordsTrainer does not list D in its attribute settings"):
        check_trainer(words(), settings={"D": 3})
    with pytest.raises(AssertionError, match="changed the settings"):
        check_trainer(Constant(lambda r: r.settings.clear() or logits(r), settings=("C",)), settings={"C": 3})


def logits(request, *, rows=0, value=0.0):
    one = np.eye(3)[np.arange(30) % 3] * 4 + request.seed + value
    return {"validation": one[rows:], "test": one}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "the same request differently|right on"),
        (lambda request: {**logits(request), "validation": np.zeros((30, 3)) + request.seed}, "is right on"),
        (lambda request: {split: np.eye(3)[np.arange(30) % 3] for split in SPLITS}, "two seeds alike"),
        (lambda request: request.texts["train"].append("x") or logits(request), "changed the texts"),
        (
            lambda request: logits(request) | {"test": np.random.default_rng().normal(size=(30, 3))},
            "differently on test",
        ),
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
        ({split: np.zeros((30, 2)) for split in SPLITS}, r"returned the shape \(30, 2\) for validation, not \(30, 3\)"),
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
    assert digests(SimulatedTrainer()) == digests(SimulatedTrainer(), own_C=2), (
        "no other member has settings of its own"
    )
    values = (0.5, 2, "2", True)
    assert len({digests(own), *(digests(own, own_C=value) for value in values), digests(own, own_D=2)}) == 6
    assert digests(own, own_C=2) == digests(own, own_C=2.0)
    assert digests(own, own_C=2, own_D=1) == digests(own, own_D=1, own_C=2)
    (spec,) = trial_specs({**settings, "committee_size": 1}, seed=0, data=data, trainer=own)
    assert "own" not in spec.to_document(), "members of before keep their digests"
    with pytest.raises(UserError, match="its version is 2"):
        OwnMembers("a:A", Constant(version=2))
    for settings in ("C", 3, (3,)):
        with pytest.raises(UserError, match="its settings are"):
            OwnMembers("a:A", Constant(settings=settings))


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
    specs = trial_specs({**settings, "own_D": 0.5, "own_C": 2.0}, seed=0, data=data, trainer=trainer)
    with pytest.raises(TrainingError, match=r"variant 'x', C 2, D 0\.5, seed 0: ValueError"):
        trainer.train(specs, store=finished.store, data=data)
    asked = []
    noted = OwnMembers("a:A", Constant(lambda request: asked.append(request.settings)))
    with pytest.raises(TrainingError, match="returned NoneType"):
        noted.train(specs, store=finished.store, data=data)
    assert asked == [{"C": 2, "D": 0.5}]
    assert type(asked[0]["C"]) is int, "one digest is one request"
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
        ({"search": {"depth": 1}}, "depth.*allowed: own_NAME, variant, committee_size"),
        ({"reference": {"variant": "x"}}, "no depth"),
        ({"objectives": ["validation_accuracy", "latency_ms"]}, "latency_ms, which is unknown"),
        ({"constraints": ["parameters <= 5"]}, "parameters, which is unknown"),
        ({"trainer": "bert", "search": {"variant": "x"}}, "without a trainer of your own"),
        ({"trainer": "bert", "search": {"own_C": 1}}, "own_C: given without a trainer of your own"),
        ({"search": {"C": 1}}, "unknown setting 'C'.*own_NAME for a trainer of your own"),
        ({"search": {"own_C": None}}, "given nothing; allowed: a number, text of one line, or true or false"),
        ({"search": {"own_C": [1, 2]}}, r"own_C: given \[1, 2\]; allowed: a number.*or {choices: \[1, 2\]}"),
        ({"search": {"own_C": {"choices": [1, 1]}}}, "own_C.choices.1: given 1 twice"),
        ({"search": {"own_C": {"low": "a", "high": 2}}}, "own_C.low: given 'a'; allowed: a number"),
        ({"search": {"own_C": {"low": 0, "high": 2, "log": True}}}, "own_C.low: given 0.0; allowed: a number above 0"),
        ({"search": {"own_C": {"low": 3, "high": 2}}}, "own_C.high: given 2.0; allowed: a number that is not below"),
        ({"search": {"own_C": {"low": 1, "high": 2}}, "sampler": "grid"}, "a range with step"),
        ({"search": {"own_C": {"low": 1, "high": 2}}, "points": [{"own_C": 3}]}, "given 3; allowed: a number from 1"),
        ({"search": {"own_C": {"low": 1, "high": 2}}, "points": [{"own_C": True}]}, "given true; allowed: a number"),
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
    drawn = {trial.params["variant"]: trial.params.get("own_C") for trial in study.record.trials}
    assert drawn.pop("bayes", None) is None, "own_C is for the others"
    assert drawn
    assert all(0.01 <= value <= 100 for value in drawn.values())
    table = frontiers_table(study.record).query("trial >= 0")
    assert table["configuration"].str.contains(r"C \d").any()
    assert "own_C" in study.trials_dataframe()
    answer = answer_of(study.record, study.evidence)
    assert "depth" not in answer.headline
    assert "FLOPs" not in answer.table["Best committee"]["Training"]
    assert table["test_accuracy"].max() > 0.7
    assert table[["latency_ms", "serving_flops", "training_flops"]].isna().all(axis=None)
    assert study.report(tmp_path / "report").exists()
    for options in ({}, {"student": True}, {"pool": "greedy"}, {"trial": 99}):
        with pytest.raises(
            ExportError, match="words_trainer:WordsTrainer trained them, and only members of"
        ) as refused:
            study.export(tmp_path / "out", **options)
        assert "tlm-search best words names the settings" in refused.value.hint
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no latency to measure"):
        contenders_of(study.record, study.store)
    with pytest.raises(UserError, match="cannot be distilled"):
        study.distil(trial=study.best(top=1).choices[0].candidate.trial.number)
    assert not run(space).worked, "nothing is trained twice"


@pytest.mark.parametrize(
    ("search", "value", "kinds"),
    [
        ({"low": 0, "high": 1}, 0.25, {float}),
        ({"low": 1, "high": 3, "step": 1}, 2, {int}),
        ({"low": 1, "high": 3, "step": 0.5}, 1.5, {float}),
        ({"low": 1, "high": 100, "log": True, "step": 1}, 7, {int}),
        ({"low": 0.01, "high": 100, "log": True}, 3.5, {float}),
        ({"choices": [2, 0.5, "auto", True, False]}, "auto", {int, float, str, bool}),
    ],
)
def test_settings_of_an_own_trainer_are_searched_as_all_others(search, value, kinds):
    document = {"name": "x", "trainer": "a:B", "search": {"own_C": search}, "points": [{"own_C": value}]}
    space = Space.from_document(document)
    assert Space.from_document(space.to_document()).to_document() == space.to_document(), "it is the same when stored"
    assert space.settings({"own_C": value})["own_C"] == value
    domain = space.searched()["own_C"]
    assert {type(domain.at(share)) for share in (0.0, 0.3, 0.5, 0.7, 0.9)} >= kinds - {bool}
    assert isinstance(domain, Choices) or {type(domain.low), type(domain.high)} == kinds


def test_whole_numbers_on_a_log_scale():
    search = {"own_trees": {"low": 1, "high": 100, "log": True, "step": 1}}
    domain = Space.from_document({"name": "x", "trainer": "a:B", "search": search}).searched()["own_trees"]
    assert [domain.at(share) for share in (0.0, 0.5, 0.75)] == [1, 10, 32]
    assert distribution_of(domain) == IntDistribution(1, 100, log=True, step=1)


def test_a_setting_is_absent_where_its_condition_does_not_hold():
    search = {"own_kind": {"choices": ["a", "b"]}, "own_C": {"low": 1, "high": 2, "when": {"own_kind": ["a"]}}}
    space = Space.from_document({"name": "x", "trainer": "a:B", "search": search})
    assert own_settings(space.settings({"own_kind": "a", "own_C": 1.5})) == {"C": 1.5, "kind": "a"}
    assert own_settings(space.settings({"own_kind": "b"})) == {"kind": "b"}


def test_a_setting_that_the_class_does_not_read_is_refused_before_anything_is_read(words, tmp_path, monkeypatch):
    run = run_without_ray(tmp_path, monkeypatch)
    document = {"name": "x", "trainer": "words_trainer:WordsTrainer", "task": {"source": "nowhere.csv"}}
    with pytest.raises(UserError, match=r"search.own_c: unknown setting 'own_c'; did you mean own_C\?; allowed: own_C"):
        run(Space.from_document({**document, "search": {"own_c": 1}}))
    monkeypatch.setattr(words, "settings", ())
    with pytest.raises(UserError, match="allowed: none"):
        run(Space.from_document({**document, "search": {"own_C": 1}}))


def test_no_setting_of_this_package_begins_as_those_of_a_user():
    assert not [name for name in SETTINGS if name.startswith(OWN)]


def test_the_class_is_tried_before_anything_is_read(tmp_path, monkeypatch):
    run = run_without_ray(tmp_path, monkeypatch)
    space = Space.from_document({"name": "x", "trainer": "no_such_module:A", "task": {"source": "nowhere.csv"}})
    with pytest.raises(UserError, match="cannot be made here: ModuleNotFoundError"):
        run(space)
    assert not list(Store(tmp_path / "studies" / ".store").root.parent.glob("x"))
