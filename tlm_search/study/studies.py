"""Create and rename studies in a storage."""

from __future__ import annotations

import warnings

import optuna
import sqlalchemy
from optuna.storages import BaseStorage

from tlm_search.space.schema import Space
from tlm_search.study.identity import check_same_space


class StudyInStorage(optuna.Study):
    """Optuna's study, with the first objective's ``direction`` even if it has several objectives.

    TPE reads ``direction`` to rank pruned trials, and Optuna would raise.
    """

    @property
    def direction(self) -> optuna.study.StudyDirection:
        """The direction of the first objective."""
        return self.directions[0]


def create_study(name: str, space: Space, storage: BaseStorage) -> StudyInStorage:
    """Open a study, or create it with the space as its attribute.

    Raises:
        StudyError: the study has another space. The message lists the differences.
    """
    try:
        study = StudyInStorage(study_name=name, storage=storage)
    except KeyError:
        directions = [objective.direction for objective in space.objectives]
        optuna.create_study(study_name=name, storage=storage, directions=directions)
        study = StudyInStorage(study_name=name, storage=storage)
    check_same_space(study, space)
    if study.user_attrs.get("space_digest") is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([objective.metric for objective in space.objectives])
    # Store the space again: keys outside of the identity, such as the budget, may change from run to run.
    if study.user_attrs.get("space") != space.to_document():
        study.set_user_attr("space", space.to_document())
    if study.user_attrs.get("space_digest") is None:
        # Written last, so that an unfinished study of a killed driver, which lacks it, is created again.
        study.set_user_attr("space_digest", space.digest)
    return study


def rename_study(name: str, new_name: str, storage: BaseStorage) -> None:
    """Rename a study in its storage. A missing study is ignored."""
    if isinstance(storage, optuna.storages.RDBStorage):
        # Optuna can only copy a study and delete the old one, which takes minutes and may be killed halfway.
        with storage.engine.begin() as connection:
            statement = sqlalchemy.text("UPDATE studies SET study_name = :new WHERE study_name = :old")
            connection.execute(statement, {"old": name, "new": new_name})
    elif name in optuna.get_all_study_names(storage):
        optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=storage, to_study_name=new_name)
        optuna.delete_study(study_name=name, storage=storage)
