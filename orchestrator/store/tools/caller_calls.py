"""Calls of tools that the client of an execution fulfils itself, without a broker.

A call is a hash as in :mod:`.calls`, and an event of type ``tool_call`` on the execution's stream, written by the same
script. A large event is in the hash until the call ends; the stream has ``null`` in place of its arguments.

The client's answer is a compare-and-set: the first counts, and a repetition of the same answer has no effect. The
outcome goes to the waiting process, as from a broker. At the deadline the waiting process fails the call; later answers
are refused, and after :data:`orchestrator.store.scripts.SETTLED_SECONDS` the call is unknown.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Literal

from orchestrator.errors import StaleAttempt, StoreFull
from orchestrator.models.tools import CallerTool, Granted, Schema, ToolCall, ToolOutcome
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection

EVENT_BYTES = 16 * 1024  # of one event in the stream, whose beginning is read with every read of the execution
Answered = Literal["ok", "unknown", "answered", "late", "ended"]
NO_ROOM = "Redis, or the tenant's share of it, has no memory for a call or its result; try again a little later."


class CallerCalls:
    """The calls of every tenant's clients. Thread-safe."""

    def __init__(self, connection: StoreConnection, share: float) -> None:
        """``share``: the part of Redis's ``maxmemory`` that calls and results may fill."""
        self._redis: Any = connection
        self._share = share
        self._call = connection.script(scripts.CALL_CALLER)
        self._answer = connection.script(scripts.ANSWER_CALL)
        self._answer_when_full = connection.script(scripts.ANSWER_CALL_WHEN_FULL)

    def submit(self, call: ToolCall) -> None:
        """Append the event of a call to its execution's stream.

        Raises :class:`StaleAttempt` unless the execution is running in that attempt, :class:`StoreFull`, and
        ``ValueError`` for arguments that are not JSON; then nothing was written.
        """
        seconds = (call.expires_at - datetime.now(UTC)).total_seconds()
        event, whole = event_of(call), b""
        if len(event) > EVENT_BYTES:
            event, whole = event_of(call.model_copy(update={"arguments": "null"})), event
        answer = self._call(
            args=[
                call.id, call.tenant, call.tool, event, call.reply_to, seconds, call.execution or "", call.attempt,
                self._share, whole,
            ]
        )  # fmt: skip
        if answer == 0:
            raise StaleAttempt("The attempt that called a tool no longer runs.")
        if answer == 2:
            raise StoreFull(NO_ROOM)

    def output_schema(self, id: str, execution: str) -> Schema | None:
        """The schema of a call's result, if any; ``None`` for an unknown call, too."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hget(keys.tool_call(id), "tool")
            pipe.hget(keys.execution(execution), "tool_outputs")
            tool, outputs = pipe.execute()
        schemas: dict[str, Schema] = json.loads(outputs or b"{}")
        return None if tool is None else schemas.get(tool.decode(errors="replace"))

    def answer(self, id: str, tenant: str, execution: str, outcome: ToolOutcome) -> Answered:
        """Settle a call with the client's outcome. Raises :class:`StoreFull` without memory for the result."""
        failure = outcome.failure.model_dump_json() if outcome.failure else ""
        result = (outcome.result or "").encode()
        digest = hashlib.sha256(b"%b\0%b" % (failure.encode(), result)).hexdigest()
        script = self._answer if result else self._answer_when_full
        answer = script(args=[id, tenant, execution, result, failure, digest, self._share]).decode()
        if answer == "full":
            raise StoreFull(NO_ROOM)
        found: Answered = answer
        return found


def event_of(call: ToolCall) -> bytes:
    """The event of a call on the execution's stream, as JSON. Raises ``ValueError`` for arguments that are not JSON."""
    event = {
        "call_id": call.id,
        "name": call.tool,
        "arguments": json.loads(call.arguments),
        "deadline": call.expires_at.astimezone(UTC).isoformat(),
        "attempt": call.attempt,
    }
    return json.dumps(
        event, allow_nan=False, separators=(",", ":")
    ).encode()  # ASCII: for some readers U+2028 ends a line


def output_schemas(tools: tuple[Granted, ...]) -> str:
    """The result schemas of an execution's own tools by name, from its record; empty without own tools."""
    own = {tool.name: tool.output_schema for tool in tools if isinstance(tool, CallerTool) and tool.output_schema}
    return json.dumps(own, separators=(",", ":")) if own else ""
