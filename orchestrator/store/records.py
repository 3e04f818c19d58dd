"""Records of executions: written by atomic scripts, read as models.

A record is a hash. ``state``, ``attempt``, ``worker`` and the times are fields of their own, because scripts compare
them; ``view`` is what never changes about the execution, ``spec`` and ``signature`` what a worker runs, ``result`` what
one committed. Everything raises :class:`StoreUnavailable` while Redis cannot be reached.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from orchestrator import metrics
from orchestrator.anomaly import NO_FAULT
from orchestrator.errors import IdempotencyConflict, NotFound, QueueFull, StaleAttempt, TenantQueueFull
from orchestrator.models import Execution, Result, Specification
from orchestrator.states import TRANSITIONS, Fault, Reason, State, Verdict, cancelled
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.functions import FIELDS
from orchestrator.store.output import BEGINNING, Entry, start_after
from orchestrator.store.shown import assembled, matches, shown
from orchestrator.store.steps import NewEntry, Steps

IDEMPOTENCY_SECONDS = 24 * 3600
NOT_SHOWN = {"files", "env", "args", "stdin", "entrypoint", "artifacts", "traceparent"}
RESULT = TypeAdapter(Result)


class Envelope(NamedTuple):
    """What the queue wants written together with a record: its job's key and hash, the list the id goes on, and the
    set of all such lists.
    """

    job_key: str
    job_fields: dict[str | bytes, Any]
    queue_key: str
    queues_key: str


class QueueBounds(NamedTuple):
    """Most executions that may be queued: all, and of one tenant."""

    all: int
    tenant: int


class Idempotency(NamedTuple):
    """An Idempotency-Key and the digest of the body it came with."""

    key: str
    digest: str


class Claim(NamedTuple):
    """One attempt's right to run an execution that has waited ``queue_seconds``; ``attempt`` fences all it writes."""

    id: str
    attempt: int
    spec: bytes
    signature: str
    queue_seconds: float = 0.0


class Holder(NamedTuple):
    """Which worker has an execution, in which attempt, and since when by Redis's clock."""

    worker: str
    attempt: int
    since: float


class Records:
    """The records of every tenant. Thread-safe."""

    def __init__(self, connection: StoreConnection, steps: Steps, retention_seconds: float) -> None:
        self._redis: Any = connection
        self._steps = steps
        self._retention_seconds = retention_seconds
        self._submit = connection.script(scripts.SUBMIT)
        self._read = connection.script(scripts.READ)
        self._recount = connection.script(scripts.RECOUNT)
        self._request_cancel = connection.script(scripts.REQUEST_CANCEL)

    def submit(
        self,
        specification: Specification,
        spec: bytes,
        signature: str,
        envelope: Envelope,
        bounds: QueueBounds,
        idempotency: Idempotency | None,
        asker: str | None = None,
        stdin_bytes: int | None = None,
    ) -> tuple[str, datetime | None]:
        """Store and queue an execution in one step; its id and when that was, or the id of an earlier one of that key.

        ``stdin_bytes``: its standard input is streamed, up to so many bytes. Raises :class:`QueueFull`,
        :class:`TenantQueueFull` and :class:`IdempotencyConflict`; then nothing was written.
        """
        id, tenant = specification.id, specification.tenant
        view = specification.model_dump_json(exclude=NOT_SHOWN)
        record: dict[str, Any] = {"view": view, "spec": spec, "signature": signature}
        record |= {"tenant": tenant, "environment": specification.environment}
        record |= {"isolation": specification.isolation, "queue": envelope.queue_key}
        if asker:
            record["asker"] = asker
        if stdin_bytes is not None:
            record["stdin_room"] = stdin_bytes
        names = [
            keys.execution(id), keys.tenant_index(tenant), keys.tenant_counters(tenant), keys.QUEUED, keys.stream(id),
            envelope.job_key, envelope.queue_key, envelope.queues_key,
        ]  # fmt: skip
        if idempotency:
            names.append(keys.idempotency(tenant, idempotency.key))
        answer = self._submit(
            keys=names,
            args=[
                id, *bounds, idempotency.digest if idempotency else "", IDEMPOTENCY_SECONDS,
                tenant, specification.isolation, 2 * len(record), *_flat(record), *_flat(envelope.job_fields),
            ],
        )  # fmt: skip
        match answer:
            case [b"ok", created]:
                return id, datetime.fromtimestamp(float(created), UTC)
            case [b"full"]:
                raise QueueFull()
            case [b"tenant full"]:
                raise TenantQueueFull()
            case [b"seen", seen]:
                digest, _, earlier = seen.decode().partition(" ")
                if idempotency is None or digest != idempotency.digest:
                    raise IdempotencyConflict()
                return earlier, None
        raise AssertionError(answer)

    def get(self, id: str, tenant: str | None) -> Execution:
        """One execution without its output. ``tenant=None`` sees every tenant's. Raises :class:`NotFound`."""
        *row, owner = self._redis.hmget(keys.execution(id), (*FIELDS, "tenant"))
        # Before the record is read: what another tenant has shall take no longer to refuse than what is not there.
        if owner is None or tenant not in (None, owner.decode()):
            raise NotFound(f"There is no execution {id!r}.", owner=None if owner is None else owner.decode())
        execution = assembled(row)
        if execution is None:
            raise NotFound(f"There is no execution {id!r}.")
        return execution

    def read(self, id: str, tenant: str | None, after: str = "-") -> tuple[Execution, list[Entry]]:
        """One execution, and of its stream the first entries, or those that follow one. Raises :class:`NotFound`."""
        names = [keys.execution(id), keys.stream(id)]
        owner, *found = self._read(keys=names, args=[tenant or "", BEGINNING, start_after(after)])
        if not found:
            raise NotFound(f"There is no execution {id!r}.", owner=None if owner is None else owner.decode())
        return shown(id, *found)

    def get_many(self, ids: Iterable[str]) -> list[Execution]:
        """The executions of those ids that exist, in that order."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(keys.execution(id), FIELDS)
            return [execution for row in pipe.execute() if (execution := assembled(row))]

    def matching(self, ids: Sequence[str], values: Mapping[str, str], labels: Iterable[tuple[str, str]]) -> list[str]:
        """Those of the ids whose executions have these values and labels. Cheaper than reading the executions."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(keys.execution(id), ("state", "view"))
            rows = pipe.execute()
        return [id for id, row in zip(ids, rows, strict=True) if matches(row[0], row[1], values, set(labels))]

    def page_ids(self, tenant: str, before: tuple[float, str] | None, count: int) -> list[tuple[float, str]]:
        """Up to ``count`` (created, id) pairs of a tenant, newest first, after the position ``before``."""
        index = keys.tenant_index(tenant)
        newest = "+inf" if before is None else before[0]
        rows = self._redis.zrange(
            index, newest, "-inf", desc=True, byscore=True, offset=0, num=count + 64, withscores=True
        )
        pairs = [(score, id.decode()) for id, score in rows]
        if before is not None:
            pairs = [pair for pair in pairs if pair < before]
        return pairs[:count]

    def start(
        self, claim: Claim, started_at: float, entries: Sequence[NewEntry] = (), token: str | None = None
    ) -> None:
        """``starting → running`` at that time, and what the program has said so far.

        Raises :class:`StaleAttempt` if the attempt lost its right; then nothing was written.
        """
        fields, sources = {"started_at": started_at}, _from(State.RUNNING)
        if not self._steps.step(claim.id, claim.attempt, State.RUNNING, sources, fields, entries=entries, token=token):
            raise StaleAttempt()

    def commit(self, claim: Claim, result: Result, entries: Sequence[NewEntry] = (), token: str | None = None) -> None:
        """End an execution with a result, once, behind the last of its output.

        Raises :class:`StaleAttempt` if it ended or moved on without it; then nothing was written.
        """
        state = State(result.state)
        said = RESULT.dump_json(result)
        if not self._finish(claim.id, state, claim.attempt, _from(state), said, result.fault, entries, token):
            raise StaleAttempt()

    def end(
        self,
        id: str,
        verdict: Verdict,
        message: str,
        attempt: int | None,
        from_states: Iterable[State] | None = None,
    ) -> bool:
        """End an execution that has no result of a run, and count it; ``False`` if it ended otherwise meanwhile."""
        said = {"reason": verdict.reason, "fault": verdict.fault, "message": message}
        from_states = from_states or _from(verdict.state)
        if not self._finish(id, verdict.state, attempt, from_states, json.dumps(said), verdict.fault):
            return False
        metrics.count_end(self.get(id, None).environment, verdict.state, verdict.reason, verdict.fault)
        return True

    def requeue(self, id: str, attempt: int, *, handed_back: bool = False, unbegun: bool = False) -> bool:
        """Give an attempt back: ``starting`` or ``running`` → ``queued``. The janitor puts it on its queue.

        One that is ``handed_back``, because its worker was told to end or never began it, does not count towards the
        most there may be. One that is ``unbegun`` is given back only if it still is.
        """
        fields: dict[str, Any] = {"worker": ""}
        if handed_back:  # of this attempt's alone to write, and refused with the rest
            fields["handed_back"] = 1 + self._handed_back(id)
        sources = (State.STARTING,) if unbegun else _from(State.QUEUED)
        return self._steps.step(id, attempt, State.QUEUED, sources, fields, counts_as=Fault.PLATFORM)

    def faults(self, id: str, attempt: int) -> int:
        """How many attempts the platform has spoilt so far, if this one is such."""
        return attempt - self._handed_back(id)

    def _handed_back(self, id: str) -> int:
        return int(self._redis.hget(keys.execution(id), "handed_back") or 0)

    def request_cancel(self, id: str, reason: Reason) -> State:
        """Mark an execution that is with a worker as to be cancelled; return the state it was found in."""
        found = self._request_cancel(keys=[keys.execution(id)], args=[keys.CANCEL, id, reason])
        if found is None:
            raise NotFound(f"There is no execution {id!r}.")
        return State(found.decode())

    def cancel_requested(self, ids: list[str]) -> list[str]:
        """Those of the executions somebody wants cancelled."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hget(keys.execution(id), "cancel_requested_at")
            return [id for id, requested in zip(ids, pipe.execute(), strict=True) if requested]

    def cancelled(self, id: str) -> Verdict:
        """The verdict for an execution that was stopped because somebody wanted it cancelled."""
        reason = self._redis.hget(keys.execution(id), "cancel_reason")
        return cancelled(Reason.CANCELLED_BY_USER if reason is None else Reason(reason.decode()))

    def holders(self, ids: Sequence[str]) -> list[Holder]:
        """Who has each of those executions."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(keys.execution(id), "worker", "attempt")
                pipe.zscore(keys.ACTIVE, id)  # second: whoever claims it in between has it since later
            answers = pipe.execute()
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return [Holder((worker or b"").decode(), int(attempt or 0), since or 0.0) for (worker, attempt), since in pairs]

    def delete(self, id: str, tenant: str) -> None:
        """Remove a finished execution's record and stream; the caller removes its artifacts."""
        with self._redis.pipeline() as pipe:
            pipe.delete(keys.execution(id), keys.stream(id), keys.stdin(id))
            pipe.zrem(keys.tenant_index(tenant), id)
            pipe.zrem(keys.EXPIRY, id)
            pipe.execute()

    def counts(self) -> dict[str, int]:
        """How many executions are queued and active."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.QUEUED)
            pipe.zcard(keys.ACTIVE)
            queued, active = pipe.execute()
        return {"queued": queued, "active": active}

    def recount(self) -> int:
        """Set tenants' counters right by the records; how many were wrong."""
        return int(self._recount())

    def exist(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that have a record."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.exists(keys.execution(id))
            return [id for id, there in zip(ids, pipe.execute(), strict=True) if there]

    def _finish(
        self,
        id: str,
        to: State,
        attempt: int | None,
        from_states: Iterable[State],
        result: str | bytes,
        fault: str | None,
        entries: Sequence[NewEntry] = (),
        token: str | None = None,
    ) -> bool:
        now = time.time()
        fields = {"finished_at": now, "expires_at": now + self._retention_seconds, "result": result}
        counts_as = fault or NO_FAULT
        return self._steps.step(id, attempt, to, from_states, fields, counts_as=counts_as, entries=entries, token=token)


@cache
def _from(to: State) -> tuple[State, ...]:
    return tuple(state for state, targets in TRANSITIONS.items() if to in targets)


def _flat(mapping: dict[Any, Any]) -> list[Any]:
    return [part for pair in mapping.items() for part in pair]
