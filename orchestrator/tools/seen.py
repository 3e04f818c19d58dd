"""The shape of a tool's earlier results, as a JSON Schema: types and keys, never a value.

A key is kept only if it looks like a field's name. Objects whose keys look like data (many, or with characters that
names rarely have) become ``additionalProperties``, so that no identifier, address or name of a person is kept.
"""

from __future__ import annotations

import json
import re
from typing import Any

from orchestrator.models.tools import Schema

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
MAX_DEPTH = 5
MAX_FIELDS = 40
MAX_ITEMS = 20  # inspected items of an array
MAX_FORMS = 4  # alternatives; more become any type
MAX_CHARACTERS = 20_000  # of a shape


def observed(known: Schema | None, result: object) -> Schema:
    """The shape of all results so far: the ``known`` shape, extended by one result. Work is bounded, whatever the
    result.

    Keys that some results lack are not ``required``.
    """
    shape = _shape(result, MAX_DEPTH)
    merged = shape if known is None else _merged(known, shape)
    return merged if len(json.dumps(merged)) <= MAX_CHARACTERS else {}


def _shape(value: object, depth: int) -> Schema:
    match value:
        case None:
            return {"type": "null"}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array", **_contained("items", value[:MAX_ITEMS], depth)}
        case dict() if len(value) <= MAX_FIELDS and all(NAME.fullmatch(name) for name in value) and depth > 0:
            fields = {name: _shape(inner, depth - 1) for name, inner in value.items()}
            return {"type": "object", "properties": fields, "required": list(fields)}
        case dict():
            inner = [value[name] for name, _ in zip(value, range(MAX_ITEMS), strict=False)]
            return {"type": "object", **_contained("additionalProperties", inner, depth)}
    return {}


def _contained(key: str, values: list[Any], depth: int) -> Schema:
    if not values or depth <= 0:
        return {}
    found: Schema | None = None
    for value in values:
        shape = _shape(value, depth - 1)
        found = shape if found is None else _merged(found, shape)
    return {key: found}


def _merged(one: Schema, other: Schema) -> Schema:
    """A shape that covers both shapes."""
    if one == other or not one:
        return one
    forms: list[Schema] = list(one.get("anyOf", [one]))
    for new in other.get("anyOf", [other]):
        for place, form in enumerate(forms):
            if (joined := _joined(form, new)) is not None:
                forms[place] = joined
                break
        else:
            forms.append(new)
    if len(forms) > MAX_FORMS or {} in forms:
        return {}
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


def _joined(one: Schema, other: Schema) -> Schema | None:
    """One form that covers two forms of the same type."""
    kinds = {one.get("type"), other.get("type")}
    if kinds == {"integer", "number"}:
        return {"type": "number"}
    if len(kinds) > 1:
        return None
    if kinds == {"array"}:
        return {"type": "array", **_inner("items", one, other)}
    if kinds == {"object"}:
        return _objects(one, other)
    return one


def _inner(key: str, one: Schema, other: Schema) -> Schema:
    found = [schema[key] for schema in (one, other) if key in schema]
    if not found:
        return {}
    return {key: found[0] if len(found) == 1 else _merged(found[0], found[1])}


def _objects(one: Schema, other: Schema) -> Schema:
    fields = [schema.get("properties") for schema in (one, other)]
    names = {name for properties in fields for name in properties or {}}
    if None in fields or len(names) > MAX_FIELDS:
        return {"type": "object", "additionalProperties": _any_field(one, other)}
    first, second = one["properties"], other["properties"]
    merged = {
        name: _merged(first[name], second[name]) if name in first and name in second else {**first, **second}[name]
        for name in [*first, *(name for name in second if name not in first)]
    }
    required = [name for name in one.get("required", []) if name in other.get("required", [])]
    return {"type": "object", "properties": merged, **({"required": required} if required else {})}


def _any_field(*schemas: Schema) -> Schema:
    inner: list[Schema] = []
    for schema in schemas:
        inner += list(schema.get("properties", {}).values())
        inner += [schema["additionalProperties"]] if "additionalProperties" in schema else []
    found: Schema | None = None
    for shape in inner:
        found = shape if found is None else _merged(found, shape)
    return found or {}
