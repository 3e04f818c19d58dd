"""The only adapter to RQ, which carries execution ids from the API to a worker.

A job is the id of its execution on a queue, and no more: RQ's hash of a job, with the name of a function to import, is
never written. Each tenant has an RQ queue for each priority and lane: an isolation, and the features that an execution
needs of its worker (:mod:`orchestrator.features`). A worker takes jobs only of the lanes that it serves. RQ
itself pops from several queues by one BLPOP, in a fixed order, and needs 57 commands for a job's life. Here one script
finds the tenant whose turn it is, pops that tenant's next job by priority, then age, and claims the execution.
Priorities order the jobs of one tenant: between tenants they would let one starve the others.

An idle slot blocks on a *bell* list for each lane, which gets a token with each job. Tokens are only hints: a
token lost with a dead worker does no harm, because the script also runs on every timeout, and the janitor rings again.
A worker that leaves wakes its own idle slots by a *leaving bell*, on which no other worker blocks.

These keys are written for RQ's tools alone, as ``rq info`` and rq-exporter read them (``test_rq_tools.py``):

- ``rq:queues``: the queues with a waiting or a running job;
- ``rq:wip:<queue>``: the running jobs of a queue, by the time at which each counts as lost; a live worker renews
  its own;
- ``rq:workers``, ``rq:worker:<name>`` and ``rq:workers:<queue>``: the workers, whether each is busy, the number of its
  ended executions, and its queues.

Beside those and the queues themselves (``rq:queue:<queue>``) RQ has no key.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from rq import Queue, worker_registration
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import missing_keys
from rq.worker import BaseWorker
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from orchestrator import features
from orchestrator.models import PRIORITIES, Execution, Priority, Specification
from orchestrator.store import Store, keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.executions.records import Claim, Envelope

QUEUES_KEY = Queue.redis_queues_keys
ANY_NUMBER = 4095  # of a tenant's running executions; larger numbers are equal
MOST_AHEAD = 10_000  # entries in which a place in line is looked for
BEGUN_SECONDS = 30  # RQ presumes a job lost after this time without renewal


class Taken(NamedTuple):
    """A claimed execution, and the name of its RQ queue."""

    claim: Claim
    queue: str


class Deliveries:
    """Takes executions from the queues for one worker. Thread-safe.

    ``waiting`` is a client for blocking commands and for RQ; it raises redis-py's own errors.
    """

    def __init__(self, connection: StoreConnection, waiting: Any, worker: str) -> None:
        self._waiting = waiting
        self._worker = worker
        self._leaving_bell = keys.leaving_bell(worker)
        self._script = connection.script(scripts.TAKE)
        self._renew = connection.script(scripts.RENEW)
        self._enrol = connection.script(scripts.ENROL)
        self._dismiss = connection.script(scripts.DISMISS)
        self._worker_key = f"{BaseWorker.redis_worker_namespace_prefix}{worker}"

    def take(self, lanes: Sequence[str], done: Taken | None = None, *, spare: bool = False) -> Taken | None:
        """Claim the next execution of those lanes; ``None`` if none is queued.

        A ``spare`` slot claims only those of tenants that have nothing running.

        The same step acknowledges ``done`` in RQ, which must have been committed or requeued. Raises
        :class:`StoreUnavailable`.
        """
        kinds = _kinds_of(tuple(lanes))
        forget = () if done is None else (_begun(done), done.queue)
        found = self._script(
            keys=[QUEUES_KEY],
            args=[
                self._worker, BEGUN_SECONDS, _key(""), _registry_key(""),
                0 if spare else ANY_NUMBER, len(lanes), *lanes, len(kinds), *kinds, *forget,
            ],
        )  # fmt: skip
        if not found:
            return None
        name, id, attempt, spec, signature, waited = found
        seal = (signature or b"").decode(errors="replace")
        claim = Claim(id.decode(), int(attempt), spec or b"", seal, float(waited))
        return Taken(claim, name.decode())

    def await_bell(self, lanes: Sequence[str], seconds: int, *, spare: bool = False) -> str | None:
        """Wait until an execution of those lanes is queued; the bell that rang.

        ``None`` after the time-out, or after :meth:`wake`, whose tokens are taken first.
        """
        bells = [keys.spare_bell(lane) if spare else keys.bell(lane) for lane in lanes]
        rung = self._waiting.blpop([self._leaving_bell, *bells], seconds)
        bell = None if rung is None else str(rung[0].decode())
        return None if bell == self._leaving_bell else bell

    def ring(self, bell: str) -> None:
        """Return a taken token, to wake another slot."""
        self._waiting.rpush(bell, 1)

    def wake(self, slots: int) -> None:
        """End :meth:`await_bell` in that number of this worker's slots, also in those that call it later."""
        with self._waiting.pipeline() as pipe:
            pipe.rpush(self._leaving_bell, *[1] * slots)
            pipe.expire(self._leaving_bell, BEGUN_SECONDS)
            pipe.execute()

    def renew(self, begun: Sequence[Taken]) -> None:
        """Renew the running jobs in RQ, except acknowledged jobs."""
        pairs = [part for taken in begun for part in (_registry_key(taken.queue), _begun(taken))]
        if pairs:
            self._renew(keys=pairs[::2], args=[BEGUN_SECONDS, *pairs[1::2]])

    def enrol(self, lanes: Sequence[str]) -> None:
        """Register the queues that this worker serves in RQ."""
        prefixes = (_key(""), WORKERS_BY_QUEUE_KEY % "")
        self._enrol(keys=[QUEUES_KEY, self._leaving_bell], args=[self._worker_key, BEGUN_SECONDS, *prefixes, *lanes])

    def dismiss(self) -> None:
        """Deregister this worker from all queues in RQ."""
        self._dismiss(keys=[QUEUES_KEY], args=[self._worker_key, _key(""), WORKERS_BY_QUEUE_KEY % ""])


def queue_kind(priority: Priority, lane: str) -> str:
    """The kind of queue for a priority and lane."""
    return priority if lane == "standard" else f"{priority}-{lane}"


def queue_kinds() -> list[str]:
    """All kinds, highest priority first."""
    return [queue_kind(*which) for which in product(PRIORITIES, features.LANES)]


@cache
def _kinds_of(lanes: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds of those lanes for each priority, highest first."""
    return tuple(queue_kind(*which) for which in product(PRIORITIES, lanes))


def queue_name(specification: Specification) -> str:
    """The RQ queue on which an execution waits. No name of a tenant has a colon."""
    return f"{specification.tenant}:{queue_kind(specification.priority, features.lane_of(specification))}"


def _names(execution: Execution, *priorities: Priority) -> list[str]:
    """The RQ queues of the execution's tenant and isolation, for each priority."""
    kinds = product(priorities, features.lanes([execution.isolation]))
    return [f"{execution.tenant}:{queue_kind(*which)}" for which in kinds]


def queue_names(store: Store) -> list[str]:
    """Every RQ queue with queued or running jobs."""
    return [key.decode().removeprefix(_key("")) for key in store.redis.smembers(QUEUES_KEY)]


def ahead(store: Store, execution: Execution) -> int | None:
    """The number of queued executions of the same tenant and isolation that go before this one.

    Other tenants have turns of their own. ``None`` if the execution is not among the first ``MOST_AHEAD`` of its
    priority's queue, or on no queue any more.
    """
    own, higher = _names(execution, execution.priority), PRIORITIES[: PRIORITIES.index(execution.priority)]
    with store.redis.pipeline(transaction=False) as pipe:
        for name in own:
            pipe.lpos(_key(name), execution.id, maxlen=MOST_AHEAD)
        for name in _names(execution, *higher):
            pipe.llen(_key(name))
        found = pipe.execute()
    places = [place for place in found[: len(own)] if place is not None]
    return int(places[0]) + sum(map(int, found[len(own) :])) if places else None


def envelope(specification: Specification) -> Envelope:
    """Where an execution's id goes when its record is written."""
    return Envelope(_key(queue_name(specification)), QUEUES_KEY, features.lane_of(specification))


def put_back(store: Store, *ids: str) -> int:
    """Put executions in state ``queued`` that are on no queue back, each in its place by age; returns their number."""
    return int(store.redis.eval(scripts.REQUEUE, 2, keys.QUEUED, QUEUES_KEY, *ids))


def release(store: Store, *api_keys: str) -> int:
    """Put executions that are held because of their API key's quota back on their queues, as many as the key has room
    for; without keys, of some that hold executions. Returns their number.
    """
    return int(store.redis.eval(scripts.RELEASE, 1, QUEUES_KEY, *api_keys))


def put_back_after(store: Store, id: str, seconds: float) -> None:
    """Queue an execution that is ``queued`` again: at once, or by the janitor after a pause."""
    if not seconds:
        put_back(store, id)
        return
    store.redis.zadd(keys.RETRYING, {id: store.now() + seconds})


def withdraw(store: Store, execution: Execution) -> None:
    """Take a cancelled execution off its queue."""
    for name in _names(execution, execution.priority):
        names = [_key(name), _registry_key(name), QUEUES_KEY]
        store.redis.eval(scripts.WITHDRAW, len(names), *names, execution.id)


def forget(store: Store, id: str) -> None:
    """Remove the hash of a job that was queued by a Mayfly that still wrote such, and ended after the upgrade."""
    store.redis.delete(Job.key_for(id))


def sweep(store: Store) -> int:
    """Remove the attempts of dead workers from RQ's registries; returns their number."""
    if missing_keys(store.redis, list(worker_registration.get_keys(connection=store.redis))):
        for kind in queue_kinds():
            worker_registration.clean_worker_registry(Queue(kind, connection=store.redis, serializer=JSONSerializer))
    return int(store.redis.eval(scripts.SWEEP, 1, QUEUES_KEY, _key(""), _registry_key("")))


def depths(store: Store) -> dict[str, int]:
    """Jobs of each priority."""
    names = queue_names(store)
    with store.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(_key(name))
        lengths = zip(names, pipe.execute(), strict=True)
    waiting = [(name.partition(":")[2].partition("-")[0], length) for name, length in lengths]
    return {priority: sum(length for of, length in waiting if of == priority) for priority in PRIORITIES}


def oldest_seconds(store: Store, now: float) -> float:
    """Age of the oldest execution on a queue, 0 without any; ``now`` is Redis's clock.

    Executions that are held wait for their API key's quota and not for a worker, so they do not count.
    """
    names = queue_names(store)
    with store.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.lindex(_key(name), 0)
        heads = [id for id in pipe.execute() if id is not None]
        for id in heads:
            pipe.zscore(keys.QUEUED, id)
        since = [float(time) for time in pipe.execute() if time is not None]
    return max(0.0, now - min(since, default=now))


def _key(name: str) -> str:
    return f"{Queue.redis_queue_namespace_prefix}{name}"


def _registry_key(queue_name: str) -> str:
    return str(StartedJobRegistry.key_template.format(queue_name))


def _begun(taken: Taken) -> str:
    """The name of an attempt in RQ's registry of running jobs."""
    return f"{taken.claim.id}:{taken.claim.attempt}"
