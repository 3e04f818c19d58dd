"""Records of executions: written by atomic scripts, read as models.

A record is a hash. ``state``, ``attempt``, ``worker`` and the times are fields of their own, because scripts compare
them; ``view`` has the immutable part of the execution, ``spec`` and ``signature`` the sealed specification, ``result``
the committed result. Every method raises :class:`StoreUnavailable` while Redis is unavailable.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from pydantic import TypeAdapter

from orchestrator import errors, metrics
from orchestrator.anomaly import NO_FAULT
from orchestrator.errors import NotFound, StaleAttempt
from orchestrator.models import Execution, Result
from orchestrator.models.stream import Entry
from orchestrator.models.tenants.records import DEFAULT_TENANT
from orchestrator.states import TRANSITIONS, Fault, Reason, State, Verdict, cancelled
from orchestrator.store import keys, scripts
from orchestrator.store.accounting import amounts_of
from orchestrator.store.connection import StoreConnection
from orchestrator.store.content.blobs import Blobs
from orchestrator.store.executions.claims import Claim, Envelope, Holder, Idempotency, QueueBounds
from orchestrator.store.executions.submission import Submissions
from orchestrator.store.output import BEGINNING, start_after
from orchestrator.store.scripts import FIELDS
from orchestrator.store.shown import assembled, matches, readable, shown
from orchestrator.store.steps import NewEntry, Step, Steps

__all__ = ["Claim", "Envelope", "Holder", "Idempotency", "QueueBounds", "Records"]
RESULT = TypeAdapter(Result)
RESULT_BYTES = 16 * 1024  # of a result in Redis; a larger result is stored without its large parts
LEFT_OUT: dict[str, Any] = {"artifacts": (), "artifacts_rejected": (), "tool_calls": (), "compile": None}


class Records:
    """The records of every tenant. Thread-safe."""

    def __init__(self, connection: StoreConnection, steps: Steps, blobs: Blobs, retention_seconds: float) -> None:
        self._redis: Any = connection
        self._steps, self._blobs = steps, blobs
        self._retention_seconds = retention_seconds
        self.submit = Submissions(connection).submit
        self._read = connection.script(scripts.READ)
        self._recount = connection.script(scripts.RECOUNT)
        self._recount_stored = connection.script(scripts.RECOUNT_STORED)
        self._request_cancel = connection.script(scripts.REQUEST_CANCEL)
        self._delete = connection.script(scripts.DELETE)

    def get(self, id: str, tenant: str | None) -> Execution:
        """One execution without its output. ``tenant=None`` sees every tenant's. Raises :class:`NotFound`."""
        *row, owner = self._redis.hmget(keys.execution(id), (*FIELDS, "tenant"))
        # Before the record is read: a refusal must take the same time for other tenants' and for absent records.
        if owner is None or tenant not in (None, owner.decode()):
            raise NotFound(f"There is no execution {id!r}.", owner=None if owner is None else owner.decode())
        if (execution := assembled(row, partial(self._blobs.read_output, id))) is None:
            raise NotFound(f"There is no execution {id!r}.")
        return execution

    def read(self, id: str, tenant: str | None, after: str = "-") -> tuple[Execution, list[Entry]]:
        """One execution, with the first entries of its stream, or the entries after a given entry. Raises
        :class:`NotFound`.
        """
        names = [keys.execution(id), keys.stream(id)]
        owner, *found = self._read(keys=names, args=[tenant or "", BEGINNING, start_after(after)])
        if not found:
            raise NotFound(f"There is no execution {id!r}.", owner=None if owner is None else owner.decode())
        return shown(id, found[0], found[1], partial(self._blobs.read_output, id))

    def get_many(self, ids: Iterable[str]) -> list[Execution]:
        """The executions of those ids that exist, in that order. Malformed records are skipped."""
        rows, read = self._rows(tuple(ids), FIELDS), self._blobs.read_output
        return [execution for id, row in rows if (execution := readable(row, partial(read, id)))]

    def matching(self, ids: Sequence[str], values: Mapping[str, str], labels: Iterable[tuple[str, str]]) -> list[str]:
        """The ids whose executions match the values and labels. Cheaper than reading the executions."""
        return [id for id, row in self._rows(ids, ("state", "view")) if matches(row, values, set(labels))]

    def _rows(self, ids: Sequence[str], fields: Sequence[str]) -> list[tuple[str, Any]]:
        """Each id with the given fields of its record, or with an error from Redis."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(keys.execution(id), fields)
            return list(zip(ids, pipe.execute(raise_on_error=False), strict=True))

    def page_ids(self, tenant: str, before: tuple[float, str] | None, count: int) -> list[tuple[float, str]]:
        """Up to ``count`` (created, id) pairs of a tenant, newest first, after the position ``before``."""
        index, newest = keys.tenant_index(tenant), "+inf" if before is None else before[0]
        rows = self._redis.zrange(
            index, newest, "-inf", desc=True, withscores=True, byscore=True, offset=0, num=count + 64
        )
        pairs = ((score, id.decode()) for id, score in rows)
        return [pair for pair in pairs if before is None or pair < before][:count]

    def start(
        self, claim: Claim, started_at: float, entries: Sequence[NewEntry] = (), token: str | None = None
    ) -> None:
        """Change ``starting → running`` at that time, with the program's first output.

        Raises :class:`StaleAttempt` if the attempt no longer owns the execution; then nothing was written.
        """
        step = Step(claim.id, claim.attempt, State.RUNNING, _from(State.RUNNING), {"started_at": started_at})
        if not self._steps.take(step._replace(entries=entries, token=token)):
            raise StaleAttempt()

    def commit(
        self,
        claim: Claim,
        result: Result,
        entries: Sequence[NewEntry] = (),
        token: str | None = None,
        started_at: float | None = None,
    ) -> None:
        """End an execution with a result, once, after its last output. A large result is stored beside the artifacts.

        With ``started_at``, the same step changes ``starting → running`` before the output.

        Raises :class:`StaleAttempt` if the execution has ended or another attempt owns it; then nothing was written.
        """
        stored: dict[str, Any] = {"result": _dumped(result)}
        if (size := len(stored["result"])) > RESULT_BYTES:
            self._blobs.write_output(claim.id, claim.attempt, "result", 0, stored["result"])
            stored = {"result": _dumped(result.model_copy(update=LEFT_OUT)), "result_bytes": size}
        to = State(result.state)
        used = amounts_of(result)
        if not self._end(
            claim.id, claim.attempt, to, result.fault, stored, entries=entries, token=token,
            usage=used, started_at=started_at,
        ):  # fmt: skip
            raise StaleAttempt()

    def end(
        self,
        id: str,
        verdict: Verdict,
        message: str,
        attempt: int | None,
        from_states: Iterable[State] | None = None,
    ) -> bool:
        """End an execution without a result, and count it; ``False`` for an execution that has already ended."""
        stored = {"result": json.dumps({"reason": verdict.reason, "fault": verdict.fault, "message": message})}
        # Read before: the record may be deleted as soon as the execution has ended.
        environment = self._redis.hget(keys.execution(id), "environment")
        sources = tuple(from_states) if from_states else None
        if not self._end(id, attempt, verdict.state, verdict.fault, stored, sources=sources):
            return False
        metrics.count_end((environment or b"").decode(), verdict.state, verdict.reason, verdict.fault)
        return True

    def requeue(self, id: str, attempt: int, *, handed_back: bool = False, unbegun: bool = False) -> bool:
        """Requeue an execution: ``starting`` or ``running`` → ``queued``. The janitor puts it on its queue.

        A ``handed_back`` attempt, whose worker drained or never started it, does not count towards the bound of
        attempts. An ``unbegun`` attempt is requeued only if it still has not started.
        """
        fields: dict[str, Any] = {"worker": ""}
        if handed_back:  # only this attempt may write it; refused with the rest
            fields["handed_back"] = 1 + attempt - self.faults(id, attempt)
        sources = (State.STARTING,) if unbegun else _from(State.QUEUED)
        return self._steps.take(Step(id, attempt, State.QUEUED, sources, fields, counts_as=Fault.PLATFORM))

    def faults(self, id: str, attempt: int) -> int:
        """The number of attempts spoilt by the platform, including this attempt."""
        return attempt - int(self._redis.hget(keys.execution(id), "handed_back") or 0)

    def has_called(self, id: str) -> bool:
        """Whether an attempt has called a tool that must not be called twice: then the execution is not retried."""
        return bool(self._redis.hexists(keys.execution(id), "called"))

    def request_cancel(self, id: str, reason: Reason) -> State:
        """Request the cancellation of an active execution; returns its state."""
        found = self._request_cancel(keys=[keys.execution(id)], args=[keys.CANCEL, id, reason])
        if found is None:
            raise NotFound(f"There is no execution {id!r}.")
        return State(found.decode())

    def cancel_requested(self, ids: list[str]) -> list[str]:
        """The executions with a requested cancellation."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hget(keys.execution(id), "cancel_requested_at")
            answers = pipe.execute(raise_on_error=False)  # of a key of another type
        return [id for id, requested in zip(ids, answers, strict=True) if isinstance(requested, bytes)]

    def cancelled(self, id: str) -> Verdict:
        """The verdict for an execution stopped by a requested cancellation."""
        reason = self._redis.hget(keys.execution(id), "cancel_reason")
        known = {str(reason): reason for reason in (Reason.CANCELLED_BY_USER, Reason.CANCELLED_BY_OPERATOR)}
        return cancelled(known.get((reason or b"").decode(errors="replace"), Reason.CANCELLED_BY_USER))

    def holders(self, ids: Sequence[str]) -> list[Holder]:
        """The holders of the executions."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.hmget(keys.execution(id), "worker", "attempt")
                pipe.zscore(keys.ACTIVE, id)  # after the ids: a claim in between has a later time
            answers = pipe.execute()
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return [Holder((worker or b"").decode(), int(attempt or 0), since or 0.0) for (worker, attempt), since in pairs]

    def delete(self, id: str, tenant: str) -> bool:
        """Remove an ended execution from Redis; ``False`` without a record.

        The caller then removes the files in the blob directory, so that an existing record is always complete, and
        calls :meth:`deleted`; the janitor completes an interrupted deletion. Raises :class:`StillRunning`.
        """
        own, tenants = [keys.execution(id), keys.stream(id), keys.stdin(id)], keys.tenant_index(tenant)
        if not (answer := self._delete(keys=[*own, tenants, keys.tenant_room(tenant), keys.EXPIRY], args=[id])):
            raise errors.StillRunning()
        return bool(answer == 1)

    def deleted(self, id: str) -> None:
        """Record that an execution's files were removed."""
        self._redis.zrem(keys.EXPIRY, id)

    def counts(self) -> dict[str, int]:
        """The numbers of queued and active executions."""
        return {"queued": self._redis.zcard(keys.QUEUED), "active": self._redis.zcard(keys.ACTIVE)}

    def recount(self) -> int:
        """Correct the counters of tenants and API keys from the records; returns the number of wrong counters."""
        tenants = {DEFAULT_TENANT.encode(), *self._redis.hkeys(keys.TENANTS)}
        return int(self._recount()) + sum(int(self._recount_stored(args=[tenant])) for tenant in tenants)

    def exist(self, ids: Sequence[str]) -> list[str]:
        """The ids with a record."""
        with self._redis.pipeline(transaction=False) as pipe:
            for id in ids:
                pipe.exists(keys.execution(id))
            return [id for id, there in zip(ids, pipe.execute(), strict=True) if there]

    def _end(
        self,
        id: str,
        attempt: int | None,
        to: State,
        fault: str | None,
        stored: Mapping[str, Any],
        *,
        entries: Sequence[NewEntry] = (),
        token: str | None = None,
        sources: tuple[State, ...] | None = None,
        usage: Sequence[int] = (1,),
        started_at: float | None = None,
    ) -> bool:
        """End an execution: the only function that does. ``stored`` are the fields of its result, ``usage`` the amounts
        that it used; ``False`` if the attempt or the state forbids the end.
        """
        now = time.time()
        fields = {"finished_at": now, "expires_at": now + self._retention_seconds, **stored}
        counts_as = fault or NO_FAULT
        sources = sources or (_from(to) if started_at is None else (State.STARTING, State.RUNNING))
        step = Step(id, attempt, to, sources, fields, counts_as, entries, token, usage, started_at)
        return self._steps.take(step)


def _dumped(result: Result) -> bytes:
    """A result without values that an :class:`Execution` has by default."""
    return RESULT.dump_json(result, exclude_none=True, exclude_defaults=True)


@cache
def _from(to: State) -> tuple[State, ...]:
    return tuple(state for state, targets in TRANSITIONS.items() if to in targets)
