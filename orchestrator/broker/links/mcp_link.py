"""A connection to an MCP server, of either era, through the library's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.session import IncomingMessage
from mcp.client.subscriptions import ListenNotSupportedError
from pydantic import TypeAdapter, ValidationError

from orchestrator.broker.links import offered, results
from orchestrator.broker.links.bounded_stdio import TOO_LARGE
from orchestrator.broker.links.bounds import EXCHANGE, Exchange
from orchestrator.broker.links.definitions import MOST_TOOLS
from orchestrator.broker.links.definitions import tool as definition_to_tool
from orchestrator.broker.links.link import LinkFailed, failed
from orchestrator.broker.weights import Weights, values_in
from orchestrator.models.tools import Tool, ToolOutcome

MOST_PAGES = 100
LIST_SECONDS = 30.0
PROTOCOL_BYTES = 64 * 1024  # of an answer around its content
LONGEST_DETAIL = 300
CLIENT = types.Implementation(name="mayfly", version="1")
RAW: TypeAdapter[Any] = TypeAdapter(dict[str, Any])  # answers stay plain JSON, which is passed on
# Errors of the library for an answer that is not a message.
INVALID = frozenset({types.PARSE_ERROR})
# Errors of the library for an answer after the end of a session: its reader has ended, or also its writer.
LATE = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class McpLink:
    """One session. ``filtered`` makes a filter of personal data for each result; ``closed`` is set at the end of the
    connection.
    """

    def __init__(
        self, client: Client, server: str, most_bytes: int, filtered: Callable[[], Callable[[str], str] | None]
    ) -> None:
        self._client, self._server, self._most_bytes, self._filtered = client, server, most_bytes, filtered
        self._changed = asyncio.Event()
        self._weights, self._slow_check = Weights(), asyncio.Lock()
        self.closed = False
        self.left_out = 0

    def note(self, message: IncomingMessage) -> None:
        """Handle an unsolicited message of the server."""
        if isinstance(message, types.ToolListChangedNotification):
            self._changed.set()

    def close(self) -> None:
        """Mark the connection as ended."""
        self.closed = True
        self._changed.set()

    async def list_tools(self) -> tuple[Tool, ...]:
        exchange = Exchange()
        EXCHANGE.set(exchange)
        try:
            with anyio.fail_after(LIST_SECONDS):
                found = await self._pages() + offered.tools(self._server, self._client.server_capabilities)
        except (MCPError, ValidationError, TimeoutError, RuntimeError) as error:
            exchange.too_large |= isinstance(error, MCPError) and error.code == TOO_LARGE
            raise LinkFailed(exchange.cause or _detail(error)) from error
        if self.closed:
            raise LinkFailed("the connection has ended")
        return found

    async def _pages(self) -> tuple[Tool, ...]:
        found: list[Tool] = []
        cursor, left_out = None, 0
        for _ in range(MOST_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
            try:
                page = await self._client.session.send_request(types.ListToolsRequest(params=params), RAW)
            except MCPError as error:
                if error.code == types.METHOD_NOT_FOUND:
                    break
                raise
            definitions = page.get("tools")
            for definition in definitions if isinstance(definitions, list) else []:
                made = definition_to_tool(self._server, definition) if isinstance(definition, dict) else None
                found += [made] if made else []
                left_out += made is None
                await asyncio.sleep(0)  # calls of other servers continue between the definitions of a large page
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or len(found) + left_out > MOST_TOOLS:
                break
        self.left_out = left_out
        return tuple(found)

    async def call(self, tool: Tool, arguments: dict[str, Any], seconds: float) -> ToolOutcome:
        if self.closed:
            return failed("tool_unavailable", f"The connection to the tool server {self._server} has ended.")
        exchange = Exchange(self._most_bytes + PROTOCOL_BYTES)
        EXCHANGE.set(exchange)
        try:
            with anyio.fail_after(seconds):
                result = await self._client.session.send_request(offered.request(tool, arguments), RAW)
        except TimeoutError:
            return failed("tool_timed_out", f"{tool.full_name} did not answer within {seconds:.3g} s.")
        except (MCPError, ValidationError, RuntimeError) as error:
            return self._failure(tool, exchange, error)
        if result.get("resultType") == "input_required":
            return failed("tool_failed", f"{tool.full_name} asks the user a question, which a program cannot answer.")
        content, most, filtered = offered.content(tool, result), self._most_bytes, self._filtered()
        if self._weights.is_quick(tool.output_schema or {}, values_in(content)):
            return results.outcome(tool, content, most, filtered)
        async with self._slow_check:  # one at a time for each server, so that others keep their share of the processor
            return await asyncio.to_thread(results.outcome, tool, content, most, filtered)

    def _failure(self, tool: Tool, exchange: Exchange, error: Exception) -> ToolOutcome:
        code = error.code if isinstance(error, MCPError) else None
        if exchange.too_large or code == TOO_LARGE:
            return results.too_large(tool, self._most_bytes)
        if exchange.unsent is not None:
            return failed("tool_unavailable", f"The tool server {self._server} cannot be reached: {exchange.unsent}.")
        if exchange.broken is not None or code == types.CONNECTION_CLOSED:
            self._changed.set()  # the upstream then checks the connection
            return failed(
                "tool_outcome_unknown",
                f"The connection to {self._server} ended during the call; {tool.full_name} may have done its work.",
            )
        if exchange.refused is not None and code == types.INTERNAL_ERROR:
            return failed("tool_failed", f"The tool server {self._server} answered with status {exchange.refused}.")
        if code is None or code in INVALID:
            return failed("tool_result_invalid", f"The answer of {tool.full_name} is not valid MCP.")
        return failed("tool_failed", f"The tool server {self._server} refused the call: {_detail(error)}")

    async def changed(self, most_seconds: float) -> None:
        if not self.closed:
            with anyio.move_on_after(most_seconds):
                await self._changed.wait()
        self._changed.clear()
        if self.closed:
            raise LinkFailed("the connection has ended")

    async def follow(self) -> None:
        """Subscribe to changes of a server of the current era, until the server ends the subscription."""
        try:
            async with self._client.listen(tools_list_changed=True) as subscription:
                async for _ in subscription:
                    self._changed.set()
        except (ListenNotSupportedError, MCPError, RuntimeError, TimeoutError):
            return  # subscribed again from time to time


@asynccontextmanager
async def opened(
    transport: Any,
    server: str,
    connect_seconds: float,
    most_bytes: int,
    filtered: Callable[[], Callable[[str], str] | None],
    on_link: Callable[[McpLink], None] = lambda link: None,
) -> AsyncIterator[McpLink]:
    """Connect over a transport of the library. Raises :class:`LinkFailed`, also when the connection ends within."""
    link: McpLink

    async def note(message: IncomingMessage) -> None:
        link.note(message)

    client = Client(transport, client_info=CLIENT, message_handler=note, cache=None)
    link = McpLink(client, server, most_bytes, filtered)
    on_link(link)
    exchange = Exchange(ends=False)
    EXCHANGE.set(exchange)
    ended, cause = False, None
    try:
        with anyio.CancelScope() as connecting:
            connecting.deadline = anyio.current_time() + connect_seconds
            async with client:
                connecting.deadline = float("inf")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(link.follow)
                    try:
                        yield link
                    except BaseException as error:
                        cause = error
                        raise
                    finally:
                        ended = True
                        tasks.cancel_scope.cancel()
        if connecting.cancelled_caught:
            raise LinkFailed(f"no connection within {connect_seconds:g} s")
    except LinkFailed:
        raise
    except BaseExceptionGroup as group:
        other = group.split(LATE)[1]
        if ended and not isinstance(cause, LATE) and other is None:
            # The server answered a request that the end of the session had given up: what ended it still counts.
            if cause is not None:
                raise cause from group
            return
        ours = _only(group, LinkFailed)
        raise LinkFailed(_detail(ours) if ours else exchange.cause or _detail(other or group)) from group
    except (MCPError, OSError, ValidationError, RuntimeError, ValueError) as error:
        raise LinkFailed(exchange.cause or _detail(error)) from error


def _only(group: BaseExceptionGroup[BaseException], kind: type[BaseException]) -> BaseException | None:
    found: BaseException | None = group.subgroup(kind)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _detail(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error) or type(error).__name__).splitlines()[0][:LONGEST_DETAIL]
