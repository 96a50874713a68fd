from pathlib import Path

import optuna
import pytest
from driven import Bench, results, space_of

from tlm_search.errors import StudyError
from tlm_search.passwords import masked
from tlm_search.study.location import StudyLocation
from tlm_search.study.storages import open_storage
from tlm_search.study.studies import rename_study


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:se:cret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("mysql+pymysql://me:p%40ss@host/db", "mysql+pymysql://me:***@host/db"),
        ("postgresql://me:se/cr@t@host/db", "postgresql://me:***@host/db"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("https://host/c?sv=1&sig=a%2Fb&token=t", "https://host/c?sv=1&sig=***&token=***"),
        ("postgresql://host/db?PASSWORD=secret", "postgresql://host/db?PASSWORD=***"),
        ("mysql://host/db?user=me&pwd=secret&x=1", "mysql://host/db?user=me&pwd=***&x=1"),
        ("redis://secret@host:6379/0", "redis://***@host:6379/0"),
        ("rediss://secret@host", "rediss://***@host"),
        ("https://token@host/studies", "https://***@host/studies"),
        ("s3://bucket/x?aws_secret_access_key=secret", "s3://bucket/x?aws_secret_access_key=***"),
        ("sqlite:///studies/study.db", "sqlite:///studies/study.db"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert masked(f"cannot connect to {url} now") == f"cannot connect to {shown} now"
    # the code that writes a message may forget to hide it
    told = StudyError(f"cannot connect to {url} now", hint=f"look at {url}")
    assert (str(told), told.args[0]) == (f"cannot connect to {shown} now\nlook at {shown}", told.message)


@pytest.mark.parametrize(
    "text", ["sort_key=4", "--set budget.trials=4", "a monkey=3", "key=3", "pass, or fail: bypass=2"]
)
def test_other_words_stay_as_they_are(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "nosuch://me:secret@host/db",
        "sqlite:////no/such/folder/x.db",
        "postgresql+nosuch://me:secret@127.0.0.1/db",
        "mysql+mysqldb://me:secret@127.0.0.1/db",
        "oracle://me:secret@127.0.0.1/db?pwd=secret",
    ],
)
def test_a_storage_that_cannot_be_opened_is_said_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(StudyError, match="the storage") as raised:
        open_storage(tmp_path, url)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None or "secret" not in str(raised.value.__cause__)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite:///?timeout=5"])
def test_a_storage_that_ends_with_its_process_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(StudyError, match="names no file") as raised:
        open_storage(tmp_path, url)
    assert "sqlite:///study.db" in str(raised.value.hint)


def test_a_damaged_journal_is_said_clearly(tmp_path: Path) -> None:
    Bench(tmp_path, space_of()).drive(1)
    journal = tmp_path / "study" / "journal.log"
    journal.write_bytes(b"garbage\n" + journal.read_bytes())
    with pytest.raises(StudyError, match="is damaged") as raised:
        StudyLocation.of(tmp_path / "study").open()
    assert raised.value.hint is not None
    assert "--fresh" in raised.value.hint


def test_a_journal_is_optunas_own_format(tmp_path: Path) -> None:
    Bench(tmp_path, space_of()).drive(2)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study" / "journal.log"))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    assert len(study.trials) == 2
    assert study.metric_names == ["validation_accuracy"]


def test_a_study_is_the_same_in_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    in_journal = Bench(tmp_path / "journal", space_of()).drive(4)
    place = Bench(tmp_path / "database", space_of())
    place.drive(2, storage=url)
    in_database = place.drive(4, storage=url)
    assert results(in_database._ledger) == results(in_journal._ledger)
    assert not (tmp_path / "database" / "study" / "journal.log").exists()


def test_a_study_is_renamed_in_its_storage(tmp_path: Path) -> None:
    Bench(tmp_path, space_of()).drive(2)
    storage = open_storage(tmp_path / "study")
    rename_study("study", "study.1", storage)
    rename_study("nobody", "nobody.1", storage)
    assert optuna.get_all_study_names(storage) == ["study.1"]
    assert len(StudyLocation(tmp_path / "study", None, "study.1").open().trials) == 2
