"""The README stays short, and its links lead somewhere; tests/integration/test_blocks.py looks at its blocks."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_links_of_the_readme_resolve() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://") or (ROOT / link.partition("#")[0]).exists(), link


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 170
