"""The one adapter to RQ: how execution ids travel from the API to a worker, and nothing else.

A job's id is its execution's id, and that is all a worker takes from Redis: the job's hash, where RQ keeps the name
of a function to import, is written for RQ's tools and never read. There is one RQ queue for each priority. RQ pops
several queues with a BLPOP on all of them, which offers no place to look first and no order; here a worker blocks on
one *bell* list, which holds a token for each queued job, and then pops by a script in order of priority. Tokens are
only hints: a worker that died with one in hand costs nothing, because the script runs on every timeout too and the
janitor rings for what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.job import Job
from rq.serializers import JSONSerializer

from orchestrator.models import PRIORITIES, Priority
from orchestrator.store import Store, keys, scripts
from orchestrator.store.records import Envelope

FUNCTION = "mayfly.execute"
NO_TIMEOUT = -1
QUEUES_KEY = Queue.redis_queues_keys


class ExecutionJob(Job):
    """A job that may do one thing: hand its id to the worker's ``handler``."""

    handler: Callable[[str], None]

    def perform(self) -> None:
        """Run the execution whose id this job carries."""
        type(self).handler(self.id)


class ExecutionQueue(Queue):
    """An RQ queue that is popped together with its siblings, highest priority first."""

    job_class = ExecutionJob

    @classmethod
    def dequeue_any(
        cls,
        queues: Iterable[Queue],
        timeout: int | None,
        connection: Any,
        job_class: type[Job] | None = None,
        serializer: Any = None,
        death_penalty_class: Any = None,
    ) -> tuple[Job, Queue]:
        """The next job. Waits up to ``timeout`` seconds; raises RQ's ``DequeueTimeout`` when none came."""
        queue_keys = [queue.key for queue in queues]
        popped = connection.eval(scripts.POP, 1 + len(queue_keys), keys.BELL, *queue_keys)
        if not popped and timeout:
            connection.blpop([keys.BELL], timeout)
            popped = connection.eval(scripts.POP, 1 + len(queue_keys), keys.BELL, *queue_keys)
        if not popped:
            raise DequeueTimeout(timeout, queue_keys)
        queue_key, job_id = (part.decode() for part in popped)
        queue = cls.from_queue_key(queue_key, connection=connection, serializer=JSONSerializer)
        return _job(job_id, queue.name, connection), queue


def queue_names() -> list[str]:
    """RQ queue names, highest priority first."""
    return list(PRIORITIES)


def envelope(store: Store, id: str, priority: Priority) -> Envelope:
    """What is written together with a record so that RQ finds it."""
    job = _job(id, priority, store.redis)
    fields = job.to_dict(include_meta=False, include_result=False)
    fields["status"] = "queued"
    return Envelope(job.key, {name: value for name, value in fields.items() if value != ""}, _key(priority), QUEUES_KEY)


def put_back(store: Store, id: str, priority: Priority) -> bool:
    """Queue an execution again that is ``queued`` and stands on no queue; ``False`` if it does or is not."""
    names = [keys.execution(id), keys.QUEUED, _key(priority), keys.BELL]
    return bool(store.redis.eval(scripts.REQUEUE, len(names), *names, id))


def hand_back(job: Job, connection: Any) -> None:
    """Put a job that was popped and not begun back where it was, first in its queue."""
    with connection.pipeline() as pipe:
        pipe.lpush(_key(job.origin), job.id)
        pipe.rpush(keys.BELL, 1)
        pipe.execute()


def withdraw(store: Store, id: str, priority: Priority) -> None:
    """Take a cancelled execution's job off its queue."""
    with store.redis.pipeline() as pipe:
        pipe.lrem(_key(priority), 1, id)
        pipe.delete(Job.key_for(id))
        pipe.execute()


def depths(store: Store) -> dict[str, int]:
    """Jobs on each queue."""
    with store.redis.pipeline(transaction=False) as pipe:
        for name in queue_names():
            pipe.llen(_key(name))
        return dict(zip(queue_names(), pipe.execute(), strict=True))


def _key(name: str) -> str:
    return f"{Queue.redis_queue_namespace_prefix}{name}"


def _job(id: str, queue_name: str, connection: Any) -> ExecutionJob:
    # A job is made from its id alone, also by the worker that popped it: what its hash says is never read.
    job = ExecutionJob(id=id, connection=connection, serializer=JSONSerializer)
    job.created_at = job.enqueued_at = datetime.now(UTC)
    job._func_name = FUNCTION
    job._args, job._kwargs, job._instance = (), {}, None
    job.description = FUNCTION
    job.origin, job.timeout, job.result_ttl, job.failure_ttl = queue_name, NO_TIMEOUT, 0, 60
    return job
