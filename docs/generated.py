"""What the pages take from the product itself, so that no key and no option is missing.

MkDocs calls `on_page_markdown` for each page. It replaces the mark ``<!-- generated: NAME -->`` by what the function
NAME returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

Schema = Mapping[str, Any]
ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the picture of the recorded study."""
    picture = ROOT / "studies" / "recorded" / "committee" / "frontier-narrow.png"
    files.append(File.generated(config, "frontier.png", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark of a page by its text."""
    for name, make in MARKS.items():
        mark = f"<!-- generated: {name} -->"
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return markdown


def sections() -> str:
    """Return the keys of a space, section by section."""
    from tlm_search.space.json_schema import json_schema

    schema = json_schema()
    plain, long = [], []
    for name, value in schema["properties"].items():
        if name == "search":
            continue
        parts = list(_sections_of(value, schema))
        (long if parts else plain).append((name, value, parts))
    lines = ["### At the top", "", *_table({name: value for name, value, _ in plain}, schema)]
    for name, value, parts in long:
        lines += ["", f"### `{name}`"]
        for part in parts:
            constant = part["properties"].get("name", {}).get("const")
            text = _paragraphs(part) or _sentence(value)
            lines += ["", text if constant is None else f"**`name: {constant}`** {text}", ""]
            keys = _without_settings(part["properties"], schema)
            own = {key: of for key, of in keys.items() if "const" not in of}
            lines += _table(own, schema) if own else []
            if len(keys) < len(part["properties"]):
                lines += ["", "Beside these, each setting of `search`, with one value."]
    return "\n".join(lines)


def settings() -> str:
    """Return the settings of ``search``, with what is allowed and their defaults."""
    from tlm_search.space.json_schema import json_schema
    from tlm_search.space.settings import OWN

    rows = ["| setting | meaning |", "|---|---|"]
    search = json_schema()["properties"]["search"]
    own = {f"{OWN}NAME": value for value in search["patternProperties"].values()}
    for name, value in (search["properties"] | own).items():
        rows.append(f"| `{name}` | {_cell(value.get('description', ''))} |")
    return "\n".join(rows)


def commands() -> str:
    """Return ``--help`` of each command."""
    import typer
    from typer.testing import CliRunner

    from tlm_search.cli.main import app

    def ask(*arguments: str) -> str:
        return CliRunner().invoke(app, [*arguments, "--help"], prog_name="tlm-search").stdout.rstrip()

    lines = ["```text", ask(), "```"]
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        lines += ["", f"## `{name}`", "", "```text", ask(name), "```"]
        for inner in getattr(command, "commands", {}):
            lines += ["", f"### `{name} {inner}`", "", "```text", ask(name, inner), "```"]
    return "\n".join(lines)


def log() -> str:
    """Return studies/LOG.md without its heading."""
    return (ROOT / "studies" / "LOG.md").read_text(encoding="utf-8").partition("\n")[2].strip()


MARKS: Mapping[str, Callable[[], str]] = {
    "sections": sections,
    "settings": settings,
    "commands": commands,
    "log": log,
}


def _sections_of(value: Schema, schema: Schema) -> Iterator[Schema]:
    """Yield the objects with keys of their own that a value may be."""
    for option in (value, *value.get("anyOf", ()), *value.get("oneOf", ())):
        if "$ref" in option:
            found = schema["$defs"][option["$ref"].rpartition("/")[2]]
            if "properties" in found:
                yield found
            else:
                yield from _sections_of(found, schema)
        elif "allOf" in option:
            yield from _sections_of(option["allOf"][0], schema)


def _table(properties: Mapping[str, Schema], schema: Schema) -> list[str]:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, value in properties.items():
        default = value.get("default", "")
        shown = "" if default in ("", None, [], {}) or isinstance(default, dict) else f"`{_yaml(default)}`"
        rows.append(f"| `{name}` | {_kind(value, schema)} | {shown} | {_cell(value.get('description', ''))} |")
    return rows


def _kind(value: Schema, schema: Schema) -> str:
    if "$ref" in value:
        return _kind(schema["$defs"][value["$ref"].rpartition("/")[2]], schema)
    if "enum" in value:
        return ", ".join(f"`{_yaml(one)}`" for one in value["enum"])
    if "const" in value:
        return f"`{_yaml(value['const'])}`"
    options = [*value.get("anyOf", ()), *value.get("oneOf", ())]
    if options:
        kinds = dict.fromkeys(_kind(option, schema) for option in options if option.get("type") != "null")
        return " or ".join(kinds)
    if value.get("type") == "object":
        keys = value.get("properties", {})
        if len(keys) > len(_without_settings(keys, schema)):
            return "a value for each of some settings"
        return "{" + ", ".join(f"`{key}`" for key in keys) + "}" if keys else "mapping"
    if value.get("type") == "array":
        items = value.get("items")
        return f"list of {_kind(items, schema)}" if isinstance(items, dict) and items else "list"
    low, high = value.get("minimum", value.get("exclusiveMinimum")), value.get("maximum")
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    kind = words.get(str(value.get("type")), "")
    if low is not None and high is not None:
        return f"{kind} from {low} to {high}"
    return f"{kind} from {low}" if low is not None else kind


def _without_settings(properties: Mapping[str, Schema], schema: Schema) -> Mapping[str, Schema]:
    return {name: of for name, of in properties.items() if name not in schema["properties"]["search"]["properties"]}


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def _sentence(value: Schema) -> str:
    text = str(value.get("description", ""))
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") or not text else ".")


def _paragraphs(part: Schema) -> str:
    return str(part.get("description", "")).replace("``", "`")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
