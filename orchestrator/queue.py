"""The one adapter to RQ: how execution ids travel from the API to a worker, and nothing else.

A job's id is its execution's id, and that is all a worker takes from Redis: the job's hash, where RQ keeps the name
of a function to import, is written for RQ's tools and never read. There is one RQ queue for each priority and
isolation, and a worker takes only from those whose isolation its host can give. RQ pops several queues with a BLPOP on
all of them, which offers no place to look first and no order, and then needs 57 commands for a job's life; here one
script pops in order of priority, then age, claims the execution, and notes in RQ's registries that the job has begun
and that the one before it is done, so that ``rq info`` and dashboards show what runs. A slot with nothing to do blocks
on a *bell* list for each isolation, which holds a token for each queued job. Tokens are only hints: a worker that died
with one in hand costs nothing, because the script runs on every timeout too and the janitor rings for what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from redis import Redis
from rq import Queue
from rq.executions import Execution as Begun
from rq.executions import ExecutionRegistry
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import utcformat
from rq.worker import BaseWorker

from orchestrator.models import ISOLATIONS, PRIORITIES, Execution, Isolation, Priority, Specification
from orchestrator.store import Store, delivery, keys
from orchestrator.store.connection import StoreConnection
from orchestrator.store.records import Claim, Envelope

FUNCTION = "mayfly.execute"
NO_TIMEOUT = -1
QUEUES_KEY = Queue.redis_queues_keys
BEGUN_SECONDS = 30  # RQ takes a job for lost when nobody renewed it for so long


class Taken(NamedTuple):
    """A claimed execution, and the name of the RQ queue it stood on."""

    claim: Claim
    queue: str


class Deliveries:
    """What one worker takes off the queues. Thread-safe.

    ``waiting`` is a client for what blocks and for RQ; it raises redis-py's own errors.
    """

    def __init__(self, connection: StoreConnection, waiting: Any, worker: str) -> None:
        self._waiting = waiting
        self._worker = worker
        self._script = connection.script(delivery.TAKE)
        self._keys = [keys.QUEUED, _worker_key(worker), Begun("", "", waiting, worker).worker_executions_key]

    def take(self, isolations: Sequence[Isolation], done: Taken | None = None) -> Taken | None:
        """Claim the next execution of those isolations; ``None`` if none is queued.

        In the same step RQ hears that ``done`` is over, which must have been committed or given back. Raises
        :class:`StoreUnavailable`.
        """
        names = [queue_name(*which) for which in product(PRIORITIES, isolations)]
        now = datetime.now(UTC)
        forget = () if done is None else (done.claim.id, done.claim.attempt, _registry_key(done.queue))
        found = self._script(
            keys=[
                *self._keys, *map(keys.bell, isolations), *map(_key, names), *map(_registry_key, names)
            ],
            args=[
                len(isolations), len(names), self._worker, now.timestamp(), utcformat(now), BEGUN_SECONDS,
                *_prefixes(), *forget,
            ],
        )  # fmt: skip
        if not found:
            return None
        number, id, attempt, spec, signature = found
        claim = Claim(id.decode(), int(attempt), spec or b"", (signature or b"").decode(errors="replace"))
        return Taken(claim, names[number])

    def await_bell(self, isolations: Sequence[Isolation], seconds: int) -> str | None:
        """Wait until something of those isolations was queued; the bell that rang, ``None`` when the time is over."""
        rung = self._waiting.blpop([keys.bell(isolation) for isolation in isolations], seconds)
        return None if rung is None else str(rung[0].decode())

    def ring(self, bell: str) -> None:
        """Wake somebody else: the token that was taken is for a slot that takes the job too."""
        self._waiting.rpush(bell, 1)

    def begun(self, taken: Taken) -> tuple[Job, Begun]:
        """What RQ calls a job that was taken, and its execution."""
        id, attempt = taken.claim.id, str(taken.claim.attempt)
        return _job(id, taken.queue, self._waiting), Begun(attempt, id, self._waiting, self._worker)


def queue_name(priority: Priority, isolation: Isolation) -> str:
    """The RQ queue on which executions of that priority and isolation wait."""
    return priority if isolation == "standard" else f"{priority}-{isolation}"


def queue_names() -> list[str]:
    """Every RQ queue, highest priority first."""
    return [queue_name(*which) for which in product(PRIORITIES, ISOLATIONS)]


def envelope(specification: Specification) -> Envelope:
    """What is written together with a record so that RQ finds it."""
    name = queue_name(specification.priority, specification.isolation)
    now = utcformat(specification.created_at)
    fields = {**_job_fields(name), "created_at": now, "enqueued_at": now}
    return Envelope(Job.key_for(specification.id), fields, _key(name), QUEUES_KEY, keys.bell(specification.isolation))


def put_back(store: Store, id: str) -> bool:
    """Queue an execution again that is ``queued`` and stands on no queue; ``False`` if it does or is not.

    Raises :class:`NotFound`.
    """
    queue_key, bell_key = _places(store.records.get(id, None))
    names = [keys.execution(id), keys.QUEUED, queue_key, bell_key]
    return bool(store.redis.eval(delivery.REQUEUE, len(names), *names, id))


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


def _worker_key(name: str) -> str:
    return f"{BaseWorker.redis_worker_namespace_prefix}{name}"


def _registry_key(queue_name: str) -> str:
    return str(StartedJobRegistry.key_template.format(queue_name))


@cache
def _prefixes() -> tuple[str, str, str]:
    """How the keys begin of a job, of one that has begun, and of what has begun of a job."""
    nothing: Any = None
    begun = Begun("", "", nothing).key.removesuffix(":")
    return Job.redis_job_namespace_prefix, begun, ExecutionRegistry("", nothing).key


@cache
def _job_fields(queue_name: str) -> dict[str | bytes, Any]:
    """The hash of a queued job, but for its times. Made without asking Redis."""
    fields = _job("", queue_name, Redis()).to_dict(include_meta=False, include_result=False)
    fields["status"] = "queued"
    return {name: value for name, value in fields.items() if value != "" and not name.endswith("_at")}


def _job(id: str, queue_name: str, connection: Any) -> Job:
    # A job is made from its id alone, also by the worker that took it: what its hash says is never read.
    job = Job(id=id, connection=connection, serializer=JSONSerializer)
    job.created_at = job.enqueued_at = datetime.now(UTC)
    job._func_name = FUNCTION
    job._args, job._kwargs, job._instance = (), {}, None
    job.description = FUNCTION
    job.origin, job.timeout, job.result_ttl, job.failure_ttl = queue_name, NO_TIMEOUT, 0, 60
    return job
