"""The calls of one attempt: their bounds, their records, and how long the program waited for them."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.models.tools import CallRecord, ToolFailure, ToolOutcome
from orchestrator.settings import Settings
from worker.agent.call_stream import Request

MAX_REFUSED = 1000  # calls beyond the permitted number that are still answered
KEPT_ARGUMENTS_BYTES = 4096  # kept in the records of tenants that keep arguments


class Bounds(NamedTuple):
    """The bounds on the calls of one execution."""

    calls: int
    at_once: int
    request_bytes: int
    response_bytes: int
    all_bytes: int
    seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """The bounds that the settings choose."""
        return cls(
            settings.tool_calls,
            settings.tool_calls_at_once,
            settings.tool_request_bytes,
            settings.tool_response_bytes,
            settings.tool_bytes,
            settings.tool_seconds,
        )


class Waiting:
    """The time for which a program has waited: at least one call is submitted and has no outcome. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open, self._since, self._seconds = 0, 0.0, 0.0

    def begin(self) -> None:
        """Record a submitted call."""
        with self._lock:
            if not self._open:
                self._since = time.monotonic()
            self._open += 1

    def end(self) -> None:
        """Record a call's outcome."""
        with self._lock:
            self._open -= 1
            if not self._open:
                self._seconds += time.monotonic() - self._since

    def seconds(self, now: float) -> tuple[float, bool]:
        """The seconds until ``now`` (monotonic), and whether a call is open."""
        with self._lock:
            return self._seconds + (max(0.0, now - self._since) if self._open else 0.0), bool(self._open)


@dataclass
class OpenCall:
    """A call whose answer is not sent yet. ``waits``: the call was submitted and has no outcome."""

    id: str
    request: Request
    began: float
    waits: bool = False
    answered: bool = False


class Ledger:
    """The calls of one attempt. Used by one thread, except for :meth:`records`."""

    def __init__(self, bounds: Bounds, keeps_arguments: bool = False) -> None:
        self.bounds, self._keeps_arguments = bounds, keeps_arguments
        self.open: dict[str, OpenCall] = {}
        self.count = 0
        self._bytes = 0
        self._records: dict[str, CallRecord] = {}
        self._lock = threading.Lock()
        self.waiting = Waiting()

    @property
    def is_flooded(self) -> bool:
        """Whether the program continues to call far beyond the permitted number of calls."""
        return self.count > self.bounds.calls + MAX_REFUSED

    def records(self) -> tuple[CallRecord, ...]:
        """Every call within the number of calls, in order; an open call as cancelled. From any thread."""
        with self._lock:
            return tuple(self._records.values())

    def begin(self, request: Request) -> OpenCall:
        """Give a call its id."""
        call = OpenCall(secrets.token_hex(16), request, time.monotonic())
        self.count += 1
        self._bytes += request.size
        self.open[call.id] = call
        self._record(call, "tool_cancelled", 0)
        return call

    def submitted(self, call: OpenCall) -> None:
        """Record that the program waits for the outcome of this call."""
        call.waits = True
        self.waiting.begin()

    def refusal(self, request: Request) -> ToolFailure | None:
        """The failure of a call that exceeds a bound or has an impossible name; ``None`` for other calls."""
        bounds = self.bounds
        if self.count > bounds.calls:
            message = f"An execution makes at most {bounds.calls} calls. Do more with each call, or submit another."
            return ToolFailure(code="tool_calls_exceeded", message=message)
        if request.body is None:
            message = f"The arguments have {request.size} bytes; a call may have at most {bounds.request_bytes}."
            return ToolFailure(code="tool_bytes_exceeded", message=message)
        if self._bytes > bounds.all_bytes:
            return self._too_many_bytes()
        if not request.has_valid_names:
            return ToolFailure(code="tool_unknown", message=f"There is no tool {request.name!r}.")
        return None

    def settle(self, call: OpenCall, outcome: ToolOutcome) -> tuple[ToolFailure | None, bytes]:
        """End a call. Returns its failure (also for a result beyond the bounds), and the body of its answer."""
        if call.waits:
            self.waiting.end()
        call.waits, call.answered = False, True
        result = (outcome.result or "").encode()
        failure = outcome.failure or self._excess(len(result))
        if failure is not None:
            self._record(call, failure.code, 0)
            return failure, failure.model_dump_json().encode()
        self._bytes += len(result)
        self._record(call, "ok", len(result))
        return None, result

    def _excess(self, size: int) -> ToolFailure | None:
        bounds = self.bounds
        if size > bounds.response_bytes:
            message = f"The result has {size} bytes; a call may have at most {bounds.response_bytes}. Ask for less."
            return ToolFailure(code="tool_result_too_large", message=message)
        return self._too_many_bytes() if self._bytes + size > bounds.all_bytes else None

    def _too_many_bytes(self) -> ToolFailure:
        most = self.bounds.all_bytes
        message = f"An execution's calls have at most {most} bytes of arguments and results together. Ask for less."
        return ToolFailure(code="tool_bytes_exceeded", message=message)

    def _kept(self, body: bytes | None) -> str | None:
        if not self._keeps_arguments or body is None or len(body) > KEPT_ARGUMENTS_BYTES:
            return None
        return body.decode(errors="replace")

    def _record(self, call: OpenCall, outcome: str, response_bytes: int) -> None:
        if call.id not in self._records and len(self._records) >= self.bounds.calls:
            return  # a call beyond the permitted number has no record; its answer states the bound
        record = CallRecord(
            id=call.id,
            tool=call.request.name,
            request_bytes=call.request.size,
            response_bytes=response_bytes,
            seconds=round(time.monotonic() - call.began, 6),
            outcome=outcome,
            arguments=self._kept(call.request.body),
        )
        with self._lock:
            self._records[call.id] = record
