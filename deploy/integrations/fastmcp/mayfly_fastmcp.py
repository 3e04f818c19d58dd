"""A sandbox of FastMCP's code mode in which each program has a container of its own, without a network.

::

    from fastmcp import FastMCP
    from fastmcp.experimental.transforms.code_mode import CodeMode
    from mayfly_fastmcp import MayflySandboxProvider

    server = FastMCP("Tools", transforms=[CodeMode(sandbox_provider=MayflySandboxProvider())])

The model's code runs in Mayfly. ``call_tool`` and every other external function run in this process: the program calls
them through the execution's stream (``docs/caller-tools.md``). The bounds are Mayfly's: calls, bytes and seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from fastmcp.exceptions import ToolError

from mayfly import AsyncClient, Execution, MayflyError, Options, Tool

__all__ = ["MayflySandboxProvider"]
ARGUMENTS = {
    "type": "object",
    "properties": {"args": {"type": "array"}, "kwargs": {"type": "object"}},
    "required": ["args", "kwargs"],
    "additionalProperties": False,
}
# The code is the body of an async function, as FastMCP has it: `return` and `await` stand at its top.
PROGRAM = """
import ast, asyncio, json, linecache, sys, traceback
import mayfly
from mayfly import tools

def external(name):
    async def call(*args, **kwargs):
        return await tools.aio.caller[name](args=list(args), kwargs=kwargs)
    return call

def main():
    with open("/inputs/code.py", encoding="utf-8") as file:
        source = file.read()
    with open("/inputs/given.json", encoding="utf-8") as file:
        given = json.load(file)
    body = ast.parse(source, "code.py").body or [ast.Pass()]
    if isinstance(body[-1], ast.Expr):
        body[-1] = ast.copy_location(ast.Return(body[-1].value), body[-1])
    module = ast.parse("async def code(): pass")
    module.body[0].body = body
    ast.fix_missing_locations(module)
    linecache.cache["code.py"] = (len(source), None, source.splitlines(True), "code.py")
    names = {"__name__": "code", **given["inputs"], **{name: external(name) for name in given["functions"]}}
    exec(compile(module, "code.py", "exec"), names)
    value = asyncio.run(names["code"]())
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        value = repr(value)
    mayfly.result({"returned": value})

try:
    main()
except Exception as error:
    traceback.print_exc()
    mayfly.result({"raised": f"{type(error).__name__}: {error}"})
    sys.exit(1)
"""


class MayflySandboxProvider:
    """Runs code in a Mayfly of ``client``, or of ``MAYFLY_URL`` and ``MAYFLY_TOKEN``.

    ``options`` are those of :class:`mayfly.Options`, such as ``limits``, ``environment`` (of Python) and ``isolation``.
    """

    def __init__(self, client: AsyncClient | None = None, **options: Any) -> None:
        self._client = client
        self._options: Options = options  # type: ignore[assignment]

    async def run(
        self,
        code: str,
        *,
        inputs: dict[str, Any] | None = None,
        external_functions: dict[str, Callable[..., Any]] | None = None,
    ) -> Any:
        """The value that the code returns, as JSON has it.

        Raises :class:`fastmcp.exceptions.ToolError` with the program's last error or the reason of its end. A
        cancelled call cancels the execution.
        """
        functions = external_functions or {}
        given = json.dumps({"inputs": inputs or {}, "functions": list(functions)})
        options = {**self._options, "files": {"code.py": code, "given.json": given}}
        tools = [Tool(name, partial(_called, function), "", ARGUMENTS) for name, function in functions.items()]
        if self._client is not None:
            return _value(await _ended(self._client, options, tools))
        async with AsyncClient() as client:
            return _value(await _ended(client, options, tools))


async def _ended(client: AsyncClient, options: Mapping[str, Any], tools: list[Tool]) -> Execution:
    submitted = await client.submit(PROGRAM, tools=tools, **options)
    try:
        return await client.fulfil(submitted.id, tools)
    except BaseException:
        with suppress(MayflyError):
            await asyncio.shield(client.cancel(submitted.id))
        raise


async def _called(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    value = function(*args, **kwargs)
    return await value if isinstance(value, Awaitable) else value


def _value(execution: Execution) -> Any:
    named = [result.json for result in execution.results if result.source == "named"]
    last = named[-1] if named and isinstance(named[-1], dict) else {}
    if execution.has_succeeded and "returned" in last:
        return last["returned"]
    if execution.reason == "nonzero_exit" and "raised" in last:
        raise ToolError(str(last["raised"]))
    reason = execution.message or execution.reason or "the code named results of its own, or returned too much"
    raise ToolError(f"The program is {execution.state}: {reason}.")
