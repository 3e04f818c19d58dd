"""The one adapter to RQ: how execution ids travel from the API to a worker, and nothing else.

A job's id is its execution's id, and that is all a worker takes from Redis: the job's hash, where RQ keeps the name
of a function to import, is written for RQ's tools and never read. There is one RQ queue for each priority and
isolation, and a worker takes only from those whose isolation its host can give. RQ pops several queues with a BLPOP on
all of them, which offers no place to look first and no order; here a worker blocks on a *bell* list for each isolation,
which holds a token for each queued job, and then pops by a script in order of priority, then age. Tokens are only
hints: a worker that died with one in hand costs nothing, because the script runs on every timeout too and the janitor
rings for what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from orchestrator.models import ISOLATIONS, PRIORITIES, Execution, Isolation, Priority, Specification
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
    """An RQ queue of such jobs."""

    job_class = ExecutionJob


def pop(connection: Any, isolations: Sequence[Isolation], seconds: int) -> tuple[Job, Queue] | None:
    """The next job of those isolations; waits up to ``seconds`` for one, and gives ``None`` when none came."""
    bells = [keys.bell(isolation) for isolation in isolations]
    names = [keys.QUEUED, *bells, *(_key(queue_name(*which)) for which in product(PRIORITIES, isolations))]
    found = connection.eval(scripts.POP, len(names), *names, len(bells))
    if not found and seconds:
        connection.blpop(bells, seconds)
        found = connection.eval(scripts.POP, len(names), *names, len(bells))
    if not found:
        return None
    queue_key, job_id = (part.decode() for part in found)
    queue = ExecutionQueue.from_queue_key(queue_key, connection=connection, serializer=JSONSerializer)
    return _job(job_id, queue.name, connection), queue


def queue_name(priority: Priority, isolation: Isolation) -> str:
    """The RQ queue on which executions of that priority and isolation wait."""
    return priority if isolation == "standard" else f"{priority}-{isolation}"


def queue_names() -> list[str]:
    """Every RQ queue, highest priority first."""
    return [queue_name(*which) for which in product(PRIORITIES, ISOLATIONS)]


def envelope(store: Store, specification: Specification) -> Envelope:
    """What is written together with a record so that RQ finds it."""
    name = queue_name(specification.priority, specification.isolation)
    job = _job(specification.id, name, store.redis)
    fields = job.to_dict(include_meta=False, include_result=False)
    fields["status"] = "queued"
    written = {name: value for name, value in fields.items() if value != ""}
    return Envelope(job.key, written, _key(name), QUEUES_KEY, keys.bell(specification.isolation))


def put_back(store: Store, id: str) -> bool:
    """Queue an execution again that is ``queued`` and stands on no queue; ``False`` if it does or is not.

    Raises :class:`NotFound`.
    """
    queue_key, bell_key = _places(store.records.get(id, None))
    names = [keys.execution(id), keys.QUEUED, queue_key, bell_key]
    return bool(store.redis.eval(scripts.REQUEUE, len(names), *names, id))


def hand_back(job: Job, connection: Any) -> None:
    """Put a job that was popped and not begun back where it was, first in its queue."""
    _, _, isolation = job.origin.partition("-")
    with connection.pipeline() as pipe:
        pipe.lpush(_key(job.origin), job.id)
        pipe.rpush(keys.bell(isolation or "standard"), 1)
        pipe.execute()


def withdraw(store: Store, execution: Execution) -> None:
    """Take a cancelled execution's job off its queue."""
    with store.redis.pipeline() as pipe:
        pipe.lrem(_places(execution)[0], 1, execution.id)
        pipe.delete(Job.key_for(execution.id))
        pipe.execute()


def depths(store: Store) -> dict[str, int]:
    """Jobs of each priority."""
    which = list(product(PRIORITIES, ISOLATIONS))
    with store.redis.pipeline(transaction=False) as pipe:
        for priority, isolation in which:
            pipe.llen(_key(queue_name(priority, isolation)))
        waiting = dict(zip(which, pipe.execute(), strict=True))
    return {priority: sum(waiting[priority, isolation] for isolation in ISOLATIONS) for priority in PRIORITIES}


def _places(execution: Execution) -> tuple[str, str]:
    """Keys of the queue an execution waits on, and of the bell that is rung for it."""
    return _key(queue_name(execution.priority, execution.isolation)), keys.bell(execution.isolation)


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
