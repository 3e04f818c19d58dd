"""The RQ worker with N slots.

RQ's own workers run one job at a time; this worker has a thread for each slot, which claims an execution, runs it, and
claims the next. The script of a claim also updates RQ (:class:`orchestrator.queue.Deliveries`): once an execution's end
is committed, its job is acknowledged together with the next claim, and at the latest before the slot waits for an
execution. The caller's thread waits in :meth:`SlotWorker.work_until_left`; another thread renews leases
(:meth:`SlotWorker.beat`). Of RQ's worker class only the registration, heartbeats and deregistration are used.

A tenant without running executions need not wait for long programs of other tenants: while all slots are busy, a
*spare* slot takes executions of such tenants, and no others.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis
import structlog
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from orchestrator import metrics
from orchestrator.errors import StoreFull, StoreUnavailable
from orchestrator.queue import BEGUN_SECONDS, Deliveries, Taken, queue_kinds
from orchestrator.store import Store
from orchestrator.store.executions.records import Claim

POP_SECONDS = 2
RECONNECT_SECONDS = 0.5
log = structlog.get_logger()


class SlotWorker(SimpleWorker):
    """Claims executions of the lanes that this worker serves and runs up to ``slots`` at a time, plus the spare
    slot.
    """

    def __init__(
        self,
        store: Store,
        connection: Any,
        name: str,
        slots: int,
        handler: Callable[[Claim], None],
        spare_slots: int = 0,
        *,
        offered: Callable[[], Sequence[str]],
        paused: Callable[[], bool],
        leaving: threading.Event | None = None,
    ) -> None:
        """``offered`` returns the lanes whose executions to take, ``paused`` whether to take none for now.

        Setting ``leaving`` from outside has the effect of :meth:`leave`.
        """
        super().__init__(
            [Queue(kind, connection=connection, serializer=JSONSerializer) for kind in queue_kinds()],
            name=name,
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=BEGUN_SECONDS,
            prepare_for_work=False,  # would query Redis, which may be unavailable now
        )
        self.hostname, self.pid = socket.gethostname(), os.getpid()
        self.log.setLevel(logging.WARNING)
        self.slots = slots
        self._spare_slots = spare_slots
        self._handler = handler
        self._deliveries = Deliveries(store.redis, connection, name)
        self._taken: dict[str, Taken] = {}
        self._ended = 0
        self._taken_lock = threading.Lock()
        self._filled = threading.Condition(self._taken_lock)
        self._leaving = leaving or threading.Event()
        self._entries_lock = threading.Lock()  # taken while RQ's entries of this worker are written
        self._entered = True
        self.paused, self.offered = paused, offered

    @property
    def connection_timeout(self) -> int:
        """The least time-out of RQ's connection, without which RQ would wait 30 s for a hanging Redis."""
        return 0

    @property
    def busy(self) -> int:
        """Slots in use."""
        return len(self._taken)

    def leave(self) -> None:
        """Take no more executions; :meth:`work_until_left` returns when the running executions are done."""
        self._leaving.set()

    @property
    def leaving(self) -> bool:
        """Whether the worker permanently takes no more executions."""
        return self._leaving.is_set()

    def work_until_left(self) -> None:
        """Take and run executions until :meth:`leave`. Survives any outage of Redis.

        Idle slots end at once. Without Redis they end when their wait times out.
        """
        slots = [
            threading.Thread(target=self._serve, args=[number >= self.slots], name=f"slot-{number}")
            for number in range(self.slots + self._spare_slots)
        ]
        while not self._leaving.is_set():
            try:
                self.register_birth()  # type: ignore[no-untyped-call]
            except redis.exceptions.RedisError as error:
                self._missed(error)
            except ValueError:  # RQ has this worker's unique name: the registration's answer was lost
                break
            else:
                break
        waker = threading.Thread(target=self._wake_when_leaving, args=[len(slots)], name="slot-waker")
        for thread in (*slots, waker):
            thread.start()
        for slot in slots:
            slot.join()
        self.leave()  # ends the waker, in case every slot has failed
        waker.join()
        try:
            with self._entries_lock:
                self._entered = False
                self._deliveries.dismiss()
                self.register_death()  # type: ignore[no-untyped-call]
        except (redis.exceptions.RedisError, StoreUnavailable) as error:
            log.warning("redis.unreachable", detail=str(error))

    def beat(self) -> None:
        """Renew RQ's entries of this worker and its jobs, until it has left."""
        with self._entries_lock:
            if self._entered:
                self._renew_entries()

    def _renew_entries(self) -> None:
        with self._taken_lock:
            running, ended = list(self._taken.values()), self._ended
        with self.connection.pipeline(transaction=False) as pipe:
            self.heartbeat(BEGUN_SECONDS, pipe)
            self.set_state(WorkerStatus.BUSY if running else WorkerStatus.IDLE, pipe)
            pipe.hset(self.key, "successful_job_count", ended)
            pipe.execute()
        self._deliveries.renew(running)
        self._deliveries.enrol(self.offered())

    def _serve(self, spare: bool) -> None:
        """The loop of one slot: take, run, take."""
        done: Taken | None = None
        while True:
            needless = spare and self.busy < self.slots
            idle = needless or self.paused() or self._leaving.is_set()
            offered = () if idle else self.offered()
            try:
                taken = self._deliveries.take(offered, done, spare=spare) if offered or done else None
                done = None
                if taken is None and offered:
                    bell = self._deliveries.await_bell(offered, POP_SECONDS, spare=spare)
                    if bell and (self.paused() or self._leaving.is_set()):
                        self._deliveries.ring(bell)
            except StoreFull:  # repeated until there is capacity, which is not announced
                metrics.claims_refused.inc()
                log.warning("claim.no_room", detail="Redis is at its maxmemory: queued executions wait.")
                self._leaving.wait(RECONNECT_SECONDS)
                taken = None
                if self._leaving.is_set():
                    return
            except (redis.exceptions.RedisError, StoreUnavailable) as error:
                self._missed(error)
                taken = None
                if self._leaving.is_set():  # jobs that were not acknowledged in RQ expire
                    return
            if taken is not None:
                self._run(taken)
                done = taken
            elif self._leaving.is_set():
                return
            elif needless:
                with self._filled:
                    self._filled.wait_for(lambda: self.busy >= self.slots, RECONNECT_SECONDS)
            elif not offered:
                self._leaving.wait(RECONNECT_SECONDS)

    def _wake_when_leaving(self, slots: int) -> None:
        self._leaving.wait()
        try:
            self._deliveries.wake(slots)
        except redis.exceptions.RedisError as error:  # Redis is unavailable or full: idle slots end by their time-out
            log.warning("slots.not_woken", detail=str(error))

    def _run(self, taken: Taken) -> None:
        with self._taken_lock:
            self._taken[taken.claim.id] = taken
            if len(self._taken) >= self.slots:
                self._filled.notify_all()
        metrics.slots_busy.set(self.busy)
        try:
            self._handler(taken.claim)
        except Exception:  # the slot must survive any error; the janitor requeues the execution
            metrics.slot_failures.inc()
            log.exception("slot.failed", execution=taken.claim.id)
        finally:
            with self._taken_lock:
                self._taken.pop(taken.claim.id, None)
                self._ended += 1
            metrics.slots_busy.set(self.busy)

    def _missed(self, error: Exception) -> None:
        metrics.store_errors.inc()
        log.warning("redis.unreachable", detail=str(error))
        self._leaving.wait(RECONNECT_SECONDS)
