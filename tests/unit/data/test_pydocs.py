from __future__ import annotations

import json
import random
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from tlm_search.data.sources import pydocs
from tlm_search.data.sources.place import PYDOCS
from tlm_search.data.sources.pydocs import Mask, Package, Paragraph, load_paragraphs, read_paragraphs
from tlm_search.data.tasks import load_task
from tlm_search.errors import DataError
from tlm_search.space.task import TaskSection

NOUNS = ["table", "graph", "index", "layer", "query", "point", "frame", "field", "value", "array", "model", "node"]


def _sentence(package: str, i: int) -> str:
    """Return a text that shares few phrases with the others."""
    words = [f"{noun}{end}" for noun in NOUNS for end in ("", "s", "ing", "ed")]
    nouns = random.Random(f"{package} {i}").choices(words, k=9)
    return f"The {package} of {' '.join(nouns[:3])} is {' '.join(nouns[3:6])} for the {' '.join(nouns[6:])}."


def _source(package: str, numbers: range) -> str:
    lines = [f"def f{i}():\n    '''{_sentence(package, i)}'''\n" for i in numbers]
    return "\n".join(line.replace("'''", '"""') for line in lines)


def _installed(root: Path, name: str, *, count: int, requires: tuple[str, ...] = (), editable: bool = False) -> None:
    files = {
        f"{name}/__init__.py": _source(name, range(count)),
        f"{name}/tests/test_it.py": _source("tests", range(500, 510)),
        f"{name}/broken.py": "def (",
    }
    info = root / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    wanted = "".join(f"Requires-Dist: {line}\n" for line in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{wanted}")
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in [*files, f"{name}/missing.py", "../../bin/x.py"]))
    if editable:
        (info / "direct_url.json").write_text(json.dumps({"url": "file:///x", "dir_info": {"editable": True}}))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "site"
    _installed(
        root, "tlm_search", count=50, requires=("alpha", "gamma; extra == 'dev'", "beta[more]", "absent", "work")
    )
    _installed(root, "alpha", count=40, requires=("setuptools",))
    _installed(root, "beta", count=30, requires=("delta; extra == 'more'", "alpha"))
    _installed(root, "gamma", count=30)
    _installed(root, "delta", count=20)
    _installed(root, "work", count=20, editable=True)
    _installed(root, "setuptools", count=20)

    def distribution(name: str) -> PathDistribution:
        folder = root / f"{name.replace('-', '_')}-1.0.dist-info"
        if not folder.is_dir():
            raise pydocs.metadata.PackageNotFoundError(name)
        return PathDistribution(folder)

    monkeypatch.setattr(pydocs.metadata, "distribution", distribution)
    return root


def test_the_packages_are_the_installed_requirements(installed: Path, tmp_path: Path) -> None:
    assert {item.package for item in load_paragraphs(tmp_path / "cache")} == {"alpha", "beta", "delta"}


def test_names_are_masked_everywhere(installed: Path, tmp_path: Path) -> None:
    texts = " ".join(item.text for item in load_paragraphs(tmp_path / "cache"))
    assert "package" in texts
    assert not any(name in texts for name in ("alpha", "beta", "delta"))


def test_the_cache_is_read_and_a_damaged_one_made_anew(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_paragraphs(tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text("{")
    assert load_paragraphs(tmp_path / "cache") == first
    monkeypatch.setattr(pydocs, "read_paragraphs", None)
    assert load_paragraphs(tmp_path / "cache") == first


def test_a_new_version_has_a_new_fingerprint(installed: Path) -> None:
    before = pydocs.fingerprint()
    metadata = installed / "alpha-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    assert pydocs.fingerprint() != before


def test_no_docstrings_is_the_users_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydocs, "_distributions", dict)
    with pytest.raises(DataError, match="no docstrings"):
        load_paragraphs(tmp_path)


def _package(root: Path, name: str, texts: list[str]) -> Package:
    file = root / name / "module.py"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(f'def f{i}():\n    """{text}"""' for i, text in enumerate(texts)))
    return Package(name, ((f"{name}/module.py", file),))


def test_the_order_depends_on_the_texts_alone(tmp_path: Path) -> None:
    texts = [_sentence("it", i) for i in range(0, 999, 31)]
    here = read_paragraphs([_package(tmp_path / "a", "one", texts), _package(tmp_path / "a", "two", ["none"])])
    there = read_paragraphs([_package(tmp_path / "b", "two", []), _package(tmp_path / "b", "one", texts[::-1])])
    assert here == there
    assert len(here) > 10


def test_what_two_packages_say_belongs_to_none(tmp_path: Path) -> None:
    shared = "This text is the same in both of the packages, as it is in a licence or in a copy."
    own = "Here is a text of which no other package has anything that is like it at all."
    found = read_paragraphs([_package(tmp_path, "one", [shared, own]), _package(tmp_path, "two", [shared + "!"])])
    assert {item.text.rstrip("!"): item.package for item in found} == {shared: "", own: "one"}


def test_a_share_of_each_package_is_held_out() -> None:
    rows = [(f"{name} {i}", name) for name, count in (("a", 10), ("b", 5000), ("", 10)) for i in range(count)]
    held = [item.package for item in pydocs._hold_out(rows) if item.held_out]
    assert {name: held.count(name) for name in ("a", "b", "")} == {"a": 3, "b": 1000, "": 0}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("PyTorch and torch.nn", "package and package.nn"),
        ("a NumPy array, np.array", "a package array, package.array"),
        ("TorchScript NetworkXError torch_dtype", "packageScript packageError package_dtype"),
        ("python-dateutil, dateutil", "package, package"),
        ("Hugging Face's huggingface_hub", "package's package"),
        ("torchvision arrays stay, Jinja and jinja2 go", "torchvision arrays stay, package and package go"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    names = dict.fromkeys(("torch", "numpy", "networkx", "huggingface-hub", "jinja2", "ray"), ())
    assert Mask.of({**names, "python-dateutil": ("dateutil",)})(text) == masked


def test_a_mask_of_nothing_changes_nothing() -> None:
    assert Mask.of({})("torch") == "torch"


def test_the_task_takes_validation_and_test_from_what_the_corpus_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        Paragraph(f"{name} {i} {held}", name, held)
        for name, count in (("big", 9), ("large", 8), ("small", 7), ("", 20))
        for i in range(count)
        for held in (False, True)
    ]
    monkeypatch.setattr(pydocs, "load_paragraphs", lambda cache: rows)
    section = TaskSection(source=PYDOCS, labels=2, train_per_label=5, validation_per_label=3, test_per_label=4)
    task = load_task(section, tmp_path)
    assert task.labels == ("big", "large")
    assert all(text.endswith("False") for text in task.train.texts)
    assert all(text.endswith("True") for text in task.validation.texts + task.test.texts)


def test_the_real_requirements_hold_english() -> None:
    distributions = pydocs._distributions()
    assert {"torch", "transformers", "pandas", "ray", "optuna"} <= set(distributions)
    assert not {"pip", "pytest", "tlm-search", "setuptools"} & set(distributions)
    found = read_paragraphs([pydocs._package(distributions["optuna"])])
    assert len(found) > 100
