"""A program's line for its calls of tools: from its bytes to the store, and outcomes back.

Theory of operation
===================
The session's thread passes on the frames of the line; the thread that reads outcomes (``Replies``) passes on outcomes.
Both only check and queue them. One thread for each attempt, started with its first call, does the rest, so that neither
Redis nor a program that does not read its answers delays output, or another attempt.

*Bounds.* The agent sends at most ``CALL_WINDOW_BYTES`` beyond the parsed bytes of the line. Parsing pauses while
``at_once`` calls are open, so further calls wait in the program. Answers are sent only as the program takes them. A
call beyond another bound is answered with its failure. The worker stops reading a line with malformed bytes, or with
far more calls than allowed.

*Trust.* The worker does not trust the content of a call: the worker makes the call's id, and takes tenant, execution
and attempt from its own claim. The broker permits or refuses the call by the signed specification.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from orchestrator.errors import FrameError, RuntimeUnavailable, StaleAttempt, StoreFull, StoreUnavailable
from orchestrator.models.security import Refusal, SecurityEvent
from orchestrator.models.tools import BUILT_IN, CallRecord, ToolCall, ToolFailure, ToolOutcome
from orchestrator.store.executions.records import Claim
from worker.agent.call_stream import CallStream, Malformed, Request, answer
from worker.agent.frames import Frame, FromAgent, ToAgent, encode
from worker.agent.requests import CALL_WINDOW_BYTES
from worker.attempt.feeding import PIECE_BYTES, SEND_SECONDS, WINDOW_BYTES
from worker.attempt.incidents import Incidents
from worker.attempt.tools.ledger import Bounds, Ledger, OpenCall

LATE_SECONDS = 1.0  # after a call's deadline, in which its broker may still settle the call
DENIED = ("tool_unknown", "tool_denied")
OVER = ToolFailure(code="tool_cancelled", message="The execution has ended.")
TIMED_OUT = ToolFailure(code="tool_timed_out", message="The call has no outcome within its deadline.")
UNKNOWN = ToolFailure(
    code="tool_outcome_unknown",
    message="The store was unavailable during the submission; the tool may have done its work. Check its effect first.",
)
log = structlog.get_logger()


class Door(Protocol):
    """The way from one attempt to the tools of its tenant."""

    @property
    def reply_to(self) -> str:
        """The name of this process, to which outcomes are sent."""

    def submit(self, call: ToolCall, on_outcome: Callable[[ToolOutcome], None]) -> None:
        """Submit a call. Raises :class:`StaleAttempt`, :class:`StoreUnavailable`, :class:`StoreFull`, and
        ``ValueError`` for arguments that are not JSON.
        """

    def built_in(self, tool: str, arguments: str) -> ToolOutcome:
        """The outcome of a call that the worker answers itself."""

    def forget(self, call: ToolCall) -> None:
        """Stop waiting for a call, and cancel it. Never raises."""

    def cancel(self) -> None:
        """Cancel the attempt's open calls. Never raises."""


class Calling:
    """The line of one attempt. ``receive`` and ``close`` are for its session's thread."""

    def __init__(
        self,
        claim: Claim,
        tenant: str,
        bounds: Bounds,
        door: Door,
        send: Callable[[bytes, float], None],
        incidents: Incidents,
        keeps_arguments: bool = False,
    ) -> None:
        """``keeps_arguments``: the records have the arguments of calls."""
        self._claim, self._tenant, self._door = claim, tenant, door
        self._send, self._incidents = send, incidents
        self._events: queue.SimpleQueue[tuple[str, object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stream, self._ledger = CallStream(bounds.request_bytes), Ledger(bounds, keeps_arguments)
        self._received_bytes, self._room_bytes = 0, CALL_WINDOW_BYTES
        self._sent_bytes = self._acknowledged_bytes = self._taken_bytes = 0
        self._submitted: dict[str, ToolCall] = {}  # submitted calls without an outcome
        self._answers: deque[tuple[OpenCall, memoryview]] = deque()
        self._readable, self._closed = True, False

    def receive(self, frame: Frame) -> None:
        """Process a frame of the line. Raises :class:`FrameError` for a frame that an agent never sends."""
        if frame.kind is FromAgent.CALL_DATA:
            self._received_bytes += len(frame.payload)
            if self._received_bytes > self._room_bytes:
                raise FrameError(f"CALL_DATA beyond the {self._room_bytes} bytes that CALL_ROOM permits")
            self._events.put(("data", frame.payload))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="calls", daemon=True)
                self._thread.start()
            return
        taken = frame.json().get("bytes")
        if not isinstance(taken, int) or isinstance(taken, bool):
            raise FrameError("ANSWER_TAKEN without a number of bytes")
        if not self._acknowledged_bytes < taken <= self._sent_bytes:
            raise FrameError(
                f"ANSWER_TAKEN of {taken} bytes after {self._acknowledged_bytes}, of {self._sent_bytes} that were sent"
            )
        self._acknowledged_bytes = taken
        self._events.put(("taken", taken))

    def close(self) -> None:
        """End the line, and have the open calls cancelled. Idempotent."""
        self._closed = True
        self._events.put(None)

    def waited_seconds(self, now: float) -> tuple[float, bool]:
        """The seconds for which the program has waited for outcomes until ``now``, and whether it waits."""
        return self._ledger.waiting.seconds(now)

    def records(self) -> tuple[CallRecord, ...]:
        """Every call, in order; an open call as cancelled."""
        return self._ledger.records()

    def _run(self) -> None:
        try:
            while not self._closed:
                match self._next_event():
                    case ("data", bytes(data)):
                        self._stream.feed(data)
                    case ("taken", int(count)):
                        self._taken_bytes = count
                    case (str(id), ToolOutcome() as outcome):
                        self._submitted.pop(id, None)
                        self._settle(self._ledger.open.get(id), outcome)
                if not self._closed:
                    self._settle_overdue()
                    self._advance()
        except RuntimeUnavailable as error:  # the sandbox has ended, or its agent reads no more
            log.debug("tool_answer.not_taken", detail=error.message)
        except Exception:
            log.exception("tools.line_failed", execution=self._claim.id)
        finally:
            for id, call in self._submitted.items():
                self._door.forget(call)
                self._settle(self._ledger.open.get(id), ToolOutcome(failure=OVER))
            self._door.cancel()

    def _next_event(self) -> tuple[str, object] | None:
        if not self._submitted:
            return self._events.get()
        first = min(self._ledger.open[id].began for id in self._submitted)
        left = first + self._ledger.bounds.seconds + LATE_SECONDS - time.monotonic()
        try:
            return self._events.get(timeout=max(0.01, left))
        except queue.Empty:
            return None

    def _settle_overdue(self) -> None:
        before = time.monotonic() - self._ledger.bounds.seconds - LATE_SECONDS
        for id in [id for id in self._submitted if self._ledger.open[id].began < before]:
            self._door.forget(self._submitted.pop(id))
            self._settle(self._ledger.open[id], ToolOutcome(failure=TIMED_OUT))

    def _advance(self) -> None:
        """Process calls as far as the bounds allow, and send answers as far as the program takes them."""
        while True:
            self._send_answers()
            if not self._readable or len(self._ledger.open) >= self._ledger.bounds.at_once:
                return
            if self._ledger.is_flooded:
                break
            try:
                if (request := self._stream.next()) is None:
                    break
                self._take(request)
            except Malformed as error:
                self._stop_reading(f"the program wrote {error}")
        self._give_room()

    def _give_room(self) -> None:
        if self._stream.consumed_bytes > 2 * self._ledger.bounds.all_bytes or self._ledger.is_flooded:
            self._stop_reading("the program writes far more than its calls may have")
            return
        room = self._stream.wanted_bytes + CALL_WINDOW_BYTES
        if room - self._room_bytes >= CALL_WINDOW_BYTES // 2:
            self._room_bytes = room  # before the send: the agent may use the room at once
            self._send(encode(ToAgent.CALL_ROOM, {"bytes": room}), SEND_SECONDS)

    def _stop_reading(self, why: str) -> None:
        self._readable = False
        log.info("tools.line_closed", execution=self._claim.id, detail=why)

    def _take(self, request: Request) -> None:
        if any(call.request.seq == request.seq for call in self._ledger.open.values()):
            raise Malformed("the number of a call that is open")
        call = self._ledger.begin(request)
        if failure := self._ledger.refusal(request):
            self._settle(call, ToolOutcome(failure=failure))
            return
        try:
            arguments = (request.body or b"").decode()
        except UnicodeDecodeError:
            failure = ToolFailure(code="tool_arguments_invalid", message="The arguments are not UTF-8.")
            self._settle(call, ToolOutcome(failure=failure))
            return
        if request.server == BUILT_IN:
            self._settle(call, self._door.built_in(request.tool, arguments))
        else:
            self._submit(call, arguments)

    def _submit(self, call: OpenCall, arguments: str) -> None:
        submitted = ToolCall(
            id=call.id,
            tenant=self._tenant,
            server=call.request.server,
            tool=call.request.tool,
            arguments=arguments,
            reply_to=self._door.reply_to,
            expires_at=datetime.now(UTC) + timedelta(seconds=self._ledger.bounds.seconds),
            execution=self._claim.id,
            attempt=self._claim.attempt,
        )
        self._submitted[call.id] = submitted
        self._ledger.submitted(call)
        try:
            self._door.submit(submitted, lambda outcome: self._events.put((call.id, outcome)))
            return
        except StaleAttempt:
            failure = OVER
        except ValueError:
            failure = ToolFailure(code="tool_arguments_invalid", message="The arguments are no JSON.")
        except StoreFull as error:
            failure = ToolFailure(code="tool_unavailable", message=error.message)
        except StoreUnavailable:
            failure = UNKNOWN
        del self._submitted[call.id]
        self._settle(call, ToolOutcome(failure=failure))

    def _settle(self, call: OpenCall | None, outcome: ToolOutcome) -> None:
        """Queue the answer to a call, unless the call was answered before."""
        if call is None or call.answered:
            return
        failure, body = self._ledger.settle(call, outcome)
        if failure and failure.code in DENIED:
            name = call.request.name
            detail = f"The program called the tool {name}, which is forbidden: {failure.message}"
            self._incidents.note(SecurityEvent("tool_denied", detail, "host", Refusal(failure.code, name)))
        self._answers.append((call, memoryview(answer(call.request.seq, failure is None, body))))

    def _send_answers(self) -> None:
        while self._answers and (room := WINDOW_BYTES - (self._sent_bytes - self._taken_bytes)) > 0:
            call, rest = self._answers[0]
            piece = rest[: min(room, PIECE_BYTES)]
            self._sent_bytes += len(piece)  # before the send: the agent may acknowledge at once
            self._send(encode(ToAgent.ANSWER_DATA, bytes(piece)), SEND_SECONDS)
            if len(piece) < len(rest):
                self._answers[0] = call, rest[len(piece) :]
            else:
                self._answers.popleft()
                del self._ledger.open[call.id]
