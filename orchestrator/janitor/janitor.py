"""Requeues lost executions, deletes expired data, cleans up; one process at a time, by a lease in Redis.

Every API process tries each round; the process with the lease ``mayfly:janitor`` runs it. A round uses the same
compare-and-set steps as all other writers, so concurrent janitors would be harmless, only wasteful.
"""

from __future__ import annotations

import math
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from functools import partial

import structlog
from redis.exceptions import RedisError

from orchestrator import metrics, queue, retry
from orchestrator.errors import MayflyError, NotFound, StillRunning, StoreUnavailable
from orchestrator.features import LANES
from orchestrator.janitor.alarms import Alarms
from orchestrator.janitor.purging import finish, remove, some_of, tenants_to_delete
from orchestrator.models.security import SecurityEvent
from orchestrator.retry import Cause
from orchestrator.settings import Settings
from orchestrator.states import Reason, State, errored
from orchestrator.store import Store, keys, scripts
from orchestrator.store.malformed import EXECUTION, MALFORMED, report_malformed

UNSEEN_SECONDS = 5.0  # the time in which a popped id must be claimed
RARE_ROUNDS, LEASE_ROUNDS = 300, 3  # after so many rounds without a sign another process is the janitor
PAGE = 1000  # entries of an index that one look reads
BATCH = 50  # ids of one script, which looks for them through a long queue in less than a millisecond
# The type of each key that the whole installation needs; a key of another type was not written by Mayfly.
KINDS: dict[str, bytes] = {
    **dict.fromkeys((keys.QUEUED, keys.ACTIVE, keys.RETRYING, keys.EXPIRY, *map(keys.line, LANES)), b"zset"),
    keys.TENANTS_DELETED: b"zset",
    **dict.fromkeys((keys.TURNS, keys.ALARMS, keys.API_KEYS, keys.API_KEY_DIGESTS, keys.AUDIT_BASE), b"hash"),
    **dict.fromkeys((keys.TENANTS, keys.QUOTAS, keys.SWITCHES, keys.ISSUERS), b"hash"),
    **dict.fromkeys((keys.TURN, keys.RATES_SINCE, keys.ROOM_LEFT, keys.BACKUP, keys.RESTORING), b"string"),
    **dict.fromkeys((keys.WORKERS, keys.TENANTS_DELETING, keys.HOLDING, queue.QUEUES_KEY), b"set"),
    **dict.fromkeys([key(lane) for lane in LANES for key in (keys.bell, keys.spare_bell)], b"list"),
    **dict.fromkeys((keys.SECURITY, keys.AUDIT, keys.AUDIT_SEALS), b"stream"),
}
FAILURES = (MayflyError, OSError, RedisError, *MALFORMED)  # MALFORMED: from keys with a wrong type
log = structlog.get_logger()


class Janitor:
    """The rounds, in a thread of their own."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._name = secrets.token_hex(8)
        self._stopped = threading.Event()
        self._rounds = 0
        self._positions: dict[str, float] = {}  # for each index, the position behind the last page
        self._alarms = Alarms(store) if settings.anomalies else None
        self._lead, self._keep, self._mend = map(store.redis.script, (scripts.LEAD, scripts.KEEP_LEASE, scripts.MEND))
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current round."""
        self._stopped.set()
        self._thread.join()
        try:
            self._keep([keys.JANITOR], [self._name, 0])  # another process need not wait for the lease to expire
        except (StoreUnavailable, RedisError):
            log.info("janitor.left")

    def _run(self) -> None:
        while not self._stopped.wait(self._settings.janitor_seconds):
            try:
                if self._lease():
                    self.round(self._store.now())
                else:
                    metrics.show_queues({}, 0.0)
            except StoreUnavailable:
                continue  # readiness already reports that; the next round tries again
            except FAILURES as error:
                self._failed(error)

    def _failed(self, error: Exception, **about: str) -> None:
        metrics.janitor_failures.inc()
        log.error("janitor.failed", error=type(error).__name__, detail=str(error), **about)

    def round(self, now: float) -> None:
        """Do every task once. ``now`` is Redis's clock, in seconds since the epoch.

        Tasks that free memory come first. A task that fails because of a malformed key does not stop the others. Raises
        :class:`StoreUnavailable`.
        """
        self._rounds += 1
        for part in (
            self._kinds, self._expired, self._retried, self._overdue, self._unqueued, self._active, self._queues,
            self._deleted_tenants, self._rare,
        ):  # fmt: skip
            try:
                part(now)
            except StoreUnavailable:
                raise
            except FAILURES as error:
                self._failed(error, part=part.__name__.strip("_"))

    def _kinds(self, now: float) -> None:
        """Remove keys of a wrong type, which would make every script that needs them fail."""
        if strange := [key.decode() for key in self._mend(list(KINDS), list(KINDS.values()))]:
            self._report(f"{', '.join(strange)} had a type that Mayfly never gives them, and were removed.")

    def _expired(self, now: float) -> None:
        self._each(() if self._store.deletions.are_paused() else self._ids(keys.EXPIRY, now), self._delete)

    def _retried(self, now: float) -> None:
        self._each(self._ids(keys.RETRYING, now), self._retry)

    def _overdue(self, now: float) -> None:
        self._each(self._ids(keys.QUEUED, now - self._settings.queue_seconds), self._expire)

    def _unqueued(self, now: float) -> None:
        deferred = {id.decode(errors="replace") for id in self._store.redis.zrange(keys.RETRYING, 0, -1)}
        self._put_back([id for id in self._page(keys.QUEUED, now - UNSEEN_SECONDS) if id not in deferred])

    def _deleted_tenants(self, now: float) -> None:
        for tenant in tenants_to_delete(self._store):
            self._each(some_of(self._store, tenant), partial(remove, self._store, tenant))
            finish(self._store, tenant, self._settings)

    def _queues(self, now: float) -> None:
        metrics.janitor_actions.labels("released").inc(queue.release(self._store))
        queue.sweep(self._store)
        metrics.show_queues(queue.depths(self._store), queue.oldest_seconds(self._store, now))

    def _rare(self, now: float) -> None:
        if self._alarms:
            self._alarms.round()
        if self._rounds % RARE_ROUNDS == 1 and not self._store.deletions.are_paused():
            self._tidy()

    def _tidy(self) -> None:
        """The slow, rarely needed tasks."""
        metrics.janitor_actions.labels("recounted").inc(self._store.records.recount())
        left = [
            id
            for id in self._store.own_blobs.executions(self._settings.retention_seconds)
            if EXECUTION.fullmatch(os.fsencode(id))
        ]
        known = set(self._store.records.exist(left))
        self._each([id for id in left if id not in known], self._store.delete_files)
        if not self._store.deletions.are_paused():  # a backup may have begun meanwhile
            self._store.own_blobs.expire(self._settings.retention_seconds)

    def _each(self, ids: Iterable[str], step: Callable[[str], None]) -> None:
        """Process each id; a failure does not stop the others. Raises :class:`StoreUnavailable`."""
        for id in ids:
            try:
                step(id)
            except NotFound:
                self._forget(id)
            except StoreUnavailable:
                raise
            except FAILURES as error:
                self._failed(error, execution=id)

    def _lease(self) -> bool:
        seconds = max(1, math.ceil(LEASE_ROUNDS * self._settings.janitor_seconds))
        is_whole = self._store.redis.type(keys.RESTORING) != b"string"  # a restore may still add missing records
        return is_whole and bool(self._lead(keys=[keys.JANITOR], args=[self._name, seconds]))

    def _retry(self, id: str) -> None:
        if queue.put_back(self._store, id):
            metrics.janitor_actions.labels("retried").inc()
        self._store.redis.zrem(keys.RETRYING, id)

    def _expire(self, id: str) -> None:
        message = f"The execution waited longer than {self._settings.queue_seconds:g} s in the queue."
        execution = self._store.records.get(id, None)
        if self._end(id, Reason.QUEUE_EXPIRED, message, None):
            queue.withdraw(self._store, execution)

    def _put_back(self, ids: list[str]) -> None:
        for first in range(0, len(ids), BATCH):
            metrics.janitor_actions.labels("put_back").inc(queue.put_back(self._store, *ids[first : first + BATCH]))

    def _active(self, now: float) -> None:
        """Recover executions whose worker is dead, or alive without reporting them."""
        census = self._store.fleet.census()
        workers = {worker.id: set(worker.executions) for worker in census.workers}
        until = now - self._settings.lease_seconds  # the latest heartbeat may be older than a claim
        lost: dict[str, int] = {}
        more = True
        while more:  # all claims in each round, at most as many as slots, so that a death is noticed soon
            claimed = self._page(keys.ACTIVE, until)
            more = keys.ACTIVE in self._positions
            for id, holder in zip(claimed, self._store.records.holders(claimed), strict=True):
                if holder.worker in census.unreadable:  # the lease is valid, and the next heartbeat will be readable
                    continue
                if holder.since <= until and id not in workers.get(holder.worker, ()):
                    lost[id] = holder.attempt

        self._each(lost, lambda lost_id: self._lost(lost_id, lost[lost_id]))

    def _lost(self, id: str, attempt: int) -> None:
        """Requeue an execution whose worker is gone, or end it.

        The program of a ``starting`` execution has probably not started; certainly not, if the execution may not be
        repeated: then ``running`` is written before the start.
        """
        records = self._store.records
        execution, spoilt = records.get(id, None), records.faults(id, attempt)
        started = execution.state != State.STARTING
        may_repeat = execution.retry and not records.has_called(id)
        decision = retry.decide(
            Cause.LOST,
            Reason.WORKER_LOST,
            attempt=attempt,
            spoilt=spoilt,
            started=started,
            may_repeat=may_repeat,
            cancelled=execution.cancel_requested_at is not None,
            most=self._settings.max_attempts,
        )
        if isinstance(decision, retry.Requeue):
            if records.requeue(id, attempt, handed_back=not decision.counts, unbegun=not started):
                queue.put_back_after(self._store, id, self._settings.retry_pause(decision.pauses))
                metrics.janitor_actions.labels("requeued").inc()
        elif decision.state is State.CANCELLED:
            if records.end(id, records.cancelled(id), "The execution was cancelled; its worker was lost.", attempt):
                queue.withdraw(self._store, execution)
        else:
            message = f"The worker was lost in each of {attempt} attempts."
            if started and not may_repeat:
                message = "The worker was lost, and the execution may not be started again."
                if execution.retry:
                    message = "The worker was lost after the program had called a tool that must not be called twice."
            if self._end(id, Reason.WORKER_LOST, message, attempt):
                queue.withdraw(self._store, execution)

    def _delete(self, id: str) -> None:
        tenant = self._store.redis.hget(keys.execution(id), "tenant")
        queue.forget(self._store, id)
        try:
            self._store.records.delete(id, (tenant or b"").decode())
        except StillRunning:
            self._store.redis.zrem(keys.EXPIRY, id)  # the entry is added again when the execution ends
            report_malformed("expiry", id)
            return
        self._store.delete_files(id)
        metrics.janitor_actions.labels("deleted").inc()

    def _forget(self, id: str) -> None:
        """Remove an entry without a record, which a Redis may have after it lost writes."""
        for index in (keys.RETRYING, keys.QUEUED, keys.ACTIVE, keys.EXPIRY):
            self._store.redis.zrem(index, id)
        metrics.janitor_actions.labels("forgotten").inc()

    def _end(self, id: str, reason: Reason, message: str, attempt: int | None) -> bool:
        from_states = (State.QUEUED,) if reason is Reason.QUEUE_EXPIRED else None
        done = self._store.records.end(id, errored(reason), message, attempt, from_states)
        if done:
            metrics.janitor_actions.labels(str(reason)).inc()
        return done

    def _page(self, index: str, until: float) -> list[str]:
        """The next page of an index; after the last page the first again."""
        since = self._positions.pop(index, -math.inf)
        found = self._store.redis.zrangebyscore(index, since, until, 0, PAGE, withscores=True)
        if len(found) == PAGE:
            last = found[-1][1]
            self._positions[index] = last if last > since else math.nextafter(last, math.inf)
        return self._checked(index, [id for id, _ in found])

    def _ids(self, index: str, until: float) -> list[str]:
        """The first page of an index whose processed entries are removed."""
        return self._checked(index, self._store.redis.zrangebyscore(index, "-inf", until, 0, PAGE))

    def _checked(self, index: str, found: list[bytes]) -> list[str]:
        if strange := [id for id in found if not EXECUTION.fullmatch(id)]:
            self._store.redis.zrem(index, *strange)
            example = f"such as {strange[0][:64]!r}"
            self._report(f"{len(strange)} entries of {index} are not ids of executions, {example}; they were removed.")
        return [id.decode() for id in found if EXECUTION.fullmatch(id)]

    def _report(self, what: str) -> None:
        detail = f"{what} Another client writes to Redis: find it, then change the password."
        self._store.security.add(SecurityEvent("queue_tampering", detail), tenant=None, source="janitor")
