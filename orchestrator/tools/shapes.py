"""The shape of a value, read from a JSON Schema; signatures and stubs write shapes as types.

Schemas are untrusted. Reading has a bounded depth and a bounded number of nodes. Parts beyond the bounds, parts that
refer to themselves and unknown parts have the shape ``ANY``; fields with overlong names are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.models.tools import Schema
from orchestrator.tools.text import one_line

Kind = Literal["any", "null", "boolean", "integer", "number", "string", "array", "map", "object", "union", "literal"]
Value = str | int | float | bool | None
MAX_DEPTH = 6
MAX_NODES = 400
MAX_NESTING = 40  # of references and combinations, which do not count as depth
MAX_FIELDS = 100
MAX_NAME = 200  # characters; a reference repeats the names behind it
MAX_LITERALS = 20
MAX_LITERAL_CHARACTERS = 60
SIMPLE: dict[str, Kind] = {
    "null": "null", "boolean": "boolean", "integer": "integer", "number": "number", "string": "string",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One key of an object."""

    name: str
    shape: Shape
    is_required: bool
    description: str = ""
    default: Value = None
    has_default: bool = False


@dataclass(frozen=True)
class Shape:
    """``parts`` are the alternatives of a union, or what an array or a map contains; ``values`` those of a literal."""

    kind: Kind
    parts: tuple[Shape, ...] = ()
    fields: tuple[Field, ...] = ()
    values: tuple[Value, ...] = ()


ANY = Shape("any")
DEFINITIONS = ("$defs", "definitions")
REFERENCE = re.compile(r'"\$(?:ref|dynamicRef)": "#/(?:\$defs|definitions)/([^"/]+)')


def shape_of(schema: object) -> Shape:
    """The shape that a schema describes."""
    return _Reader(schema).read(schema, MAX_DEPTH, frozenset())


def fields_of(schema: Schema) -> tuple[Field, ...]:
    """The parameters of a tool, the required first; none for a schema that describes no object."""
    shape = shape_of(schema)
    return tuple(sorted(shape.fields, key=lambda field: not field.is_required))


def unwrapped(schema: Schema | None) -> Schema | None:
    """The schema of a program's result: only ``X`` of ``{"result": X}``, into which some libraries wrap results."""
    if not isinstance(schema, dict):
        return None
    properties = schema.get("properties")
    if not isinstance(properties, dict) or list(properties) != ["result"] or schema.get("required") != ["result"]:
        return schema
    inner = properties["result"]
    if not isinstance(inner, dict):
        return schema
    return {**{key: schema[key] for key in ("$defs", "definitions") if key in schema}, **inner}


def used_definitions(schema: Schema) -> Schema:
    """A schema without unused definitions: servers attach all of their definitions to each of their tools."""
    kept = {key: value for key, value in schema.items() if key not in DEFINITIONS}
    used = _references(kept)
    for key in DEFINITIONS:
        definitions = schema.get(key)
        if not isinstance(definitions, dict):
            continue
        waiting, reached = list(used), set()
        while waiting:
            name = waiting.pop()
            if name in definitions and name not in reached:
                reached.add(name)
                waiting += _references(definitions[name])
        if reached:
            kept[key] = {name: value for name, value in definitions.items() if name in reached}
    return kept


def _references(schema: object) -> set[str]:
    """The names of definitions that a schema refers to."""
    return {name.replace("~1", "/").replace("~0", "~") for name in REFERENCE.findall(json.dumps(schema))}


class _Reader:
    """Reads one schema; references lead to its own definitions."""

    def __init__(self, root: object) -> None:
        self._root, self._left, self._nesting = root, MAX_NODES, 0

    def read(self, schema: object, depth: int, seen: frozenset[str]) -> Shape:
        self._left -= 1
        if not isinstance(schema, dict) or depth < 0 or self._left < 0 or self._nesting >= MAX_NESTING:
            return ANY
        self._nesting += 1
        shape = self._described(schema, depth, seen)
        self._nesting -= 1
        return shape

    def _described(self, schema: Schema, depth: int, seen: frozenset[str]) -> Shape:
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in seen:
                return ANY
            return self.read(_resolved(self._root, reference), depth, seen | {reference})
        if "const" in schema:
            return _literals([schema["const"]])
        if isinstance(schema.get("enum"), list):
            return _literals(schema["enum"])
        for combined in ("anyOf", "oneOf"):
            if isinstance(schema.get(combined), list) and "properties" not in schema:
                return union(self.read(part, depth, seen) for part in schema[combined])
        if isinstance(schema.get("allOf"), list) and "properties" not in schema:
            return _merged([self.read(part, depth, seen) for part in schema["allOf"]])
        types = schema.get("type")
        if isinstance(types, list):
            return union(self._typed(schema, name, depth, seen) for name in types)
        return self._typed(schema, "object" if types is None and "properties" in schema else types, depth, seen)

    def _typed(self, schema: Schema, name: object, depth: int, seen: frozenset[str]) -> Shape:
        if name == "array":
            return Shape("array", (self.read(schema.get("items"), depth - 1, seen),))
        if name != "object":
            return Shape(SIMPLE[name]) if isinstance(name, str) and name in SIMPLE else ANY
        properties, more = schema.get("properties"), schema.get("additionalProperties")
        if not isinstance(properties, dict) or not properties:
            return Shape("map", (self.read(more, depth - 1, seen) if isinstance(more, dict) else ANY,))
        shown = [name for name in properties if len(name) <= MAX_NAME][:MAX_FIELDS]
        if depth == 0 or not shown:
            return Shape("map", (ANY,))
        required = schema.get("required")
        names = frozenset(name for name in required if isinstance(name, str)) if isinstance(required, list) else ()
        return Shape(
            "object",
            fields=tuple(self._field(name, properties[name], name in names, depth - 1, seen) for name in shown),
        )

    def _field(self, name: str, schema: object, is_required: bool, depth: int, seen: frozenset[str]) -> Field:
        known = schema if isinstance(schema, dict) else {}
        description, default = known.get("description"), known.get("default")
        return Field(
            name,
            self.read(schema, depth, seen),
            is_required,
            one_line(description) if isinstance(description, str) else "",
            default if isinstance(default, str | int | float | bool) else None,
            "default" in known and (default is None or isinstance(default, str | int | float | bool)),
        )


def union(parts: Iterable[Shape]) -> Shape:
    """One shape for several alternatives: literals together, equal shapes once, ``ANY`` if there is any."""
    flat: list[Shape] = []
    for part in parts:
        flat += part.parts if part.kind == "union" else [part]
    values = [value for part in flat if part.kind == "literal" for value in part.values]
    if values:
        others = [part for part in flat if part.kind != "literal"]
        literal = _literals(values)
        flat = [*others, *(literal.parts if literal.kind == "union" else (literal,))]
    found = tuple(sorted(dict.fromkeys(flat), key=lambda part: part.kind == "null"))
    if not found or ANY in found:
        return ANY
    return found[0] if len(found) == 1 else Shape("union", found)


def _literals(values: list[Any]) -> Shape:
    """The shape of some values: the literal values if they are few and short, otherwise their types."""
    plain = [value for value in values if value is None or isinstance(value, str | int | float | bool)]
    if len(plain) < len(values):
        return ANY
    unique = tuple({json.dumps(value): value for value in plain}.values())
    is_short = all(len(json.dumps(value)) <= MAX_LITERAL_CHARACTERS for value in unique)
    if unique and len(unique) <= MAX_LITERALS and is_short and all(isinstance(v, str | bool | int) for v in unique):
        return Shape("literal", values=unique)
    if None in unique and len(unique) > 1:
        return union([_literals([value for value in unique if value is not None]), Shape("null")])
    return union(Shape(_kind(value)) for value in unique)


def _kind(value: Value) -> Kind:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
    return "string"


def _merged(parts: list[Shape]) -> Shape:
    objects = [part for part in parts if part.kind == "object"]
    if objects:
        fields = {field.name: field for part in objects for field in part.fields}
        return Shape("object", fields=tuple(fields.values())[:MAX_FIELDS])
    known = [part for part in parts if part.kind != "any"]
    return known[0] if known else ANY


def _resolved(root: object, reference: str) -> object:
    """The schema behind ``#/a/b``; None for any other reference."""
    if reference == "#":
        return root
    if not reference.startswith("#/") or len(reference) > 1000:
        return None
    found = root
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found
