import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven import run_without_ray, space_of
from tensorboardX.proto.event_pb2 import Event

from tlm_search.errors import StudyError
from tlm_search.search import tracking
from tlm_search.search.session import Session
from tlm_search.study.location import read_study


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    run = run_without_ray(tmp_path, monkeypatch)
    return lambda trials=2, tracking="tensorboard", **options: run(
        space_of(budget={"trials": trials}, tracking=tracking), **options
    )


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return what TensorBoard reads of a run."""
    found: dict[str, dict[int, float]] = {}
    for file in folder.glob("events*"):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
            content = content[16 + length :]
    return found


def test_a_finished_trial_is_a_run_with_committee_size_as_its_step(tmp_path: Path, run: Callable[..., Session]) -> None:
    run(2)
    run(4)
    folder = tmp_path / "studies" / "test"
    record = read_study(folder)
    assert sorted(path.name for path in (folder / "tensorboard").iterdir()) == [f"trial-{i:04d}" for i in range(4)]
    for trial in record.trials:
        logged = scalars(folder / "tensorboard" / f"trial-{trial.number:04d}")
        expected = {row.size: row.figures["test_accuracy"] for row in trial.frontier}
        assert {size: logged["test_accuracy"][size] for size in expected} == pytest.approx(expected)


def test_what_was_finished_before_is_caught_up_once(tmp_path: Path, run: Callable[..., Session]) -> None:
    run(3, tracking=[])
    for _ in range(2):
        run(3)
        folder = tmp_path / "studies" / "test"
        assert len(list((folder / "tensorboard").iterdir())) == 3
        assert (folder / "tracking" / "tensorboard.txt").read_text().split() == ["0", "1", "2"]


def test_a_tracker_that_fails_does_not_stop_the_study(
    tmp_path: Path, run: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Broken:
        def __init__(self, *arguments: Any) -> None: ...

        def log(self, run: tracking.Run) -> None:
            calls.append(run.name)
            raise ConnectionError("no server")

    monkeypatch.setattr(tracking, "_KINDS", {"tensorboard": Broken})
    assert run(3).driver.progress.complete == 3
    assert calls == ["trial-0000"]
    assert not (tmp_path / "studies" / "test" / "tracking").exists()


def test_a_tracker_that_cannot_be_reached_at_the_start_is_left_out_until_the_next_run(
    tmp_path: Path, run: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def __init__(self, *arguments: Any) -> None:
            raise ConnectionError("no server")

        def log(self, run: tracking.Run) -> None: ...

    kinds = dict(tracking._KINDS)
    monkeypatch.setattr(tracking, "_KINDS", {**kinds, "mlflow": Away})
    lines: list[str] = []
    session = run(2, tracking=["mlflow", "tensorboard"], announce=lines.append)
    assert session.driver.progress.complete == 2
    (told,) = (line for line in lines if "mlflow" in line)
    assert told.startswith("mlflow failed, ConnectionError: no server; the study goes on without it")
    folder = tmp_path / "studies" / "test"
    assert len(list((folder / "tensorboard").iterdir())) == 2
    monkeypatch.setattr(tracking, "_KINDS", {"mlflow": lambda *arguments: Away.__new__(Away)})
    run(2, tracking="mlflow")
    assert (folder / "tracking" / "mlflow.txt").read_text().split() == ["0", "1"]


@pytest.mark.parametrize(
    ("name", "package"), [("mlflow", "mlflow"), ("wandb", "wandb"), ("tensorboard", "tensorboardX")]
)
def test_a_missing_package_is_named_with_its_extra(
    name: str, package: str, run: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StudyError, match=f"needs the Python package {package}") as raised:
        run(tracking=name)
    assert f"tlm-search[{name}]" in str(raised.value.hint)
