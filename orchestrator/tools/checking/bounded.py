"""JSON Schema validation in bounded time, for untrusted schemas and values.

The library ``jsonschema`` does the work. It is bounded here where a hostile schema would make it slow or make it leave
this process:

- ``pattern`` and ``patternProperties`` use RE2, which is linear. A pattern that RE2 does not support is not checked.
- ``uniqueItems`` compares canonical texts instead of all pairs.
- Each evaluated keyword costs steps, by the size of its operands; references that double at each level, or refer to
  themselves, exhaust the steps.
- For a subschema with ``$schema`` the library would switch to its own, unbounded validators; this is disabled.
- References may point into the schema itself, or to the published meta-schemas, which the library contains. No document
  is fetched. The anchors of a schema are collected once, not for each reference.

Left to the servers: ``format``, ``unevaluatedItems``, ``unevaluatedProperties``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple, cast

import attrs
import re2
from jsonschema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
    ValidationError,
)
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from orchestrator.tools.checking.sizes import depth, nodes
from orchestrator.tools.checking.steps import Steps, TooManySteps, steps_of_check

MAX_SCHEMA_CHARACTERS = 256 * 1024
MAX_DEPTH = 64  # of schemas and of values
MAX_PATTERN_CHARACTERS = 1000
MAX_MESSAGE = 200
NODES_A_STEP = 16
CHARACTERS_A_STEP = 512
PRODUCTS_A_STEP = 512
CACHED_SCHEMAS = 256
UNCHECKED = ("format", "unevaluatedItems", "unevaluatedProperties")
Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError]]


class UnusableSchema(ValueError):
    """The schema is invalid, refers to an external document, or takes too many steps."""


class Violation(NamedTuple):
    """One place where a value violates a schema: its path, the violated keyword, and the keyword's value."""

    path: tuple[str | int, ...]
    keyword: str
    expected: Any
    value: Any


_steps: ContextVar[Steps] = ContextVar("steps")


def violations(schema: Mapping[str, Any] | bool, value: object, most: int = 5) -> list[Violation]:
    """The first ``most`` places where a JSON value violates a schema.

    Raises :class:`UnusableSchema` for an invalid schema, and for a value that cannot be checked within the bounds.
    """
    validator = _prepared(_text(schema))
    if depth(value, MAX_DEPTH) > MAX_DEPTH:
        raise UnusableSchema(f"The value nests deeper than {MAX_DEPTH} levels.")
    return _run(validator, value, most)


def check_schema(schema: Mapping[str, Any] | bool, references: Iterable[str] = ()) -> None:
    """Raise :class:`UnusableSchema` for an unusable schema, and for references outside of the schema."""
    resolver = cast(Any, _prepared(_text(schema)))._resolver
    for reference in references:
        try:
            if not reference.startswith("#"):
                raise Unresolvable(reference)
            resolver.lookup(reference)
        except (Unresolvable, LookupError, ValueError, TypeError) as error:
            shown = reference[:MAX_MESSAGE]
            message = f"The reference {shown!r} does not lead to a part of the same schema."
            raise UnusableSchema(message) from error


def _text(schema: Mapping[str, Any] | bool) -> str:
    if depth(schema, MAX_DEPTH) > MAX_DEPTH:
        raise UnusableSchema(f"The schema nests deeper than {MAX_DEPTH} levels.")
    text = json.dumps(schema, sort_keys=True)
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise UnusableSchema(f"The schema has more than {MAX_SCHEMA_CHARACTERS} characters.")
    return text


@lru_cache(CACHED_SCHEMAS)
def _prepared(text: str) -> Validator:
    """The validator of a valid schema."""
    schema = json.loads(text)
    dialect = schema.get("$schema", "") if isinstance(schema, dict) else ""
    bounded = DIALECTS.get(dialect.rstrip("#") if isinstance(dialect, str) else "", LATEST)
    registry: Registry[Any] = Registry()
    if broken := _run(bounded(bounded.META_SCHEMA, registry=registry), schema, 1):
        place = "/".join(map(str, broken[0].path)) or "its root"
        raise UnusableSchema(f"The schema is invalid at {place[:MAX_MESSAGE]}.")
    try:
        made = bounded(schema, registry=registry)
        resolver = made._resolver  # the library would otherwise collect the anchors for each reference
        validator: Validator = made.evolve(_resolver=attrs.evolve(resolver, registry=resolver._registry.crawl()))
    except Exception as error:  # an untrusted schema may use identifiers and anchors in any way
        raise UnusableSchema("The schema has unusable identifiers.") from error
    return validator


def _run(validator: Validator, value: object, most: int) -> list[Violation]:
    token = _steps.set(steps_of_check())
    try:
        found = []
        for error in validator.iter_errors(cast(Any, value)):
            path = tuple(error.absolute_path)
            found.append(Violation(path, str(error.validator), error.validator_value, error.instance))
            if len(found) >= most:
                break
    except TooManySteps as error:
        raise UnusableSchema("Checking takes too many steps.") from error
    except RecursionError as error:
        raise UnusableSchema("The schema refers to itself without end.") from error
    except Exception as error:  # a dangling reference or an unknown type: the schema is invalid
        raise UnusableSchema("The schema has a reference or a value that cannot be used.") from error
    finally:
        _steps.reset(token)
    return found


def _bounded(keyword: Keyword) -> Keyword:
    """A keyword's function, charged with steps."""

    def function(validator: Any, expected: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        steps = _steps.get()
        steps.take(1 + (_size(expected) + _size(value)) // NODES_A_STEP + _length(expected) // CHARACTERS_A_STEP)
        for error in keyword(validator, expected, value, schema) or ():
            steps.take(len(error.message) // CHARACTERS_A_STEP)
            error.message = error.message[:MAX_MESSAGE]
            yield error

    return function


def _size(value: object) -> int:
    return len(value) if isinstance(value, dict | list) else 0


def _length(expected: object) -> int:
    """The characters of a pattern or a reference."""
    return len(expected) if isinstance(expected, str) else 0


def _compared(keyword: Keyword) -> Keyword:
    """A keyword that compares whole values, charged with the nodes of its own value."""

    def function(validator: Any, expected: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        _steps.get().take(nodes(expected, _steps.get().left) // NODES_A_STEP)
        return keyword(validator, expected, value, schema)

    return function


def _matches(pattern: str, text: str) -> bool:
    """Whether a text has a match; true for a pattern that RE2 does not support."""
    found = _compiled(pattern)
    if found is None:
        return True
    # RE2's time is linear in text length times program size: up to 20 ns for each product if its memory is too small.
    _steps.get().take((len(text) + NODES_A_STEP) * found.programsize // PRODUCTS_A_STEP)
    return found.search(text) is not None


@lru_cache(CACHED_SCHEMAS)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options) if len(pattern) <= MAX_PATTERN_CHARACTERS else None
    except re2.error:
        return None


def _pattern(validator: Any, expected: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _matches(expected, value):
        yield ValidationError("does not match")


def _pattern_properties(validator: Any, expected: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for pattern, subschema in expected.items():
        if _compiled(pattern) is not None:
            for name in value:
                if _matches(pattern, name):
                    yield from validator.descend(value[name], subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, expected: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name in value:
        if name not in known and not any(_matches(pattern, name) for pattern in patterns):
            if expected is False:
                yield ValidationError("is not known", path=(name,))
            else:
                yield from validator.descend(value[name], expected, path=name)


def _unique_items(validator: Any, expected: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if expected is True and isinstance(value, list):
        _steps.get().take(nodes(value, _steps.get().left * NODES_A_STEP) // NODES_A_STEP)
        if len({_canonical(item) for item in value}) != len(value):
            yield ValidationError("has equal items")


def _canonical(value: object) -> str:
    """A canonical text: the same for values that are equal in JSON Schema (``1`` and ``1.0``, keys in any order)."""
    return json.dumps(_with_whole_numbers(value), sort_keys=True)


def _with_whole_numbers(value: object) -> object:
    if isinstance(value, dict):
        return {name: _with_whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unchecked(validator: Any, expected: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    return iter(())


EXTEND: Any = extend  # the library's annotation leaves the values of keywords untyped
OWN: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}


def _evolve(self: Any, **changes: Any) -> Any:
    """The validator with changes, of the same class for any ``$schema``, unlike the library's method."""
    kept = {field.alias: getattr(self, field.name) for field in attrs.fields(type(self)) if field.init}
    return type(self)(**{**kept, **changes})


def _bounded_class(library: Any) -> Any:
    """A dialect's validator of the library, with bounded keywords."""
    keywords: dict[str, Keyword] = {**library.VALIDATORS, **OWN}
    keywords |= {name: _compared(keywords[name]) for name in ("const", "enum") if name in keywords}
    keywords |= dict.fromkeys(UNCHECKED, _unchecked)
    bounded = EXTEND(library, {name: _bounded(function) for name, function in keywords.items()})
    bounded.evolve = _evolve
    return bounded


LATEST = _bounded_class(Draft202012Validator)
DIALECTS: dict[str, Any] = {
    "http://json-schema.org/draft-04/schema": _bounded_class(Draft4Validator),
    "http://json-schema.org/draft-06/schema": _bounded_class(Draft6Validator),
    "http://json-schema.org/draft-07/schema": _bounded_class(Draft7Validator),
    "https://json-schema.org/draft/2019-09/schema": _bounded_class(Draft201909Validator),
    "https://json-schema.org/draft/2020-12/schema": LATEST,
}
