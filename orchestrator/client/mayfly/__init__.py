"""The SDK of Mayfly: a blocking client, a client for asyncio, and their typed answers.

::

    from mayfly import Client

    with Client("http://127.0.0.1:8000", token) as client:
        execution = client.run("print(1)")
        print(execution.state, execution.stdout)

:class:`Client` and :class:`AsyncClient` have the same calls, each written once (:mod:`mayfly.calls`); every exception
is a :class:`MayflyError` (:mod:`mayfly.errors` draws the tree). Nothing of the server is imported, and asyncio and
httpx2 only with :class:`AsyncClient`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mayfly.catalogue.searching import FoundTools, ToolDescription
from mayfly.client import Client
from mayfly.errors import (
    ApiUnreachable,
    Conflict,
    Forbidden,
    InvalidConfiguration,
    InvalidRequest,
    MayflyError,
    NotFound,
    NotMayfly,
    PolicyViolation,
    RateLimited,
    Refused,
    ServerError,
    StreamBroken,
    Unauthenticated,
    Unavailable,
    UnsafeArtifact,
    WaitTimeout,
)
from mayfly.inputs import STREAMED, Blob, Options
from mayfly.results import (
    TERMINAL,
    Artifact,
    CallRecord,
    Compilation,
    Environment,
    Event,
    Execution,
    ExecutionFailed,
    Key,
    Limits,
    OmittedResult,
    Page,
    RejectedArtifact,
    ResultBundle,
    Timings,
    Usage,
)
from mayfly.sse import StreamEvent, ToolCall

if TYPE_CHECKING:
    from mayfly.asynchronous import AsyncClient
    from mayfly.caller_tools.definition import Tool, Tools, tool

__all__ = [
    "STREAMED",
    "TERMINAL",
    "ApiUnreachable",
    "Artifact",
    "AsyncClient",
    "Blob",
    "CallRecord",
    "Client",
    "Compilation",
    "Conflict",
    "Environment",
    "Event",
    "Execution",
    "ExecutionFailed",
    "Forbidden",
    "FoundTools",
    "InvalidConfiguration",
    "InvalidRequest",
    "Key",
    "Limits",
    "MayflyError",
    "NotFound",
    "NotMayfly",
    "OmittedResult",
    "Options",
    "Page",
    "PolicyViolation",
    "RateLimited",
    "Refused",
    "RejectedArtifact",
    "ResultBundle",
    "ServerError",
    "StreamBroken",
    "StreamEvent",
    "Timings",
    "Tool",
    "ToolCall",
    "ToolDescription",
    "Tools",
    "Unauthenticated",
    "Unavailable",
    "UnsafeArtifact",
    "Usage",
    "WaitTimeout",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":
        from mayfly.asynchronous import AsyncClient  # imported here: a program that blocks does without asyncio

        return AsyncClient
    if name in ("Tool", "Tools", "tool"):
        from mayfly.caller_tools import definition  # imported here: most programs call no tools

        return getattr(definition, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
