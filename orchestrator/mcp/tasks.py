"""The tasks extension (SEP-2663, ``io.modelcontextprotocol/tasks``): a call becomes a task whose id is the execution's.

A client that declares the extension immediately gets a task for ``execute_code``, and polls with ``tasks/get``. The
task is the execution, without further state: any API process answers, and a closed connection does not stop the task.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import METHOD_NOT_FOUND, RequestParams
from mcp_types.jsonrpc import HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ConfigDict, Field

from orchestrator.errors import AlreadyFinished
from orchestrator.mcp.answers import execution_result
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.models import Execution
from orchestrator.states import TERMINAL, State

EXTENSION = "io.modelcontextprotocol/tasks"
POLL_MS = 500
STATUS = {State.SUCCEEDED: "completed", State.FAILED: "completed", State.CANCELLED: "cancelled"}
Context = ServerRequestContext[Any, Any]


class TaskParams(RequestParams):
    """A task's id. ``inputResponses`` of ``tasks/update`` are accepted and ignored."""

    model_config = ConfigDict(populate_by_name=True, extra="ignore")

    task_id: str = Field(alias="taskId", max_length=128)


def declares_tasks(context: Context) -> bool:
    """Whether this request's client supports tasks."""
    capabilities = context.session.client_capabilities
    extensions = getattr(capabilities, "extensions", None) or {}
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS and EXTENSION in extensions


def checked(context: Context, params: TaskParams) -> None:
    """Raise ``MCPError`` for a client without the extension, or a header that names another task."""
    if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise MCPError(METHOD_NOT_FOUND, "Method not found", context.method)
    if not declares_tasks(context):
        needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, f"The client did not declare {EXTENSION}.", needed)
    header = context.request.headers.get(MCP_NAME_HEADER) if context.request is not None else None
    if header is not None and decode_header_value(header) != params.task_id:
        raise MCPError(HEADER_MISMATCH, f"{MCP_NAME_HEADER} names another task than the body's taskId")


def created(parts: Parts, execution: Execution) -> dict[str, Any]:
    """The answer to a call that became a task. A client polls at :data:`POLL_MS`."""
    return {**_fields(parts, execution), "resultType": "task"}


async def get(parts: Parts, caller: Caller, id: str) -> dict[str, Any]:
    """A task, with the tool's result once it has ended."""
    execution = await parts.threads.run(caller.tenant, partial(parts.results.get, caller.principal, id))
    found = {**_fields(parts, execution), "resultType": "complete"}
    if found["status"] == "failed":
        found["error"] = {"code": -32603, "message": execution.message or f"The execution ended: {execution.reason}."}
    if found["status"] != "completed":
        return found
    rendering = execution_result(parts, caller, execution, None)
    del execution  # the rendering keeps no output while it waits for its place
    found["result"] = (await rendering).model_dump(by_alias=True, mode="json", exclude_none=True)
    return found


async def cancel(parts: Parts, caller: Caller, id: str) -> dict[str, Any]:
    """Request a task's end; no effect on an ended task."""
    with suppress(AlreadyFinished):
        await parts.threads.run(caller.tenant, partial(parts.service.cancel, caller.principal, id))
    return {"resultType": "complete"}


def _fields(parts: Parts, execution: Execution) -> dict[str, Any]:
    state = State(execution.state)
    status = STATUS.get(state, "failed") if state in TERMINAL else "working"
    updated = execution.finished_at or execution.started_at or execution.created_at
    return {
        "taskId": execution.id,
        "status": status,
        "statusMessage": execution.state if not execution.reason else f"{execution.state}: {execution.reason}",
        "createdAt": execution.created_at.isoformat(),
        "lastUpdatedAt": (updated if state in TERMINAL else datetime.now(UTC)).isoformat(),
        "ttlMs": int(parts.settings.retention_seconds * 1000),
        "pollIntervalMs": POLL_MS,
    }
