"""Read a YAML file as plain data that remembers its lines.

Scalars follow the core schema of YAML 1.2, not 1.1: ``1e-3`` is a number; ``no``, ``1:30`` and dates are text.
``16_000`` is a number too, as in Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tlm_search.errors import SpaceError
from tlm_search.space.section import Path as KeyPath
from tlm_search.space.section import Problem, given


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as PyYAML declares it


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?(?<![0-9]_)|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """The ``data`` of a YAML text, and the ``problems`` found while reading it. It knows the line of each key."""

    data: Any
    problems: tuple[Problem, ...]
    root: yaml.Node | None

    def line(self, path: KeyPath) -> int | None:
        """Return the line (from 1) of the key or item at ``path``, or else of its nearest existing parent."""
        node, line = self.root, None if self.root is None else self.root.start_mark.line + 1
        for step in path:
            child, child_line = _child(node, step)
            if child is None:
                break
            node, line = child, child_line
        return line


def read_document(file: Path) -> Document:
    """Read a YAML file.

    Raises:
        SpaceError: the file is missing, a folder, not UTF-8, empty, not YAML, or not a mapping.
    """
    document = parse(_text(file), place=str(file))
    if document.data is None:
        raise SpaceError("the file is empty", file=file, hint="write at least a section `search:` with settings")
    if not isinstance(document.data, dict):
        raise SpaceError(
            f"given {given(document.data)}; allowed: a mapping with keys such as corpus, task and search",
            file=file,
            line=document.line(()),
        )
    return document


def parse(text: str, *, place: str) -> Document:
    """Parse YAML; ``place`` names its origin in errors.

    Raises:
        SpaceError: the text is not YAML; the message has line and column.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        problems: list[Problem] = []
        data = None if root is None else _data(loader, root, (), problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        tab = "; indent with spaces, not tabs" if "\\t" in what else ""
        column = f" at column {mark.column + 1}" if mark else ""
        raise SpaceError(
            f"not valid YAML{column}: {what}{tab}", file=place, line=mark.line + 1 if mark else None
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not valid YAML: character {given(chr(error.character))} is not allowed"
        raise SpaceError(message, file=place, line=line) from None
    except RecursionError:
        raise SpaceError("the YAML is nested too deeply, or an anchor refers to itself", file=place) from None
    return Document(data, tuple(problems), root)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        near = sorted(path.name for path in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
        hint = f"spaces in {file.parent}: {', '.join(near)}" if near else "give the path of a space file"
        raise SpaceError("there is no such file", file=file, hint=hint) from None
    except IsADirectoryError:
        raise SpaceError("this is a folder; allowed: a YAML file", file=file) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SpaceError(
            f"byte 0x{error.object[error.start]:02x} is not UTF-8; allowed: a text file in UTF-8", file=file, line=line
        ) from None
    except OSError as error:
        raise SpaceError(f"the file cannot be read: {error.strerror}", file=file) from None


def _data(loader: _Loader, node: yaml.Node, path: KeyPath, problems: list[Problem]) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_data(loader, item, (*path, i), problems) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node, path, problems)
    data: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = key_node.value if key_node.tag == "tag:yaml.org,2002:str" else None
        if not isinstance(key, str):
            shown = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
            problems.append(Problem(path, f"given the key {shown}; allowed: keys that are text", line))
        elif key in data:
            problems.append(Problem((*path, key), f"duplicate key; line {lines[key]} has it already", line))
        else:
            lines[key] = line
            data[key] = _data(loader, value_node, (*path, key), problems)
    return data


def _scalar(loader: _Loader, node: yaml.Node, path: KeyPath, problems: list[Problem]) -> Any:
    try:
        value = loader.construct_object(node)
        if isinstance(value, str) and _SURROGATES.search(value):
            return _joined(value, path, problems)
        # 1e3 is a common way to write a thousand, and a whole number.
        return int(value) if isinstance(value, float) and value.is_integer() else value
    except (ValueError, LookupError, AttributeError):  # only after a tag in the file, such as `!!int abc`
        problems.append(Problem(path, f"given {node.tag} {given(node.value)}; allowed: a value without a tag"))
        return None


def _joined(text: str, path: KeyPath, problems: list[Problem]) -> str:
    """Join pairs of surrogate escapes to a character. JSON writes characters above U+FFFF as such pairs."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        allowed = "allowed: text; half of a pair of escapes is no character"
        problems.append(Problem(path, f"given {given(text)}; {allowed}"))
        return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node | None, int | None]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item, item.start_mark.line + 1
    return None, None
