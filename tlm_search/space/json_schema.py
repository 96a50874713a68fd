"""The JSON Schema of a space file, which editors use to complete keys and underline mistakes.

Only ``load_space`` checks conditions that need the whole space, such as a width that heads do not divide.
"""

from __future__ import annotations

from typing import Any

from tlm_search.space.objectives import BEATS_REFERENCE, METRICS
from tlm_search.space.reference import MOST_TRIALS, TRIALS
from tlm_search.space.samplers import PRUNERS, SAMPLERS
from tlm_search.space.schema import Space
from tlm_search.space.section import given
from tlm_search.space.settings import CLASS_WEIGHTS, OWN, OWN_PATTERN, SETTINGS, Setting, setting_named
from tlm_search.space.variants import KEY as VARIANTS

Schema = dict[str, Any]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REPLACED = ("Choices", "Range", "Objective", "Constraint", "ReferenceSection")  # by the forms that a file may use


def json_schema() -> Schema:
    """Return the JSON Schema of a space file."""
    schema = Space.model_json_schema()
    definitions = {name: text for name, text in schema["$defs"].items() if name not in _REPLACED}
    own = setting_named(f"{OWN}NAME")
    assert own is not None
    definitions |= {f"value_{setting.name}": _value(setting) for setting in (*SETTINGS.values(), own)}
    values = {name: {"description": s.meaning, "$ref": _value_of(name)} for name, s in SETTINGS.items()}
    definitions["values"] = _with_own(_mapping(values), {"$ref": _value_of(own.name)})
    definitions["reference"] = _mapping({**values, TRIALS: _trials()})
    definitions["when"] = {
        "description": "search it only if each of these settings has one of these values",
        **_with_own(_mapping({name: _list_of(name) for name in SETTINGS}), _list_of(own.name)),
    }
    definitions["role"] = {"enum": ["scientific", "nuisance"], "default": "scientific"}
    written = {
        "search": _with_own(_mapping({name: _entry(s) for name, s in SETTINGS.items()}), _entry(own)),
        "reference": {"anyOf": [{"$ref": "#/$defs/reference"}, {"const": "none"}, {"type": "null"}]},
        "points": {"type": "array", "items": {"$ref": "#/$defs/values"}},
        "objectives": {"type": "array", "minItems": 1, "items": _objective()},
        "constraints": {"type": "array", "items": _constraint()},
        "sampler": _named(SAMPLERS, default="tpe"),
        "pruner": _named(PRUNERS, default="none"),
    }
    properties = {name: _as_written(text, written.get(name)) for name, text in schema["properties"].items()}
    properties[VARIANTS] = _variants()
    return {
        "$schema": _DIALECT,
        "title": "A space of tlm-search",
        **_mapping(properties),
        # A file may choose a variant by name here, like --set does.
        "additionalProperties": {"type": "string"},
        "if": {"not": {"required": [VARIANTS]}},
        "then": {"propertyNames": {"enum": list(properties)}},
        "$defs": definitions,
    }


def _as_written(generated: Schema, written: Schema | None) -> Schema:
    """Replace pydantic's schema of a section by the forms that a file may use, including shorthands."""
    if written is None:
        return generated
    return {**{key: generated[key] for key in ("description", "default") if key in generated}, **written}


def _entry(setting: Setting) -> Schema:
    value = {"$ref": _value_of(setting.name)}
    searched = {"role": {"$ref": "#/$defs/role"}, "when": {"$ref": "#/$defs/when"}}
    forms = [
        value,
        _mapping({"value": value, "role": {"const": "fixed"}}, required=["value"]),
        _mapping({"choices": _list_of(setting.name), **searched}, required=["choices"]),
    ]
    if setting.kind in (int, float, None) and setting.part != "tokens":
        step = {"type": ["integer" if setting.kind is int else "number", "null"], "exclusiveMinimum": 0}
        end = {"type": "number"} if setting.kind is None else value
        numbers = {"low": end, "high": end, "log": {"type": "boolean", "default": False}, "step": step}
        forms.append(_mapping({**numbers, **searched}, required=["low", "high"]))
    shown = given(setting.default) if setting.kind is bool else setting.default
    default = "" if setting.default is None else f"; default {shown}"
    return {"description": f"{setting.meaning} ({setting.allowed()}{default})", "anyOf": forms}


def _value_of(name: str) -> str:
    return f"#/$defs/value_{name}"


def _list_of(name: str) -> Schema:
    return {"type": "array", "minItems": 1, "items": {"$ref": _value_of(name)}}


def _value(setting: Setting) -> Schema:
    if setting.name == "convolution_kernel":
        side = {"type": "integer", "minimum": 1, "maximum": 99}
        pair = {"type": "array", "items": side, "minItems": 2, "maxItems": 2}
        return {"anyOf": [side, pair, {"type": "string", "pattern": f"^{setting.pattern}$"}]}
    if setting.name == CLASS_WEIGHTS:
        weight = {"type": "number", "exclusiveMinimum": 0}
        weights = {"type": "object", "minProperties": 1, "additionalProperties": weight}
        return {"anyOf": [{"enum": list(setting.choices)}, weights]}
    if setting.kind is None:
        return {"type": ["number", "string", "boolean"]}
    if setting.kind is str and setting.pattern:
        return {"type": "string", "pattern": f"^{setting.pattern}$"}
    if setting.kind is str:
        return {"enum": list(setting.choices)}
    if setting.kind is bool:
        return {"type": "boolean"}
    kind = "integer" if setting.kind is int else "number"
    return {"type": kind, "minimum": setting.low, "maximum": setting.high}


def _trials() -> Schema:
    description = (
        "tries of the reference: search's nuisance settings are drawn; the best on validation is the reference"
    )
    return {"description": description, "type": "integer", "minimum": 1, "maximum": MOST_TRIALS, "default": 1}


def _objective() -> Schema:
    properties = {"metric": {"enum": list(METRICS)}, "direction": {"enum": ["maximize", "minimize"]}}
    return {"anyOf": [properties["metric"], _mapping(properties, required=["metric"])]}


def _constraint() -> Schema:
    bound = rf"^\s*({'|'.join(METRICS)})\s*(<=|>=)\s*[-+]?[0-9._]+([eE][-+]?[0-9]+)?\s*$"
    return {"anyOf": [{"const": BEATS_REFERENCE}, {"type": "string", "pattern": bound}]}


def _variants() -> Schema:
    changes = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}}
    return {
        "description": "named changes of this file, chosen by --set WORD=NAME; else the first of each word",
        "type": "object",
        "additionalProperties": changes,
    }


def _named(kinds: Any, *, default: str) -> Schema:
    options = {name: {"$ref": f"#/$defs/{kind.__name__}"} for name, kind in kinds.items()}
    named = [{"allOf": [form, {"required": ["name"]}]} for name, form in options.items() if name != default]
    return {"anyOf": [{"enum": list(kinds)}, options[default], *named]}


def _with_own(mapping: Schema, schema: Schema) -> Schema:
    """Let a mapping also contain settings of a user's trainer."""
    return {**mapping, "patternProperties": {f"^{OWN_PATTERN}$": schema}}


def _mapping(properties: Schema, *, required: list[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }
