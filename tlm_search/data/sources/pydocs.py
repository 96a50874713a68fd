"""The embedded corpus and task: docstrings of the packages that ``tlm-search`` depends on. They need no download.

The packages are the requirements of ``tlm-search`` and their requirements. Everyone who installs the same versions gets
the same texts; other installed packages (pip, test runners, the user's own) do not matter. Left out are ``tlm-search``
itself, setuptools (only some environments have it), packages installed for editing (their text changes without a new
version), and tests, examples and vendored copies of other packages.

Package names are masked in every paragraph of corpus and task. Near duplicates are removed over all packages. Then a
fixed share of each package is held out. Validation and test come from this share, and the corpus never contains it. So
pre-training sees no test paragraph, and every such task has the same corpus.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tlm_search.data.sources.duplicates import nearest_earlier
from tlm_search.data.sources.prose import read_prose
from tlm_search.digest import digest
from tlm_search.errors import DataError, StoreError
from tlm_search.files import write_text, writing

EXTRACTION = 1  # increase it when a change of code extracts other paragraphs from the same packages
MASK = "package"
HELD_OUT_SHARE, HELD_OUT_MOST = 0.3, 1000

_ROOT = "tlm-search"
_LEFT_OUT = frozenset({_ROOT, "setuptools", "pip", "wheel"})
_NOT_READ = re.compile(
    r"(^|/)(_?tests?|_?testing|benchmarks?|examples?|_?vendor(ed)?|_?third_?party\w*|externals?|_distutils"
    r"|conftest\.py|test_[^/]*\.py|[^/]*_test\.py|[^/]*_pb2\w*\.py)(/|$)"
)
# Other names of packages in their own documentation.
_NICKNAMES: Mapping[str, tuple[str, ...]] = {
    "numpy": ("np",),
    "pandas": ("pd",),
    "networkx": ("nx",),
    "pyarrow": ("pa",),
    "sqlalchemy": ("sa",),
    "huggingface-hub": ("huggingface", "hugging face"),
    "protobuf": ("protocol buffer", "protocol buffers"),
}


@dataclass(frozen=True)
class Paragraph:
    """A masked paragraph. ``package`` is empty if several packages contain it."""

    text: str
    package: str
    held_out: bool


@dataclass(frozen=True)
class Package:
    """An installed distribution with its Python files as (path inside the installation, path)."""

    name: str
    files: tuple[tuple[str, Path], ...]


def load_paragraphs(cache: Path) -> list[Paragraph]:
    """Return all paragraphs sorted by the hash of their content, from ``cache`` if these packages were read before.

    Raises:
        DataError: no package with docstrings is installed.
        StoreError: the cache cannot be written.
    """
    file = cache / f"{fingerprint()}.jsonl"
    try:
        return [Paragraph(*json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError):
        pass  # missing or damaged: read the packages again
    found = read_paragraphs(_package(distribution) for distribution in _distributions().values())
    if not found:
        raise DataError(
            "pydocs: no docstrings found in the installed packages",
            hint="install the dependencies of tlm-search, or name another corpus",
        )
    lines = (json.dumps([item.text, item.package, item.held_out]) for item in found)
    with writing(StoreError, cache):
        write_text(file, "\n".join(lines) + "\n")
    return found


def fingerprint() -> str:
    """Return a digest of the package versions and of ``EXTRACTION``. It names the result of ``load_paragraphs``."""
    return digest([EXTRACTION, sorted([name, item.version] for name, item in _distributions().items())])


def read_paragraphs(packages: Iterable[Package]) -> list[Paragraph]:
    """Return the paragraphs of ``packages``: masked, without near duplicates, sorted by their hash."""
    packages = sorted(packages, key=lambda package: package.name)
    mask = Mask.of({package.name: _import_names(package) for package in packages})
    owners: dict[str, str] = {}
    prose = read_prose([(package.name, str(path)) for package in packages for _, path in package.files])
    for package in packages:
        for text in map(mask, prose.get(package.name, ())):
            owners[text] = package.name if owners.get(text, package.name) == package.name else ""
    texts = sorted(owners, key=lambda text: hashlib.sha256(text.encode()).digest())
    kept: dict[int, str] = {}
    for position, earlier in enumerate(nearest_earlier(texts)):
        owner = owners[texts[position]]
        kept[earlier] = owner if kept.get(earlier, owner) == owner else ""
    return list(_hold_out([(texts[position], owner) for position, owner in kept.items()]))


def _hold_out(paragraphs: Sequence[tuple[str, str]]) -> Iterator[Paragraph]:
    left: dict[str, int] = {}
    for _, package in paragraphs:
        left[package] = left.get(package, 0) + 1
    left = {name: min(int(HELD_OUT_SHARE * count), HELD_OUT_MOST) for name, count in left.items()}
    left[""] = 0  # paragraphs of several packages belong to no task
    for text, package in paragraphs:
        yield Paragraph(text, package, held_out=left[package] > 0)
        left[package] -= 1


def _distributions() -> dict[str, metadata.Distribution]:
    """Return the installed requirements of ``tlm-search``, direct and indirect, by name."""
    found: dict[str, metadata.Distribution] = {}
    done: set[tuple[str, str]] = set()
    todo = [(_ROOT, "")]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        try:
            found[name] = found.get(name) or metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for line in found[name].requires or ():
            try:
                required = Requirement(line)
            except InvalidRequirement:
                continue
            if required.marker is None or required.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(required.name), wanted) for wanted in ("", *required.extras)]
    return {name: item for name, item in found.items() if name not in _LEFT_OUT and not _is_editable(item)}


def _is_editable(distribution: metadata.Distribution) -> bool:
    origin = distribution.read_text("direct_url.json")
    return origin is not None and bool(json.loads(origin).get("dir_info", {}).get("editable"))


def _package(distribution: metadata.Distribution) -> Package:
    files = []
    for file in distribution.files or ():
        name = file.as_posix()
        if name.endswith(".py") and not name.startswith("..") and not _NOT_READ.search(name):
            files.append((name, Path(str(distribution.locate_file(file)))))
    return Package(canonicalize_name(distribution.metadata["Name"]), tuple(sorted(files)))


def _import_names(package: Package) -> set[str]:
    return {PurePosixPath(name).parts[0].removesuffix(".py") for name, _ in package.files}


@dataclass(frozen=True)
class Mask:
    """Replace package names by ``package``: whole words, and words inside camel case (``TorchScript``)."""

    pattern: re.Pattern[str]

    @classmethod
    def of(cls, names: Mapping[str, Iterable[str]]) -> Mask:
        """Build the mask from ``names``, the distributions with their import names, and from spelling variants."""
        by_letter: dict[str, set[str]] = {}
        for form in _forms(names):
            by_letter.setdefault(form[0], set()).add(re.escape(form[1:]).replace(r"\ ", "[-_. ]?"))
        # Group the names by first letter, so that the engine rules out most branches by a single character.
        branches = [
            f"[{letter}{letter.upper()}](?i:{'|'.join(sorted(rests, key=lambda rest: (-len(rest), rest)))})"
            for letter, rests in sorted(by_letter.items())
        ]
        before = r"(?:(?<![A-Za-z0-9])|(?<=[a-z0-9])(?=[A-Z]))"
        after = r"(?:(?![A-Za-z0-9])|(?<=[a-z])(?=[A-Z0-9])|(?=[A-Z][a-z]))"
        return cls(re.compile(f"{before}(?:{'|'.join(branches) or '(?!)'}){after}"))

    def __call__(self, text: str) -> str:
        """Return ``text`` with all names masked."""
        return self.pattern.sub(MASK, text)


def _forms(names: Mapping[str, Iterable[str]]) -> set[str]:
    forms = {nickname for name in names for nickname in _NICKNAMES.get(name, ())}
    for name, imported in names.items():
        for form in {name, *imported}:
            plain = re.sub(r"[-_.]+", " ", form.lower()).strip()
            shorter = plain.removeprefix("python ").removeprefix("py")
            variants = (plain, f"py{plain}", shorter, plain.rstrip("0123456789"))
            forms.update(variant for variant in variants if len(variant) > 2)
    return forms
