"""Answers one call of a tool with the function's value, or its exception.

Each answer is a separate call of the API (:class:`mayfly.steps.Spawn`), so that calls overlap.
"""

from __future__ import annotations

from functools import partial

from mayfly.caller_tools.definition import Tool, is_awaitable, jsonable
from mayfly.catalogue.tooling import Tooling
from mayfly.errors import Conflict, InvalidRequest, MayflyError, NotFound
from mayfly.results import Document
from mayfly.steps import Await, Work

MESSAGE_CHARACTERS = 4000


async def answer(
    calls: Tooling, id: str, tool: Tool, call_id: str, arguments: Document, failures: list[MayflyError]
) -> None:
    """Call the tool and send its result, or its exception's text.

    An error of the API is added to ``failures``, unless the call is late or its program has ended.
    """
    try:
        try:
            value = await Work(partial(tool.call, **arguments))
            if is_awaitable(value):
                value = await Await(value)
            result = jsonable(value)
        except Exception as error:  # any exception of the function is for the program to handle
            await calls.send_tool_error(id, call_id, text_of(error))
            return
        try:
            await calls.send_tool_result(id, call_id, result)
        except InvalidRequest as error:  # the result is too large, or violates its schema
            await calls.send_tool_error(id, call_id, error.detail[:MESSAGE_CHARACTERS])
    except (Conflict, NotFound):
        return
    except MayflyError as error:
        failures.append(error)


def text_of(error: Exception) -> str:
    """The text of an exception for the program; pydantic's errors lose their values and URLs."""
    found = getattr(error, "errors", None)
    if type(error).__name__ == "ValidationError" and callable(found):
        listed = found(include_url=False, include_input=False)
        places = ((".".join(map(str, item["loc"])) or "arguments", item["msg"]) for item in listed)
        return "; ".join(f"{place}: {message}" for place, message in places)[:MESSAGE_CHARACTERS]
    return (str(error) or type(error).__name__)[:MESSAGE_CHARACTERS]
