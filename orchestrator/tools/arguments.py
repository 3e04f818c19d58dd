"""The arguments of a call, checked against the tool's input schema before a tool server sees them.

A failure names the parameter, the expectation, all parameters and similar names. It never repeats a value that the
program sent.

A parameter that the schema does not declare is refused, although JSON Schema accepts it if ``additionalProperties`` is
missing: servers ignore unknown parameters, and an ignored misspelt filter gives a wrong answer. For a schema with
``additionalProperties``, or a combination of schemas, JSON Schema's own rule applies.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn

from orchestrator.models.tools import Schema, Tool, ToolFailure
from orchestrator.tools.checking.bounded import UnusableSchema, Violation, violations
from orchestrator.tools.spelling import similar

INVALID = "tool_arguments_invalid"
UNKNOWN = "tool_unknown"
MOST_MISTAKES = 5
MOST_PARAMETERS = 50
MOST_EXPECTED = 200  # characters of a schema's expectation
MOST_NAME = 100
MOST_MESSAGE = 2000
# With these keywords a schema determines itself, or through another schema, which further parameters are valid.
OPEN = frozenset(
    [
        "additionalProperties",
        "patternProperties",
        "unevaluatedProperties",
        "propertyNames",
        "allOf",
        "anyOf",
        "oneOf",
        "if",
        "$ref",
        "$dynamicRef",
        "dependentSchemas",
        "dependencies",
    ]
)


def check(tool: Tool, arguments: str) -> dict[str, Any] | ToolFailure:
    """The arguments of a JSON text, or the failure ``tool_arguments_invalid``.

    Send the returned value, not the text: if the text has a key twice, only the last value was checked. Takes up to a
    second of CPU time for a large value or a hostile schema.
    """
    try:
        given = _decoded(arguments)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _Unfit) else "they are no JSON"
        return ToolFailure(code=INVALID, message=f"The arguments cannot be read: {reason}.")
    schema = tool.input_schema
    known = parameters(schema)
    unknown = [name for name in given if name not in known] if is_closed(schema) else []
    try:
        broken = violations(schema, given, MOST_MISTAKES)
    except UnusableSchema as error:
        return ToolFailure(
            code=INVALID,
            message=f"The arguments of {tool.full_name} cannot be checked, so the call was not made: {error}",
            valid_parameters=known[:MOST_PARAMETERS],
        )
    if not unknown and not broken:
        return given
    mistakes = [f"{_named(name)} is not a parameter of this tool" for name in unknown]
    mistakes = list(dict.fromkeys([*mistakes, *map(_mistake, broken)]))[:MOST_MISTAKES]
    unknown += [str(one.path[0]) for one in broken if one.keyword == "additionalProperties" and len(one.path) == 1]
    return ToolFailure(
        code=INVALID,
        message=f"The arguments of {tool.full_name} are not valid: {'; '.join(mistakes)[:MOST_MESSAGE]}.",
        valid_parameters=known[:MOST_PARAMETERS],
        did_you_mean=_meant(unknown, [name for name in known if name not in given]),
    )


def unknown_tool(full_name: str, usable: Iterable[Tool]) -> ToolFailure:
    """The failure ``tool_unknown``. ``usable`` are the tools that the caller may use: no other tool is ever named."""
    return ToolFailure(
        code=UNKNOWN,
        message=f"There is no tool {_named(full_name)}; search_tools() and /tools/INDEX list the existing tools.",
        did_you_mean=similar(full_name, (tool.full_name for tool in usable)),
    )


def result_mistake(schema: Schema, value: object) -> str | None:
    """A result's violation of the tool's output schema; None without a violation, or if it cannot be checked."""
    try:
        broken = violations(schema, value, 1)
    except UnusableSchema:
        return None
    return _mistake(broken[0], "the result", "a field of this result") if broken else None


def parameters(schema: Schema) -> tuple[str, ...]:
    """The names of a tool's parameters, the required first, in the schema's order."""
    declared = schema.get("properties")
    names = [name for name in declared if isinstance(name, str)] if isinstance(declared, dict) else []
    required = required_of(schema)
    return tuple(sorted(names, key=lambda name: name not in required))


def required_of(schema: Schema) -> frozenset[str]:
    """The names of the parameters that a call must have."""
    required = schema.get("required")
    return frozenset(name for name in required if isinstance(name, str)) if isinstance(required, list) else frozenset()


def is_closed(schema: Schema) -> bool:
    """Whether a parameter that is not declared is refused."""
    return bool(schema.get("properties")) and OPEN.isdisjoint(schema)


class _Unfit(ValueError):
    """JSON that cannot be passed to a tool."""


def _decoded(text: str) -> dict[str, Any]:
    value = json.loads(text, parse_constant=_no_number)
    if not isinstance(value, dict):
        raise _Unfit("they are no JSON object")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise _Unfit("they have half of a surrogate pair, which is no text") from error
    except ValueError as error:
        raise _Unfit("they have a number that JSON does not have") from error
    return value


def _no_number(name: str) -> NoReturn:
    raise _Unfit(f"they have {name}, which JSON does not have")


def _mistake(broken: Violation, whole: str = "the arguments", part: str = "a parameter of this tool") -> str:
    place = _place(broken.path, whole)
    expected = _shown(broken.expected)
    match broken.keyword:
        case "required":
            missing = [name for name in broken.expected if name not in broken.value]
            return f"{', '.join(map(_named, missing[:MOST_PARAMETERS]))} missing in {place}"
        case "additionalProperties" | "None" if broken.path:
            return f"{place} is not {part}"
        case "type":
            return f"{place} must be of type {expected}"
        case "enum":
            return f"{place} must be one of {expected}"
        case "const":
            return f"{place} must be {expected}"
        case "anyOf" | "oneOf" | "not":
            return f"{place} fits none, or too many, of the forms that the schema gives ({broken.keyword} {expected})"
    return f"{place} breaks {_named(broken.keyword)}: {expected}"


def _place(path: Iterable[str | int], whole: str) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return _named("".join(parts).removeprefix(".")) if parts else whole


def _named(name: str) -> str:
    return json.dumps(name if len(name) <= MOST_NAME else name[:MOST_NAME] + "…", ensure_ascii=True)


def _shown(expected: object) -> str:
    text = json.dumps(expected)
    return text if len(text) <= MOST_EXPECTED else text[:MOST_EXPECTED] + "…"


def _meant(unknown: Iterable[str], missing: list[str]) -> tuple[str, ...]:
    found = [match for name in list(unknown)[:MOST_MISTAKES] for match in similar(name, missing)]
    return tuple(dict.fromkeys(found))[:MOST_MISTAKES]
