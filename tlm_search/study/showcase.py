"""Show figures and the report in Optuna Dashboard, and draw them again when trials finish.

They are passed to the dashboard and not stored, because only the study's driver writes its storage, and a figure for
each trial would make the storage large.
"""

from __future__ import annotations

import copy
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.storages import BaseStorage
from optuna_dashboard import save_plotly_graph_object

from tlm_search.remote.heartbeat import repeated
from tlm_search.study.record import StudyRecord, record_of
from tlm_search.study.studies import StudyInStorage
from tlm_search.study.sync import StudyCopy

_LOOK_EVERY_SECONDS = 3.0

Draw = Callable[[StudyRecord], tuple[Mapping[str, str], str]]
"""Makes the figures of a study by name (an HTML id), as Plotly's JSON, and its report as a page."""


@BaseStorage.register  # the dashboard checks the type
class Showcase:
    """A study's storage with figures and the report, for the dashboard to read."""

    def __init__(self, study: StudyInStorage, folder: Path, draw: Draw) -> None:
        self._study, self._folder, self._draw = study, folder, draw
        self._storage: BaseStorage = study._storage
        self._shown: Mapping[str, Any] = {}
        self._drawn: tuple[int, int] | None = None
        self.artifacts = _Artifacts(folder / "artifacts")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_studies(self) -> list[Any]:
        """Return all studies by number, with figures and report in the shown study."""
        studies = [copy.copy(study) for study in self._storage.get_all_studies()]
        for study in studies:
            if study._study_id == self._study._study_id:
                study.system_attrs = {**study.system_attrs, **self._shown}
        return sorted(studies, key=lambda study: study._study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes of a study, with figures and report if it is the shown study."""
        attributes = self._storage.get_study_system_attrs(study_id)
        return {**attributes, **self._shown} if study_id == self._study._study_id else attributes

    @contextmanager
    def kept_up(self, problem: Callable[[str], None]) -> Iterator[None]:
        """Draw again whenever trials have finished. If that fails, call ``problem`` once for each reason."""
        told: set[str] = set()

        def keep_up() -> bool:
            try:
                self.draw_if_new()
            except Exception as error:  # a study that is being written must not end the dashboard
                words = f"{type(error).__name__}: {error}"
                if words not in told:
                    problem(f"the figures could not be drawn: {words}")
                told.add(words)
            return True

        with repeated(keep_up, seconds=_LOOK_EVERY_SECONDS, name="showcase", at_once=True):
            yield

    def draw_if_new(self) -> bool:
        """Draw figures and report if the study has changed; return whether it has."""
        StudyCopy(self._folder).pull()
        trials = self._storage.get_all_trials(self._study._study_id, deepcopy=False)
        state = (sum(trial.state.is_finished() for trial in trials), len(self._study.user_attrs))
        if state == self._drawn:
            return False
        self._drawn = state
        figures, page = self._draw(record_of(self._study, self._folder))
        easel = _Easel(self._storage)
        study = optuna.Study(study_name=self._study.study_name, storage=easel)  # type: ignore[arg-type]
        for name, figure in figures.items():
            save_plotly_graph_object(study, _Figure(figure), graph_object_id=name)
        self.artifacts.show(study, page)
        self._shown = easel.attributes
        return True


class _Figure:
    """Wraps a figure's JSON text in the interface that the dashboard expects."""

    def __init__(self, json: str) -> None:
        self._json = json

    def to_json(self) -> str:
        return self._json


class _Easel:
    """A storage that stores new attributes of a study only in memory."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self.attributes: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.attributes[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self.attributes)


class _Artifacts(FileSystemArtifactStore):
    """The current report in memory, and the files that users upload to the study's folder."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(folder)
        self._folder = folder
        self._reports: dict[str, bytes] = {}

    def show(self, study: optuna.Study, page: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "report.html"
            file.write_text(page)
            report = upload_artifact(artifact_store=_Nowhere(), file_path=str(file), study_or_trial=study)
        # The previous report stays for pages that were loaded earlier.
        self._reports = {**dict(list(self._reports.items())[-1:]), report: page.encode()}

    def open_reader(self, artifact_id: str) -> BinaryIO:
        if artifact_id in self._reports:
            return io.BytesIO(self._reports[artifact_id])
        return super().open_reader(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self._folder.mkdir(exist_ok=True)
        super().write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        with suppress(optuna.artifacts.exceptions.ArtifactNotFound):  # reports have no file
            super().remove(artifact_id)


class _Nowhere:
    """An artifact store that discards what it is given, for a report that stays in memory."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        raise optuna.artifacts.exceptions.ArtifactNotFound(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        pass

    def remove(self, artifact_id: str) -> None:
        pass
