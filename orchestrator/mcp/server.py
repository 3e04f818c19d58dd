"""The MCP server: handlers that read the caller from the HTTP request, call a tool, and answer.

One endpoint serves both eras of the protocol: self-contained requests (2026-07-28), and older requests after
``initialize``. A tool's failure is a tool's result; answers contain no internals.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import structlog
from mcp import MCPError
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
)
from pydantic import ValidationError
from starlette.requests import Request

from orchestrator import __version__, metrics
from orchestrator.errors import MayflyError, NotFound, Unavailable, ValidationFailed
from orchestrator.identity.authorization import AGENTS, authorize
from orchestrator.mcp import executing, tasks
from orchestrator.mcp.answers import INTERNAL, failure, refusal, state_result
from orchestrator.mcp.arguments import (
    ARGUMENTS,
    MOST_ID,
    MOST_ID_BITS,
    CancelExecution,
    ExecuteCode,
    GetExecution,
    ReadOutput,
    SearchTools,
    is_short,
    parse,
)
from orchestrator.mcp.definitions import BY_NAME, TOOLS
from orchestrator.mcp.environments import list_environments
from orchestrator.mcp.outputs import resources
from orchestrator.mcp.outputs.reading import read_output
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.mcp.progress import Progress
from orchestrator.mcp.tool_search import search_tools
from orchestrator.service.security_reports import AUDITED

INSTRUCTIONS = "Runs programs in sandboxes without network. Each call has a new sandbox: send files again."
LIST_MS = 3_600_000  # the catalogue changes with a release only
REPORT_SECONDS = 0.5
TOKEN_BOUND = f"has at most {MOST_ID} characters, or is a number of {MOST_ID_BITS} bits: each notification repeats it"
ID = re.compile("[0-9a-f]{32}")
Context = ServerRequestContext[Any, Any]
T = TypeVar("T")
log = structlog.get_logger()


class Tools:
    """The handlers of the protocol's methods."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def list_tools(self, context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        """All tools."""
        return ListToolsResult(tools=list(TOOLS))

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Call a tool; every error is the tool's result, which clients show to their models."""
        if params.name not in BY_NAME:
            known = ", ".join(BY_NAME)
            return failure(f"There is no tool {params.name[:100]!r}; the tools are: {known}.")
        began, outcome = time.monotonic(), "cancelled"
        try:
            result = await self._answered(context, params.name, params.arguments or {})
            outcome = "error" if result.is_error else "ok"
        finally:
            metrics.mcp_calls.labels(params.name, outcome).inc()
            metrics.mcp_seconds.labels(params.name).observe(time.monotonic() - began)
        return result

    async def list_prompts(self, context: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
        """No prompts: the method exists for clients that call it."""
        return ListPromptsResult(prompts=[])

    async def list_resources(self, context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        """The newest files."""
        return await self._guarded(context, partial(resources.list_resources, self._parts, caller_of(context)))

    async def list_templates(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """The forms of resources' addresses."""
        return resources.list_templates()

    async def read_resource(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """One output or file."""
        uri = str(params.uri)
        return await self._guarded(context, partial(resources.read_resource, self._parts, caller_of(context), uri), uri)

    async def get_task(self, context: Context, params: tasks.TaskParams) -> dict[str, Any]:
        """A task, with its result."""
        tasks.checked(context, params)
        return await self._guarded(
            context, partial(tasks.get, self._parts, caller_of(context), params.task_id), params.task_id
        )

    async def cancel_task(self, context: Context, params: tasks.TaskParams) -> dict[str, Any]:
        """Stop a task."""
        tasks.checked(context, params)
        call = partial(tasks.cancel, self._parts, caller_of(context), params.task_id)
        return await self._guarded(context, call, params.task_id)

    async def update_task(self, context: Context, params: tasks.TaskParams) -> dict[str, Any]:
        """Accept input for a task, which no task needs."""
        tasks.checked(context, params)
        await self.get_task(context, params)
        return {"resultType": "complete"}

    async def with_task(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Middleware: answer with the task, if the call became a task; the library has no such result."""
        result = await call_next(ctx)
        state = getattr(ctx.request, "state", None)
        task: dict[str, Any] | None = getattr(state, "mcp_task", None)
        return result if task is None else task

    async def guard(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Middleware: count an unexpected error, log its trace, and answer without details."""
        try:
            return await call_next(ctx)
        except (MCPError, ValidationError):  # the second of parameters
            raise
        except Exception as error:  # the boundary to the client, as in the REST API's table of errors
            report_crash(error, ctx.method)
            raise MCPError(INTERNAL_ERROR, INTERNAL) from error

    async def _guarded(self, context: Context, call: Callable[[], Awaitable[T]], named: str = "") -> T:
        """Authorize and call, for methods other than tools; Mayfly's errors become the protocol's."""
        try:
            authorize(caller_of(context).principal, AGENTS[context.method])
            return await call()
        except MayflyError as error:
            metrics.refused.labels(error.code).inc()
            self._report(context, error, AGENTS[context.method], named)
            if error.status >= 500 and not isinstance(error, Unavailable):
                log.error("mcp.failed", method=context.method, code=error.code, detail=error.message)
                raise MCPError(INTERNAL_ERROR, "An internal error of Mayfly occurred, and was logged.") from error
            code = INTERNAL_ERROR if isinstance(error, Unavailable) else INVALID_PARAMS
            raise MCPError(
                code, f"{error.code}: {error.message}", {"uri": named} if "://" in named else None
            ) from error
        except ValidationError as error:  # of stored data: the library would blame the parameters
            report_crash(error, context.method)
            raise MCPError(INTERNAL_ERROR, INTERNAL) from error

    async def _answered(self, context: Context, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        try:
            return await self._called(context, name, arguments)
        except MayflyError as error:
            metrics.refused.labels(error.code).inc()
            self._report(context, error, AGENTS[name], str(arguments.get("execution_id", "")))
            if error.status >= 500 and not isinstance(error, Unavailable):
                log.error("mcp.failed", tool=name, code=error.code, detail=error.message)
            return refusal(error)
        except Exception as error:  # the boundary to the client, as in the REST API's table of errors
            report_crash(error, "tools/call", tool=name)
            return failure(INTERNAL)

    async def _called(self, context: Context, name: str, given: Mapping[str, Any]) -> CallToolResult:
        parts, caller = self._parts, caller_of(context)
        authorize(caller.principal, AGENTS[name])
        token = None if context.meta is None else context.meta.get("progress_token")
        if token is not None and not is_short(token):
            raise ValidationFailed([("_meta.progressToken", TOKEN_BOUND)])
        progress = Progress(context.session.report_progress if token is not None else None)
        match parse(ARGUMENTS[name], given):
            case ExecuteCode() as arguments:
                if tasks.declares_tasks(context):
                    execution = await executing.submit(parts, caller, arguments)
                    request_of(context).state.mcp_task = tasks.created(parts, execution)
                    return state_result(execution.id, execution.state)
                return await executing.execute_code(parts, caller, arguments, progress)
            case GetExecution() as arguments:
                return await executing.get_execution(parts, caller, arguments, progress)
            case CancelExecution() as arguments:
                return await executing.cancel_execution(parts, caller, arguments)
            case ReadOutput() as arguments:
                return await read_output(parts, caller, arguments)
            case SearchTools() as arguments:
                return await search_tools(parts, caller, arguments)
        return await list_environments(parts, caller)

    def _report(self, context: Context, error: MayflyError, action: str, named: str) -> None:
        """Report a refusal after the answer, as REST does: the answer's time must not reveal other tenants' ids."""
        reports, principal = self._parts.reports, caller_of(context).principal
        if isinstance(error, NotFound) and error.owner is not None:
            id = ID.search(named)
            write = partial(reports.cross_tenant_access, principal, error.owner, id[0] if id else "", action)
        elif isinstance(error, AUDITED):
            write = partial(reports.forbidden, principal, action, error.code)
        else:
            return
        loop, origin = asyncio.get_running_loop(), copy_context()
        loop.call_later(REPORT_SECONDS, loop.run_in_executor, None, partial(origin.run, write))


def report_crash(error: Exception, method: str, **about: str) -> None:
    """Count and log an internal error; the trace is only in the log."""
    metrics.refused.labels("internal").inc()
    log.error("mcp.crashed", method=method, error=type(error).__name__, exc_info=error, **about)


def request_of(context: Context) -> Request:
    """The HTTP request that this message came in."""
    if not isinstance(context.request, Request):
        raise TypeError("Messages are served over HTTP only.")
    return context.request


def caller_of(context: Context) -> Caller:
    """The caller of this request, as the API authenticated it."""
    found: Caller = request_of(context).state.mcp_caller
    return found


def make_server(parts: Parts) -> Server[Any]:
    """The server over the use cases. Raises ``RuntimeError`` for a tool that is not in the table of actions."""
    if unknown := BY_NAME.keys() - AGENTS.keys():
        raise RuntimeError(f"Tools without an action: {sorted(unknown)}")
    tools = Tools(parts)
    hint = CacheHint(LIST_MS, "public")
    server: Server[Any] = Server(
        "mayfly",
        version=__version__,
        title="Mayfly",
        instructions=INSTRUCTIONS,
        cache_hints={
            "tools/list": hint,
            "server/discover": hint,
            "prompts/list": hint,
            "resources/templates/list": hint,
        },
        get_tool_input_schema=lambda name: None,  # no tool repeats its arguments in headers
        on_list_tools=tools.list_tools,
        on_call_tool=tools.call_tool,
        on_list_prompts=tools.list_prompts,
        on_list_resources=tools.list_resources,
        on_list_resource_templates=tools.list_templates,
        on_read_resource=tools.read_resource,
    )
    server.extensions = {tasks.EXTENSION: {}}
    for method, handler in (
        ("tasks/get", tools.get_task),
        ("tasks/cancel", tools.cancel_task),
        ("tasks/update", tools.update_task),
    ):
        server.add_request_handler(method, tasks.TaskParams, handler)
    server.middleware = [tools.guard, tools.with_task]  # without spans, which nothing collects
    return server
