"""The kept studies: their spaces are valid, and their pages say what their tables say."""

import importlib.util
import re
from pathlib import Path

import pytest

from tlm_search.space.schema import load_space

STUDIES = Path(__file__).parents[2] / "studies"
SPACES = sorted(STUDIES.glob("*/space.yaml"))


@pytest.mark.parametrize("file", SPACES, ids=[file.parent.name for file in SPACES])
def test_a_kept_space_is_valid(file: Path) -> None:
    assert load_space(file).budget.trials > 0


def test_the_page_on_overlap_has_the_correlations_of_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    script = STUDIES / "overlap" / "correlation.py"
    spec = importlib.util.spec_from_file_location("correlation", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
