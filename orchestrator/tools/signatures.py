"""Signatures of tools in one line, in the notation of Python or JavaScript, with types of parameters and results.

A line is for a reader, and short: objects are written ``{key: type, other?: type}`` in both languages, nested objects
only as deep as the line has room. ``stubs`` writes types for a type checker.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal, NamedTuple

from orchestrator.models.tools import Schema, Tool
from orchestrator.tools.names import is_identifier
from orchestrator.tools.shapes import ANY, Field, Shape, Value, fields_of, shape_of, unwrapped
from orchestrator.tools.text import one_line

Language = Literal["python", "javascript"]
MOST_LINE = 500  # characters of a signature; a longer signature is written with less depth
MOST_PARAMETERS = 40
MOST_DEFAULT = 30
MOST_KEY = 60
SEEN = "seen before"  # marks a return type that is inferred from earlier results
DEPTHS = (3, 2, 1, 0)


class _Notation(NamedTuple):
    names: dict[str, str]
    array: Callable[[str], str]
    map: Callable[[str], str]
    literals: Callable[[tuple[Value, ...]], str]


def _python_literals(values: tuple[Value, ...]) -> str:
    return f"Literal[{', '.join(map(repr, values))}]"


def _javascript_literals(values: tuple[Value, ...]) -> str:
    return " | ".join(json.dumps(value) for value in values)


NOTATIONS: dict[Language, _Notation] = {
    "python": _Notation(
        {"any": "Any", "null": "None", "boolean": "bool", "integer": "int", "number": "float", "string": "str"},
        lambda item: f"list[{item}]" if item != "Any" else "list",
        lambda item: f"dict[str, {item}]" if item != "Any" else "dict",
        _python_literals,
    ),
    "javascript": _Notation(
        {"any": "any", "null": "null", "boolean": "boolean", "integer": "number", "number": "number",
         "string": "string"},
        lambda item: f"({item})[]" if " " in item and not item.startswith("{") else f"{item}[]",
        lambda item: f"Record<string, {item}>" if item != "any" else "object",
        _javascript_literals,
    ),
}  # fmt: skip


def signature(tool: Tool, spelt: str, seen: Schema | None = None, language: Language = "python") -> str:
    """A tool's signature in one line. ``spelt`` is its name in a program; ``seen`` the shape of earlier results."""
    fields = fields_of(tool.input_schema)
    result, is_seen = returned(tool, seen)
    line = ""
    for depth in DEPTHS:
        line = _line(spelt, fields, result, depth, language)
        if len(line) <= MOST_LINE:
            break
    return f"{line}  # {SEEN}" if is_seen and language == "python" else f"{line}  // {SEEN}" if is_seen else line


def is_untyped(tool: Tool) -> bool:
    """Whether a tool's definition lacks the type of its results."""
    promised = unwrapped(tool.output_schema)
    return promised is None or _is_open(shape_of(promised))


def _is_open(shape: Shape) -> bool:
    return shape == ANY or (shape.kind == "map" and shape.parts == (ANY,))


def returned(tool: Tool, seen: Schema | None = None) -> tuple[Shape, bool]:
    """The shape of a tool's result, and whether the shape comes from earlier results, not from the server."""
    promised = unwrapped(tool.output_schema)
    shape = shape_of(promised) if promised is not None else ANY
    if seen is not None and _is_open(shape):
        return shape_of(seen), True
    return shape, False


def written(shape: Shape, depth: int, language: Language) -> str:
    """A shape as a type, with objects as far as ``depth`` levels."""
    notation = NOTATIONS[language]
    match shape.kind:
        case "array":
            return notation.array(written(shape.parts[0], depth, language))
        case "map":
            return notation.map(written(shape.parts[0], depth, language))
        case "union":
            return " | ".join(dict.fromkeys(written(part, depth, language) for part in shape.parts))
        case "literal":
            return notation.literals(shape.values)
        case "object" if depth <= 0:
            return notation.map(notation.names["any"])
        case "object":
            return f"{{{', '.join(_key(field, depth - 1, language) for field in shape.fields)}}}"
    return notation.names[shape.kind]


def _line(spelt: str, fields: tuple[Field, ...], result: Shape, depth: int, language: Language) -> str:
    shown = fields[:MOST_PARAMETERS]
    parameters = [_key(field, depth, language) for field in shown]
    if language == "python":
        parameters = [_parameter(field, depth) for field in shown]
    parameters += ["…"] if len(fields) > MOST_PARAMETERS else []
    listed, answer = ", ".join(parameters), written(result, depth, language)
    if language == "python":
        return f"{spelt}({listed}) -> {answer}"
    return f"{spelt}({{{listed}}}): Promise<{answer}>" if parameters else f"{spelt}(): Promise<{answer}>"


def _parameter(field: Field, depth: int) -> str:
    """A parameter of Python: with its default, or ``...`` for an optional parameter without a known default."""
    name = field.name if is_identifier(field.name) else _quoted(field.name)
    text = f"{name}: {written(field.shape, depth, 'python')}"
    if field.is_required:
        return text
    default = repr(field.default) if field.has_default and field.default is not None else "..."
    return f"{text} = {default if len(default) <= MOST_DEFAULT else '...'}"


def _key(field: Field, depth: int, language: Language) -> str:
    name = field.name if is_identifier(field.name) else _quoted(field.name)
    return f"{name}{'' if field.is_required else '?'}: {written(field.shape, depth, language)}"


def _quoted(name: str) -> str:
    return json.dumps(one_line(name, MOST_KEY))
