from pathlib import Path

from driven import Bench, space_of

from tlm_search.search.importance import importances
from tlm_search.study.location import StudyLocation
from tlm_search.study.record import record_of


def test_a_value_outside_the_space_leaves_nothing_to_say(tmp_path: Path) -> None:
    bench = Bench(tmp_path, space_of())
    bench.drive(6)
    trials = record_of(StudyLocation.of(tmp_path / "study").open(), tmp_path / "study").in_state("complete")
    assert importances(bench.space, trials, "validation_accuracy")
    narrower = space_of(
        search={
            "depth": {"choices": [7, 8]},
            "heads": {"choices": [1, 2, 4]},
            "head_size": 8,
            "pretrain_size": {"choices": [0, 1000]},
            "committee_size": {"choices": [1, 2, 4]},
        }
    )
    assert importances(narrower, trials, "validation_accuracy") == {}
