"""A function as a tool: its name, description and schemas, from its signature by pydantic.

Pydantic is imported with the first function; a :class:`Tool` with given schemas does not need pydantic.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast, get_type_hints, overload

Function = Callable[..., Any]
OPEN: Mapping[str, Any] = {"type": "object"}


class Tool(NamedTuple):
    """A tool that this process fulfils. ``call`` gets the arguments by name, and returns JSON, a value that pydantic
    can convert into JSON, or an awaitable of one. An exception reaches the program as the text of a ``ToolError``.
    """

    name: str
    call: Function
    description: str = ""
    input_schema: Mapping[str, Any] = OPEN
    output_schema: Mapping[str, Any] | None = None

    @property
    def definition(self) -> dict[str, Any]:
        """The tool's definition in a submission."""
        definition = {"name": self.name, "description": self.description, "inputSchema": dict(self.input_schema)}
        return definition if self.output_schema is None else definition | {"outputSchema": dict(self.output_schema)}


Given = Function | Tool | Mapping[str, Any] | str
Tools = Mapping[str, Function | Tool] | Sequence[Given]
"""Functions by the names that the program calls; or a list of functions, tools, definitions that something else
fulfils (mappings), and patterns of tools on the host (``github.*``)."""


@overload
def tool(function: Function, /, *, name: str | None = None, description: str | None = None) -> Tool: ...
@overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[Function], Tool]: ...
def tool(
    function: Function | None = None, /, *, name: str | None = None, description: str | None = None
) -> Tool | Callable[[Function], Tool]:
    """A function as a tool of the caller, also as a decorator.

    Arguments are validated and converted as the annotations say. The docstring is the description. Raises
    ``TypeError`` for a function without a signature, or whose parameters cannot be given by name: give a
    :class:`mayfly.Tool` with its schemas instead.
    """
    if function is None:
        return lambda decorated: tool(decorated, name=name, description=description)
    from pydantic import PydanticUserError, TypeAdapter
    from pydantic_core import ArgsKwargs

    called = name or str(getattr(function, "__name__", ""))
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(cast("type[Any]", function))
        schema = adapter.json_schema()
        returned = get_type_hints(getattr(function, "func", function), include_extras=True).get("return", Any)
        unknown = returned is Any or returned is type(None)
        output = None if unknown else TypeAdapter(returned).json_schema(mode="serialization")
    except (PydanticUserError, TypeError, ValueError, NameError) as error:
        raise TypeError(f"{called or function!r} cannot become a tool by its signature: {error}") from error
    if schema.get("type") != "object":
        raise TypeError(f"{called or function!r} has parameters that cannot be given by name.")
    words = inspect.getdoc(function) or "" if description is None else description
    return Tool(
        called, lambda **arguments: adapter.validate_python(ArgsKwargs((), arguments)), words[:4096], schema, output
    )


def split(given: Tools) -> tuple[list[Any], dict[str, Tool]]:
    """The ``tools`` of a submission, and those of them that this process fulfils. Raises as :func:`tool`."""
    named = [(name, part) for name, part in given.items()] if isinstance(given, Mapping) else [("", p) for p in given]
    submitted: list[Any] = []
    own: dict[str, Tool] = {}
    for name, part in named:
        if isinstance(part, str):
            submitted.append(part)
        elif isinstance(part, Mapping):
            submitted.append(dict(part))
        else:
            made = part if isinstance(part, Tool) else tool(part, name=name or None)
            made = made._replace(name=name) if name else made
            own[made.name] = made
            submitted.append(made.definition)
    return submitted, own


def jsonable(value: Any) -> Any:
    """A value as plain JSON data. Raises ``ValueError`` or ``TypeError`` for a value that JSON cannot represent."""
    import json

    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        from pydantic_core import PydanticSerializationError, to_jsonable_python

        try:
            value = to_jsonable_python(value, by_alias=True)
        except PydanticSerializationError as error:
            raise TypeError(str(error)) from error
        json.dumps(value, allow_nan=False)
    return value


def is_awaitable(value: object) -> bool:
    """Whether a function's value must be awaited."""
    return isinstance(value, Awaitable)
