"""The RQ worker with N slots.

RQ's own workers run one job at a time; this one hands each job to a thread and takes the next as soon as a slot is
free, never before. Three threads matter: the one that calls :meth:`work` pops jobs, slot threads run them, and a ticker
of the caller's renews leases (:meth:`beat`). RQ acknowledges a job, by deleting it, after the handler returned, which
is after the execution's end was committed. RQ's registries stay true, so ``rq info`` shows what runs.
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
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import BaseDeathPenalty
from rq.worker import WorkerStatus

from orchestrator import metrics
from orchestrator.models import Isolation
from orchestrator.queue import ExecutionJob, ExecutionQueue, hand_back, pop, queue_names

POP_SECONDS = 2
WORKER_TTL_SECONDS = 30
RECONNECT_SECONDS = 0.5
log = structlog.get_logger()


class NoDeathPenalty(BaseDeathPenalty):
    """The driver and the session have the deadlines; an alarm in the main thread could not enforce them."""

    def setup_death_penalty(self) -> None:
        pass

    def cancel_death_penalty(self) -> None:
        pass


class SlotWorker(SimpleWorker):
    """Takes jobs of the isolations that are offered here and runs up to ``slots`` at a time."""

    death_penalty_class = NoDeathPenalty
    log_result_lifespan = False

    def __init__(self, connection: Any, name: str, slots: int, handler: Callable[[str], None]) -> None:
        ExecutionJob.handler = staticmethod(handler)
        super().__init__(
            [ExecutionQueue(n, connection=connection, serializer=JSONSerializer) for n in queue_names()],
            name=name,
            connection=connection,
            serializer=JSONSerializer,
            job_class=ExecutionJob,
            queue_class=ExecutionQueue,
            worker_ttl=WORKER_TTL_SECONDS,
            log_job_description=False,
            prepare_for_work=False,  # would ask Redis, which may be away now
        )
        self.hostname, self.pid = socket.gethostname(), os.getpid()
        self.log.setLevel(logging.WARNING)
        self.slots = slots
        self._free = threading.Semaphore(slots)
        self._jobs: dict[str, tuple[Job, Execution]] = {}
        self._jobs_lock = threading.Lock()
        self._leaving = threading.Event()
        self.paused: Callable[[], bool] = lambda: False
        self.offered: Callable[[], Sequence[Isolation]] = lambda: ()

    @property
    def busy(self) -> int:
        """Slots in use."""
        return len(self._jobs)

    def leave(self) -> None:
        """Take no more jobs; :meth:`work` returns when those it has are done."""
        self._leaving.set()

    def work_until_left(self) -> None:
        """Take and run jobs until :meth:`leave`. Survives any absence of Redis."""
        born = False
        while not self._leaving.is_set():
            try:
                if not born:
                    self.register_birth()  # type: ignore[no-untyped-call]
                    born = True
                self._take_one()
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
                metrics.store_errors.inc()
                log.warning("redis.unreachable", detail=str(error))
                self._leaving.wait(RECONNECT_SECONDS)
        for _ in range(self.slots):
            self._free.acquire()
        try:
            self.register_death()  # type: ignore[no-untyped-call]
        except redis.exceptions.ConnectionError as error:
            log.warning("redis.unreachable", detail=str(error))

    def beat(self) -> None:
        """Renew what RQ keeps about this worker and its jobs."""
        self.heartbeat(WORKER_TTL_SECONDS)
        with self._jobs_lock:
            jobs = list(self._jobs.values())
        for job, execution in jobs:
            self.maintain_heartbeats(job, execution)

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        return WORKER_TTL_SECONDS

    def _take_one(self) -> None:
        offered = self.offered()
        if self.paused() or not offered:
            self._leaving.wait(RECONNECT_SECONDS)
            return
        if not self._free.acquire(timeout=POP_SECONDS):
            return
        taken = False
        try:
            if (popped := pop(self.connection, offered, POP_SECONDS)) is None:
                return
            job, queue = popped
            taken = not (self.paused() or self._leaving.is_set())
            if not taken:  # it came while this worker stopped taking
                hand_back(job, self.connection)
                return
        finally:
            if not taken:
                self._free.release()
        threading.Thread(target=self._occupy, args=(job, queue), name=f"slot-{job.id[:8]}", daemon=True).start()

    def _occupy(self, job: Job, queue: Queue) -> None:
        try:
            execution = self.prepare_execution(job)
            with self._jobs_lock:
                self._jobs[job.id] = (job, execution)
            metrics.slots_busy.set(self.busy)
            self.perform_job(job, queue, execution)
        except redis.exceptions.RedisError as error:
            # The record tells the truth about the execution; what RQ could not note down, its registries let expire.
            metrics.store_errors.inc()
            log.warning("job.bookkeeping_failed", execution=job.id, detail=str(error))
        finally:
            with self._jobs_lock:
                self._jobs.pop(job.id, None)
            metrics.slots_busy.set(self.busy)
            self._free.release()
            if not self._jobs:
                self._idle()

    def _idle(self) -> None:
        try:
            self.set_state(WorkerStatus.IDLE)
        except redis.exceptions.RedisError as error:
            log.warning("redis.unreachable", detail=str(error))
