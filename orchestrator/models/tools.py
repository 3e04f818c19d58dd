"""Tools that a program may call on the host: definitions, calls and their outcomes.

``schema`` values are JSON Schemas as in MCP. Arguments and results are JSON texts: only their checks parse them, all
other code passes them on unchanged.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator

from orchestrator.models.frozen import Frozen

ServerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]{1,128}$")]
Schema = dict[str, Any]
CALLER = "caller"  # the server name of tools that the execution's client fulfils
BUILT_IN = "mayfly"  # the server name of calls that the worker answers itself


class Hints(Frozen):
    """Hints about a tool, from its server or the operator's declaration. A missing hint has the cautious value."""

    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True


class Tool(Frozen):
    """A tool of a server. Its full name is ``server.name``."""

    server: ServerName
    name: ToolName
    title: str = ""
    description: str = ""
    input_schema: Schema
    output_schema: Schema | None = None
    hints: Hints = Hints()

    @property
    def full_name(self) -> str:
        """``server.name``, as grants and records write it."""
        return f"{self.server}.{self.name}"


class CallerTool(Frozen):
    """A tool that the client of an execution fulfils: part of a submission, in the form of MCP's definitions."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ToolName
    description: Annotated[str, StringConstraints(max_length=4096)] = ""
    input_schema: Schema = Field(alias="inputSchema")
    output_schema: Schema | None = Field(None, alias="outputSchema", exclude_if=lambda schema: schema is None)


def _kind(value: Any) -> str:
    return "grant" if isinstance(value, str) else "definition"


Grant = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z0-9][a-z0-9_-]{0,62}\.(\*|[A-Za-z0-9_./-]{1,128}))$")]
# The tools of an execution: a pattern over the servers' tools, or a tool that its client fulfils.
Granted = Annotated[Annotated[Grant, Tag("grant")] | Annotated[CallerTool, Tag("definition")], Discriminator(_kind)]
ServerState = Literal["starting", "ready", "down", "quarantined"]


class Catalogue(Frozen):
    """The tools of one server for one tenant, as its broker last listed them.

    ``digest`` is the SHA-256 of the canonical JSON of ``tools``. Tools of a quarantined catalogue cannot be called.
    """

    server: ServerName
    state: ServerState
    tools: tuple[Tool, ...] = ()
    digest: str = ""
    detail: str = ""
    since: datetime


class ToolFailure(Frozen):
    """The failure of a call, which becomes the program's ``ToolError``. It names only what the tenant may see."""

    code: str
    message: str
    valid_parameters: tuple[str, ...] = ()
    did_you_mean: tuple[str, ...] = ()


class ToolCall(Frozen):
    """One call, made by a worker for a running attempt, or by the API for a direct call (``execution`` is None).

    ``id`` is random, 128 bits. ``reply_to`` names the waiting process. ``expires_at`` is the call's deadline. Only a
    direct call has ``principal`` and ``key``; for other calls the execution's record has them.
    """

    id: str
    tenant: str
    server: str
    tool: str
    arguments: str
    reply_to: str
    expires_at: datetime
    execution: str | None = None
    attempt: int = 0
    principal: str | None = None
    key: str | None = None


class ToolOutcome(Frozen):
    """The end of a call: the JSON text of its result, or the failure."""

    result: str | None = None
    failure: ToolFailure | None = None


class CallRecord(Frozen):
    """A call in an execution's record, without its arguments unless the tenant keeps them.

    ``outcome`` is ``ok`` or the failure's code; ``seconds`` the wait for the outcome, as the worker measured it.
    """

    id: str
    tool: str
    request_bytes: int
    response_bytes: int
    seconds: float
    outcome: str
    arguments: str | None = None


class CallerError(Frozen):
    """The client's reason for a call without a result; the program's ``ToolError`` has the same text."""

    message: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    code: Literal["tool_failed", "tool_denied", "tool_unavailable", "tool_timed_out"] = "tool_failed"


class CallerAnswer(Frozen):
    """A client's answer to a ``tool_call`` event: either ``result``, any JSON, or ``error``."""

    result: Any = None
    error: CallerError | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> CallerAnswer:
        if ("result" in self.model_fields_set) == (self.error is not None):
            raise ValueError("needs either result or error")
        return self
