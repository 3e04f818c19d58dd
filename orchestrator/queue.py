"""The one adapter to RQ: how execution ids travel from the API to a worker, and nothing else.

A job's id is its execution's id, and that is all a worker takes from Redis: the job's hash, where RQ keeps the name
of a function to import, is written for RQ's tools and never read. Each tenant has an RQ queue for each priority and
isolation, and a worker takes only from those whose isolation its host can give. RQ pops several queues with a BLPOP on
all of them, which offers no place to look first and no order, and then needs 57 commands for a job's life; here one
script finds the tenant whose turn it is, pops what it wants first by priority, then age, claims the execution, and
notes in RQ's registries that the job has begun and that the one before it is done, so that ``rq info`` and dashboards
show what waits and runs. Priorities order what one tenant wants: between tenants they would let one starve the others.
A slot with nothing to do blocks on a *bell* list for each isolation, which gets a token with each job. Tokens are only
hints: a worker that died with one in hand costs nothing, because the script runs on every timeout too and the janitor
rings for what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from redis import Redis
from rq import Queue, worker_registration
from rq.executions import Execution as Begun
from rq.executions import ExecutionRegistry
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import missing_keys, utcformat
from rq.worker import BaseWorker
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from orchestrator.models import ISOLATIONS, PRIORITIES, Execution, Isolation, Priority, Specification
from orchestrator.store import Store, keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.executions.records import Claim, Envelope

FUNCTION = "mayfly.execute"
NO_TIMEOUT = -1
QUEUES_KEY = Queue.redis_queues_keys
ANY_NUMBER = 4095  # of executions a tenant has running; more are not told apart
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
        self._script = connection.script(scripts.TAKE)
        self._renew = connection.script(scripts.RENEW)
        self._enrol = connection.script(scripts.ENROL)
        self._dismiss = connection.script(scripts.DISMISS)
        self._keys = [_worker_key(worker), Begun("", "", waiting, worker).worker_executions_key, QUEUES_KEY]

    def take(self, isolations: Sequence[Isolation], done: Taken | None = None, *, spare: bool = False) -> Taken | None:
        """Claim the next execution of those isolations; ``None`` if none is queued.

        A ``spare`` slot claims only those of tenants that have nothing running.

        In the same step RQ hears that ``done`` is over, which must have been committed or given back. Raises
        :class:`StoreUnavailable`.
        """
        kinds = [queue_kind(*which) for which in product(PRIORITIES, isolations)]
        now = datetime.now(UTC)
        forget = () if done is None else (done.claim.id, done.claim.attempt, done.queue)
        found = self._script(
            keys=self._keys,
            args=[
                self._worker, now.timestamp(), utcformat(now), BEGUN_SECONDS, *_prefixes(),
                0 if spare else ANY_NUMBER, len(isolations), *isolations, len(kinds), *kinds, *forget,
            ],
        )  # fmt: skip
        if not found:
            return None
        name, id, attempt, spec, signature, waited = found
        seal = (signature or b"").decode(errors="replace")
        claim = Claim(id.decode(), int(attempt), spec or b"", seal, float(waited))
        return Taken(claim, name.decode())

    def await_bell(self, isolations: Sequence[Isolation], seconds: int, *, spare: bool = False) -> str | None:
        """Wait until something of those isolations was queued; the bell that rang, ``None`` when the time is over."""
        rung = self._waiting.blpop([keys.bell(isolation, spare) for isolation in isolations], seconds)
        return None if rung is None else str(rung[0].decode())

    def ring(self, bell: str) -> None:
        """Wake somebody else: the token that was taken is for a slot that takes the job too."""
        self._waiting.rpush(bell, 1)

    def renew(self, begun: Sequence[Taken]) -> None:
        """Tell RQ that these still run, those of them that it has not been told are over.

        RQ's own way makes a job anew that has just ended, and deletes it after that, if it still can.
        """
        now = datetime.now(UTC)
        pairs = [part for taken in begun for part in (f"{taken.claim.id}:{taken.claim.attempt}", taken.queue)]
        self._renew(keys=self._keys[1:2], args=[now.timestamp(), utcformat(now), BEGUN_SECONDS, *_prefixes(), *pairs])

    def enrol(self, isolations: Sequence[Isolation]) -> None:
        """Tell RQ which queues there are now that this worker serves."""
        prefixes = (_key(""), WORKERS_BY_QUEUE_KEY % "")
        self._enrol(keys=[QUEUES_KEY], args=[self._keys[0], BEGUN_SECONDS, *prefixes, *isolations])

    def dismiss(self) -> None:
        """Tell RQ that it serves none any more."""
        self._dismiss(keys=[QUEUES_KEY], args=[self._keys[0], _key(""), WORKERS_BY_QUEUE_KEY % ""])


def queue_kind(priority: Priority, isolation: Isolation) -> str:
    """Which of a tenant's queues one for that priority and isolation is."""
    return priority if isolation == "standard" else f"{priority}-{isolation}"


def queue_kinds() -> list[str]:
    """All of them, highest priority first."""
    return [queue_kind(*which) for which in product(PRIORITIES, ISOLATIONS)]


def queue_name(execution: Execution | Specification) -> str:
    """The RQ queue on which an execution waits. No name of a tenant has a colon."""
    return f"{execution.tenant}:{queue_kind(execution.priority, execution.isolation)}"


def queue_names(store: Store) -> list[str]:
    """Every RQ queue of which something waits or runs."""
    return [key.decode().removeprefix(_key("")) for key in store.redis.smembers(QUEUES_KEY)]


def envelope(specification: Specification) -> Envelope:
    """What is written together with a record so that RQ finds it."""
    name, now = queue_name(specification), utcformat(specification.created_at)
    fields = {**_job_fields(), "origin": name, "created_at": now, "enqueued_at": now}
    return Envelope(Job.key_for(specification.id), fields, _key(name), QUEUES_KEY)


def put_back(store: Store, *ids: str) -> int:
    """Queue executions again, each in its place by age, that are ``queued`` and stand on no queue; how many did."""
    return int(store.redis.eval(scripts.REQUEUE, 2, keys.QUEUED, QUEUES_KEY, *ids))


def put_back_after(store: Store, id: str, seconds: float) -> None:
    """Queue an execution that is ``queued`` again: at once, or by the janitor after a pause."""
    if not seconds:
        put_back(store, id)
        return
    store.redis.zadd(keys.RETRYING, {id: store.now() + seconds})


def withdraw(store: Store, execution: Execution) -> None:
    """Take a cancelled execution's job off its queue."""
    name = queue_name(execution)
    names = [_key(name), _registry_key(name), QUEUES_KEY, Job.key_for(execution.id)]
    store.redis.eval(scripts.WITHDRAW, len(names), *names, execution.id)


def forget(store: Store, id: str) -> None:
    """Have RQ forget the job of an execution that is not there any more, if whoever ended it could not."""
    store.redis.delete(Job.key_for(id))


def sweep(store: Store) -> int:
    """Have RQ's registries forget what workers that died could not tell them; how much that was."""
    if missing_keys(store.redis, list(worker_registration.get_keys(connection=store.redis))):
        for kind in queue_kinds():
            worker_registration.clean_worker_registry(Queue(kind, connection=store.redis, serializer=JSONSerializer))
    return int(store.redis.eval(scripts.SWEEP, 1, QUEUES_KEY, *_prefixes()))


def depths(store: Store) -> dict[str, int]:
    """Jobs of each priority."""
    names = queue_names(store)
    with store.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(_key(name))
        lengths = zip(names, pipe.execute(), strict=True)
    waiting = [(name.partition(":")[2].partition("-")[0], length) for name, length in lengths]
    return {priority: sum(length for of, length in waiting if of == priority) for priority in PRIORITIES}


def _key(name: str) -> str:
    return f"{Queue.redis_queue_namespace_prefix}{name}"


def _worker_key(name: str) -> str:
    return f"{BaseWorker.redis_worker_namespace_prefix}{name}"


def _registry_key(queue_name: str) -> str:
    return str(StartedJobRegistry.key_template.format(queue_name))


@cache
def _prefixes() -> tuple[str, ...]:
    """How the keys begin of a job, of one that has begun, of what has begun of a job, of a queue, of its registry."""
    nothing: Any = None
    begun = Begun("", "", nothing).key.removesuffix(":")
    return Job.redis_job_namespace_prefix, begun, ExecutionRegistry("", nothing).key, _key(""), _registry_key("")


@cache
def _job_fields() -> dict[str | bytes, Any]:
    """The hash of a queued job, but for its queue and times. Made without asking Redis."""
    fields = _job("", "", Redis()).to_dict(include_meta=False, include_result=False)
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
