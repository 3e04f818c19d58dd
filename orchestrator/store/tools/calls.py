"""Calls of tools between the process that waits (a worker, or the API) and the broker that serves the upstream.

Theory of operation. A call is a hash that expires some time after its deadline; one script makes each step.

- ``submit`` writes it, puts its id on the list of its upstream (``tenant/server``) and rings the bell of the broker
  that serves the upstream: a list with at most one token, on which the broker blocks.
- ``take`` moves ids from the lists to the broker's set of taken calls: each call is taken at most once.
- ``begin`` is a compare-and-set, too: it appends the entry of an audited call to the audit log before the call is made.
- ``settle`` is a compare-and-set: only the broker that took a call can settle it. The outcome stays in the hash, the id
  goes to the list of the process that waits, whose bell is rung.
- ``answered`` reads outcomes, and frees them with the next read: an outcome whose transfer failed is read again, so
  a reader gets an outcome at least once, and must ignore ids that it no longer waits for.
- ``cancel`` drops waiting calls, and reports taken calls to their brokers.

A call stays known until it expires, so a repeated ``submit``, as after a broken connection, has no effect. Deadlines
follow Redis's clock, from the seconds that are left when a call is submitted. Every method raises
:class:`StoreUnavailable` while Redis is unavailable.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from orchestrator.errors import StaleAttempt, StoreFull
from orchestrator.models.tools import CALLER, ToolCall, ToolFailure, ToolOutcome
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import MALFORMED, report_malformed
from orchestrator.store.tools.caller_calls import CallerCalls
from orchestrator.store.tools.sealing import seal_call

WAITING_CALLS = 1000  # waiting calls of one upstream, at most
GONE_SECONDS = 10.0  # without any broker's heartbeat for so long, calls fail at once
TAKEN_BYTES = COLLECTED_BYTES = 16 * 2**20  # per read, at most; a larger call or outcome is read alone
BLOCK_SECONDS = 2.0  # less than the time-out of a connection
BELL_SECONDS = 60  # lifetime of the bell of an ended process
NO_BROKER = ToolFailure(
    code="tool_unavailable", message="No broker is running; the operator starts one with the service."
)
BUSY = ToolFailure(
    code="tool_busy", message=f"{WAITING_CALLS} calls wait for this tool server already; call again a little later."
)
USED_UP = {
    owner: ToolFailure(
        code="tool_quota_exceeded",
        message=f"The quota `tool_calls_per_day` of this {owner} is used up until midnight (UTC); nothing was called.",
    ).model_dump_json()
    for owner in ("tenant", "key")
}
OFF = ToolFailure(code="tool_unavailable", message="The operator has switched off tools; nothing was called.")
TOO_LATE = ToolFailure(code="tool_timed_out", message="The call waited for its tool server until its deadline.")
NO_ROOM = ToolFailure(
    code="tool_unavailable", message="The tool answered, but Redis has no memory for its result; ask for less."
)


class Upstream(NamedTuple):
    """A tool server of a tenant. Both names are empty for servers without a declaration."""

    tenant: str
    server: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.server}"

    @classmethod
    def parse(cls, text: bytes | str) -> Upstream:
        """The upstream that ``str()`` wrote."""
        tenant, _, server = (text.decode() if isinstance(text, bytes) else text).partition("/")
        return cls(tenant, server)


UNDECLARED = Upstream.parse(scripts.UNDECLARED)


class TakenCall(NamedTuple):
    """A call that a broker took, and its seal, not yet verified."""

    call: ToolCall
    seal: str


class Taken(NamedTuple):
    """The answer to taking: calls, ids of cancelled calls, and upstreams that other brokers serve."""

    calls: tuple[TakenCall, ...] = ()
    cancelled: tuple[str, ...] = ()
    lost: tuple[Upstream, ...] = ()


class CallsPerDay(NamedTuple):
    """The default quotas of calls a day, of tenants and of API keys."""

    tenant: int | None = None
    key: int | None = None


class Calls:
    """The calls of every tenant. Thread-safe; ``answered`` has one reader for each process."""

    def __init__(self, connection: StoreConnection, share: float, calls_per_day: CallsPerDay) -> None:
        self._redis: Any = connection
        self._share = share
        self._calls_per_day = ["" if number is None else number for number in calls_per_day]
        self._read: dict[str, list[bytes]] = {}
        self._submit = connection.script(scripts.SUBMIT_CALL)
        self._take = connection.script(scripts.TAKE_CALLS)
        self._begin = connection.script(scripts.BEGIN_CALL)
        self._settle = connection.script(scripts.SETTLE_CALLS)
        self._settle_when_full = connection.script(scripts.SETTLE_CALLS_WHEN_FULL)
        self._collect = connection.script(scripts.COLLECT_OUTCOMES)
        self._cancel = connection.script(scripts.CANCEL_CALLS)
        self._caller = CallerCalls(connection, share)

    def submit(self, call: ToolCall, key: bytes) -> None:
        """Queue a call, sealed with the installation's key; its outcome arrives by :meth:`answered`.

        A call of a tool of the caller becomes an event of its execution's stream (:mod:`.caller_calls`). Raises
        :class:`StaleAttempt` unless the call's execution is running in that attempt, and :class:`StoreFull`; then
        nothing was written.
        """
        if call.server == CALLER and call.execution:
            self._caller.submit(call)
            return
        seconds = (call.expires_at - datetime.now(UTC)).total_seconds()
        answer = self._submit(
            args=[
                call.id, call.tenant, call.server, call.tool, call.arguments.encode(), call.reply_to, seconds,
                call.execution or "", call.attempt, seal_call(call, key), WAITING_CALLS, GONE_SECONDS, self._share,
                NO_BROKER.model_dump_json(), BUSY.model_dump_json(), USED_UP["tenant"], USED_UP["key"], call.key or "",
                *self._calls_per_day, call.principal or "", OFF.model_dump_json(),
            ]
        )  # fmt: skip
        if answer == 0:
            raise StaleAttempt("The attempt that called a tool no longer runs.")
        if answer == 2:
            raise StoreFull("Redis has no memory for the arguments of a call; call again a little later.")

    def take(self, broker: str, rooms: Mapping[Upstream, int]) -> Taken | None:
        """Take waiting calls, of each upstream up to its capacity, without waiting. ``None``: the lease ended."""
        args: list[str | int] = [broker, TOO_LATE.model_dump_json(), TAKEN_BYTES]
        for upstream, room in rooms.items():
            args += [str(upstream), room]
        answer = self._take(args=args)
        if answer is None:
            return None
        cancelled, lost, *found = answer
        taken = tuple(call for row in found if (call := _taken(row)))
        return Taken(taken, tuple(id.decode() for id in cancelled), tuple(map(Upstream.parse, lost)))

    def begin(self, broker: str, id: str, audit: str) -> bool:
        """Append a taken call's entry to the audit log before the call is made; ``False`` if it is no longer the
        broker's. Raises :class:`StoreFull`; then nothing was written.
        """
        return bool(self._begin(args=[broker, id, audit]))

    def wait(self, process: str, seconds: float) -> bool:
        """Wait for the bell of a broker (calls) or a process (outcomes); ``False`` after ``seconds``."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._redis.blpop([keys.tool_bell(process)], max(0.01, min(left, BLOCK_SECONDS))):
                return True
        return False

    def wake(self, process: str) -> None:
        """End a wait of the process at once, as when the process stops."""
        bell = keys.tool_bell(process)
        with self._redis.pipeline() as pipeline:
            pipeline.rpush(bell, 1).expire(bell, BELL_SECONDS).execute()

    def settle(self, broker: str, outcomes: Sequence[tuple[str, ToolOutcome]]) -> list[bool]:
        """Settle taken calls; ``False`` for a call that the broker has lost. Without memory in Redis for a result the
        call fails with ``tool_unavailable``.
        """
        try:
            answers = self._send(self._settle, broker, outcomes)
        except StoreFull:
            answers = [2] * len(outcomes)
        small = [(id, _without_result(outcome)) for (id, outcome), no in zip(outcomes, answers, strict=True) if no == 2]
        again = iter(self._send(self._settle_when_full, broker, small) if small else ())
        return [bool(next(again) if answer == 2 else answer) for answer in answers]

    def _send(self, script: Any, broker: str, outcomes: Sequence[tuple[str, ToolOutcome]]) -> list[int]:
        args: list[Any] = [broker, self._share]
        for id, outcome in outcomes:
            failure = outcome.failure.model_dump_json() if outcome.failure else ""
            args += [id, (outcome.result or "").encode(), failure]
        answer: list[int] = script(args=args)
        return answer

    def answered(self, process: str, wait_seconds: float) -> list[tuple[str, ToolOutcome]]:
        """Outcomes of the process's calls, after at most ``wait_seconds``; frees the outcomes of the last read."""
        found = self._next(process)
        if not found and wait_seconds > 0 and self.wait(process, wait_seconds):
            found = self._next(process)
        return found

    def _next(self, process: str) -> list[tuple[str, ToolOutcome]]:
        rows = self._collect(args=[process, COLLECTED_BYTES, *self._read.get(process, ())])
        self._read[process] = [id for id, _, _ in rows]
        return [(id.decode(), _outcome(result, failure)) for id, result, failure in rows]

    def cancel(self, execution: str, attempt: int) -> int:
        """Cancel an attempt's open calls; returns their number."""
        return int(self._cancel(args=[f"{execution}:{attempt}"]))

    def drop(self, *ids: str) -> int:
        """Cancel these calls; returns the number of cancelled open calls."""
        return int(self._cancel(args=["", *ids]))


def _taken(row: list[bytes]) -> TakenCall | None:
    try:
        id, tenant, server, tool, arguments, reply_to, seconds, execution, attempt, seal, principal = (
            part.decode() for part in row
        )
        call = ToolCall(
            id=id, tenant=tenant, server=server, tool=tool, arguments=arguments, reply_to=reply_to,
            expires_at=datetime.now(UTC) + timedelta(seconds=float(seconds)), execution=execution or None,
            attempt=int(attempt), principal=principal or None,
        )  # fmt: skip
    except MALFORMED as error:
        report_malformed("tool call", f"{type(error).__name__}: {row!r:.64}")
        return None
    return TakenCall(call, seal)


def _outcome(result: bytes, failure: bytes) -> ToolOutcome:
    try:
        if failure:
            return ToolOutcome(failure=ToolFailure.model_validate_json(failure))
        return ToolOutcome(result=result.decode())
    except MALFORMED as error:
        report_malformed("tool outcome", error)
        message = "The outcome of the call is unreadable; the tool may have done its work."
        return ToolOutcome(failure=ToolFailure(code="tool_outcome_unknown", message=message))


def _without_result(outcome: ToolOutcome) -> ToolOutcome:
    return outcome if outcome.failure else ToolOutcome(failure=NO_ROOM)
