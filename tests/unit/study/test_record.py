import builders
import optuna
import pytest
from optuna.trial import TrialState

from tlm_search.errors import StudyError
from tlm_search.study.record import REFERENCE_NUMBER, record_of


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", study_name="made-up")
    study.set_user_attr("space", builders.space().to_document())
    return study


def distributions():
    return {"heads": optuna.distributions.CategoricalDistribution((2, 4, 8))}


def add(study, state, value=None, **attributes):
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            value=value,
            params={"heads": 4},
            distributions=distributions(),
            user_attrs=attributes,
            intermediate_values={1: 0.5},
        )
    )


def test_a_study_is_read_as_it_is(study, tmp_path):
    study.set_user_attr("labels", ["a", "b"])
    study.set_user_attr("reference", {"metrics": {"test_accuracy": 0.9}, "members": ["f00"]})
    add(study, TrialState.COMPLETE, 0.7, metrics={"test_accuracy": 0.6}, members=["aa"], trained=1, seconds=2.5)
    add(study, TrialState.PRUNED)
    add(study, TrialState.FAIL, error="DivergedError: no")
    add(study, TrialState.FAIL, error="the driver died", interrupted=True)
    record = record_of(study, tmp_path)
    assert (record.name, record.folder, record.labels) == ("made-up", tmp_path, ("a", "b"))
    assert (record.directions, record.objectives) == (("maximize",), ("validation_accuracy",))
    assert [trial.state for trial in record.trials] == ["complete", "pruned", "failed", "failed"]
    first = record.trials[0]
    assert (first.values, first.params, first.rungs) == ((0.7,), {"heads": 4}, {1: 0.5})
    assert (first.metrics, first.members, first.trained, first.seconds) == ({"test_accuracy": 0.6}, ("aa",), 1, 2.5)
    assert [trial.number for trial in record.in_state("failed")] == [2]
    assert record.reference.number == REFERENCE_NUMBER
    assert record.reference.state == "complete"


def test_a_reference_that_failed_has_its_error(study, tmp_path):
    study.set_user_attr("reference", {"error": "too little memory"})
    reference = record_of(study, tmp_path).reference
    assert (reference.state, reference.error) == ("failed", "too little memory")


def test_a_trial_of_an_earlier_version_has_the_defaults_of_what_it_had_no_choice_of(study, tmp_path):
    add(study, TrialState.COMPLETE, 0.7, settings={"width": 32, "pooling": "mean"})
    add(study, TrialState.RUNNING)
    earlier, running = record_of(study, tmp_path).trials
    assert {name: earlier.settings[name] for name in ("width", "pooling", "normalisation")} == {
        "width": 32,
        "pooling": "mean",
        "normalisation": "post",
    }
    assert running.settings == {}


def test_a_study_of_another_program_is_refused(tmp_path):
    with pytest.raises(StudyError, match="holds no space"):
        record_of(optuna.create_study(), tmp_path)
