"""The kept studies: their spaces run, and their pages say what their tables say."""

import gzip
import importlib.util
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from driven import run_without_ray

from tlm_search.space.schema import Space, load_space

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "studies"
SPACES = sorted(STUDIES.glob("*/space.yaml"))
PAPER = sorted((ROOT / "spaces" / "paper").glob("*.yaml"))

# The divisor of each setting for a small run, and its smallest value.
SHRINK = {
    "documents": (100, 1),
    "skip": (100, 0),
    "pretrain_size": (100, 0),
    "pretrain_epochs": (100, 0),
    "vocabulary": (40, 400),
    "train_per_label": (25, 3),
    "validation_per_label": (25, 2),
    "test_per_label": (100, 2),
    "finetune_epochs": (100, 1),
    "committee_size": (32, 1),
    "trials": (100, 1),
}


def script(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hundredth(value: Any, key: str = "") -> Any:
    """Return a part of a space at about a hundredth of its size; choices that become equal are merged."""
    if isinstance(value, dict):
        return {name: hundredth(part, key if name == "choices" else name) for name, part in value.items()}
    if isinstance(value, list):
        parts = [hundredth(part, key) for part in value]
        return [part for i, part in enumerate(parts) if part not in parts[:i]]
    if isinstance(value, int) and key in SHRINK:
        by, least = SHRINK[key]
        return max(least, -(-value // by))
    return value


def texts(number: int, label: int = 0) -> Iterator[str]:
    draw = random.Random(label)
    words = [f"{first}{second}" for first in ("ta", "ri", "mo", "ke") for second in ("lan", "dor", "vis", "pe")]
    for _ in range(number):
        yield " ".join([f"topic{label}", *draw.choices(words, k=12)])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small made-up data in the layout of the real data."""
    import pandas as pd

    folder = tmp_path_factory.mktemp("data")
    for name in ("wikipedia", "ag_news", "dbpedia_14", "fewrel"):
        (folder / name).mkdir()
    pd.DataFrame({"text": list(texts(1300))}).to_parquet(folder / "wikipedia" / "train-00000-of-00001.parquet")
    for name, column, labels in (("ag_news", "text", 4), ("dbpedia_14", "content", 14)):
        for split, number in (("train", 60), ("test", 25)):
            rows = [(text, label) for label in range(labels) for text in texts(number, label)]
            pd.DataFrame(rows, columns=[column, "label"]).to_parquet(folder / name / f"{split}-00000-of-00001.parquet")
    relations = {
        f"P{label}": [
            {"tokens": text.split(), "h": ["head", "", [[1]]], "t": ["tail", "", [[2, 3]]]} for text in texts(30, label)
        ]
        for label in range(4)
    }
    with gzip.open(folder / "fewrel" / "train_wiki.json.gz", "wt", encoding="utf-8") as file:
        json.dump(relations, file)
    return folder


@pytest.mark.parametrize("file", [*SPACES, *PAPER], ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_kept_space_runs_at_a_hundredth_of_its_size(
    file: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_space(file, overrides={"scale": "cpu"} if file in PAPER else {})
    monkeypatch.setenv("TLM_SEARCH_DATA_DIR", str(data_dir))
    small = Space.from_document({**hundredth(whole.to_document()), "name": "small"})
    run = run_without_ray(tmp_path, monkeypatch)(small)
    assert run.driver.progress.finished == 1


def test_the_log_that_a_script_writes_runs_at_a_part_of_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = script(STUDIES / "logs" / "write_lines.py")
    monkeypatch.setattr(writer, "HOSTS", 20)
    monkeypatch.setattr(writer, "LINES", 20)
    monkeypatch.setattr(writer, "SHARE", 0.8)
    writer.main(tmp_path / "lines.csv")
    monkeypatch.chdir(tmp_path)
    small = Space.from_document({**hundredth(load_space(ROOT / "spaces" / "logs.yaml").to_document()), "name": "small"})
    run = run_without_ray(tmp_path, monkeypatch)(small)
    assert run.driver.progress.finished == 1


def test_the_page_on_overlap_has_the_correlations_of_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    module = script(STUDIES / "overlap" / "correlation.py")
    page = (STUDIES / "overlap" / "README.md").read_text(encoding="utf-8")
    for task in ("ag_news", "fewrel"):
        module.main(STUDIES / "overlap" / task)
        printed = re.findall(r"-?\d\.\d\d \(-?\d\.\d\d to \d\.\d\d\)", capsys.readouterr().out)
        assert len(printed) == 3
        assert all(effect in page for effect in printed)


def test_the_page_of_all_studies_names_each() -> None:
    page = (STUDIES / "README.md").read_text(encoding="utf-8")
    for file in SPACES:
        assert f"{file.parent.name}/README.md" in page


def test_the_commands_of_different_studies_name_different_studies() -> None:
    """All spaces are called space.yaml, so without a name the second study would be refused as another space."""
    names: dict[str, set[str]] = {}
    for page in sorted(STUDIES.glob("*/README.md")):
        for command in re.findall(r"^ *tlm-search run (studies/.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            found = re.match(r"studies/(\w+)/space\.yaml --name (\S+)", command)
            assert found is not None, f"{page}: {command}"
            names.setdefault(found[2], set()).add(found[1])
    assert len(names) > 20
    assert all(len(studies) == 1 for studies in names.values())
