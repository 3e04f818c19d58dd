"""One execution, from its id to its committed end.

Claim, lease, run, judge, commit, destroy: each step of :meth:`Runner.run` is one of ``ARCHITECTURE.md``'s. Slots call
it from their threads; :meth:`Runner.cancel` comes from the thread that listens for cancellations, :meth:`Runner.drop`
from the thread that watches over the worker's lease, :meth:`Runner.hand_back` from the worker's drain. In every case a
leased container is discarded, and an attempt that lost its ownership writes nothing more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial

import structlog

from orchestrator import metrics
from orchestrator.environments import Environment, Environments
from orchestrator.errors import (
    BlobsUnavailable,
    EnvironmentUnavailable,
    LeaseLost,
    MayflyError,
    RuntimeUnavailable,
    SpecificationRejected,
    StaleAttempt,
    StoreUnavailable,
)
from orchestrator.models import Facts, Specification, Timings
from orchestrator.models.fleet import ENVIRONMENT
from orchestrator.settings import Settings
from orchestrator.states import State, classify
from orchestrator.store import Store
from orchestrator.store.executions.records import Claim
from orchestrator.store.executions.sealing import open_sealed
from worker.agent.conversation import Spoilt
from worker.agent.results import ResultSink
from worker.attempt.artifacts import ArtifactSink
from worker.attempt.attempt import Attempt, CancelledBeforeStart
from worker.attempt.feeding import source_of
from worker.attempt.incidents import Incidents
from worker.attempt.outcome import await_end, note_incidents, report, result_of
from worker.attempt.output import OutputSink
from worker.attempt.recovery import Recovery
from worker.attempt.security_events import Watch
from worker.attempt.session import Session
from worker.attempt.tools.desk import ToolDesk
from worker.counters import Ended
from worker.drivers.base import Driver
from worker.pool.launcher import Lease
from worker.pool.pool import Pool

PAUSES_SECONDS = (0.1, 0.2, 0.5, 1, 2, 2, 5, 5, 5, 5, 10, 10, 10)
log = structlog.get_logger()


class Runner:
    """Runs executions, and keeps the list of running attempts.

    ``leased`` returns whether this worker's lease is valid, ``is_off`` whether a feature is switched off.
    """

    def __init__(
        self,
        store: Store,
        pool: Pool,
        environments: Environments,
        settings: Settings,
        worker: str,
        driver: Driver,
        watch: Watch,
        on_engine_trouble: Callable[[], None],
        leased: Callable[[], bool],
        tools: ToolDesk,
        is_off: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._pool = pool
        self._environments = environments
        self._settings = settings
        self._key = settings.secret()
        self._worker = worker
        self._driver = driver
        self._watch = watch
        self._on_engine_trouble = on_engine_trouble
        self._leased = leased
        self._tools = tools
        self._is_off = is_off
        self._recovery = Recovery(store, settings)
        self._lock = threading.Lock()
        self._running: dict[str, Attempt] = {}
        self._ending = False

    def running(self) -> list[str]:
        """Ids of the executions on this worker."""
        with self._lock:
            return list(self._running)

    def cancel(self, id: str) -> None:
        """Stop an execution if this worker has it; an execution that is still starting ends before its program
        starts.
        """
        if (attempt := self._of(id)) is not None:
            attempt.cancel()

    def feed(self, id: str) -> None:
        """Notify the execution of new standard input; ignored if the execution is not on this worker."""
        if (attempt := self._of(id)) is not None:
            attempt.feed()

    def drop(self) -> None:
        """Kill every attempt, since other workers may own the executions, and write nothing more about them."""
        for attempt in self._all():
            attempt.lose_lease()

    def hand_back(self) -> None:
        """Kill every attempt that has not ended, and every later attempt, so that other workers retry them."""
        self._ending = True
        for attempt in self._all():
            attempt.hand_back()

    def _of(self, id: str) -> Attempt | None:
        with self._lock:
            return self._running.get(id)

    def _all(self) -> list[Attempt]:
        with self._lock:
            return list(self._running.values())

    def run(self, claim: Claim) -> None:
        """Run a claimed execution to its end, unless another worker must retry it."""
        attempt = Attempt()
        with self._lock:
            self._running[claim.id] = attempt
        if self._ending:
            attempt.hand_back()
        try:
            self._run(claim, attempt)
        except MayflyError as error:
            self._give_up(claim, attempt, attempt.error or error)
        finally:
            with self._lock:
                self._running.pop(claim.id, None)

    def _give_up(self, claim: Claim, attempt: Attempt, error: MayflyError) -> None:
        if isinstance(error, StaleAttempt):
            log.warning("attempt.stale", execution=claim.id, attempt=claim.attempt, code=error.code)
            return
        if isinstance(error, RuntimeUnavailable):
            self._on_engine_trouble()  # probe the engine before this worker takes the next attempt
        self._recovery.requeue_or_end(claim, attempt, error)

    def _run(self, claim: Claim, attempt: Attempt) -> None:
        self._check(attempt)
        specification = open_sealed(claim.id, claim.spec, claim.signature, self._key)
        attempt.may_repeat = specification.retry
        environment = self._environment(specification)
        began = time.monotonic()
        lease = self._pool.take(
            environment,
            specification.isolation,
            specification.limits,
            specification.tenant,
            loopback=specification.loopback,
        )
        try:
            self._run_in(lease, claim, attempt, specification, environment, began)
        finally:
            self._watch.settled(lease.host_dir.uid)
            self._pool.discard(lease)

    def _run_in(
        self,
        lease: Lease,
        claim: Claim,
        attempt: Attempt,
        specification: Specification,
        environment: Environment,
        began: float,
    ) -> None:
        """Run the program in a leased sandbox, and commit its result. ``began``: when the attempt asked for a lease."""
        incidents, limits = Incidents(), specification.limits
        self._watch.follow(lease.host_dir.uid, incidents)
        results = ResultSink(self._settings.result_bytes, self._settings.result_count)
        session = self._session(lease, claim, attempt, specification, environment, results, incidents)
        output, conversation = session.output, session.conversation
        start_seconds = time.monotonic() - began
        facts = self._facts(lease, attempt, specification, session)
        # Observations without a lease may be caused by other workers, which destroy presumed orphans.
        self._check(attempt)
        verdict = classify(facts, limits)
        if verdict.state is State.CANCELLED:
            verdict = self._store.records.cancelled(claim.id)
        timings = Timings(
            queue_seconds=claim.queue_seconds,
            start_seconds=start_seconds,
            run_seconds=conversation.run_seconds,
            collect_seconds=max(0.0, time.monotonic() - conversation.ended),
        )
        result = result_of(session, self._driver.name, facts, verdict, timings)
        note_incidents(incidents, session, facts, verdict, limits)
        for bundle in results.bundles():
            output.result(bundle)
        for event in incidents.finish():
            output.event(event)
        self._persist(attempt, lambda: output.commit(result))
        os.sched_yield()  # the process that sends the result may wait for this processor
        incidents.settle(lambda event: self._recovery.report(claim, event))
        report(specification, claim, result)

    def _session(
        self,
        lease: Lease,
        claim: Claim,
        attempt: Attempt,
        specification: Specification,
        environment: Environment,
        results: ResultSink,
        incidents: Incidents,
    ) -> Session:
        """The session of a leased sandbox, with all inputs in place."""
        settings, blobs = self._settings, self._store.blobs
        lease.host_dir.write(specification.files, partial(blobs.fetch, specification.tenant))
        lease.host_dir.write_tools(self._tools.files(specification))
        return Session(
            lease,
            specification,
            environment,
            OutputSink(self._store, claim, specification.limits.output_bytes),
            ArtifactSink(blobs, claim.id, claim.attempt, settings.artifact_bytes, settings.artifact_files),
            results,
            incidents,
            attempt,
            source_of(self._store, claim, specification, lease.host_dir.path),
            self._tools.line(claim, specification, attempt, lease.sandbox.send, incidents),
            self._tools.wait_seconds(specification),
        )

    def _facts(self, lease: Lease, attempt: Attempt, specification: Specification, session: Session) -> Facts:
        """Run the program, and return the facts about its end."""
        # So an execution found in state starting has never started its program, or called a tool.
        if not specification.retry or specification.tools:
            self._persist(attempt, session.output.announce)
        self._check(attempt)
        try:
            attempt.start(session)
        except CancelledBeforeStart:
            return Facts(killed="cancel")
        session.run()
        session.release()
        return self._concluded(lease, session, await_end(session))

    def _concluded(self, lease: Lease, session: Session, ended: Ended | None) -> Facts:
        """The facts about the program. Raises :class:`RuntimeUnavailable` if the platform spoilt the attempt."""
        conversation = session.conversation
        if conversation.is_cut_off(None if ended is None else ended.exit_code) or lease.is_withheld:
            # The agent also ends when the engine, at the stream's other end, dies; a hanging one keeps its last frames.
            self._driver.version()
        last = conversation.exit
        facts = session.conclude(ended, self._watch.kills(lease.host_dir.uid, last.signal if last else None))
        if isinstance(facts, Spoilt):
            raise RuntimeUnavailable(facts.why)
        return facts

    def _environment(self, specification: Specification) -> Environment:
        environment = self._environments.get(specification.environment)
        if environment is None:
            raise EnvironmentUnavailable(f"This worker does not know environment {specification.environment!r}.")
        if self._is_off(ENVIRONMENT + environment.name):
            raise EnvironmentUnavailable(f"The operator has switched off environment {environment.name!r}.")
        if exceeded := environment.exceeded(specification.limits):
            raise SpecificationRejected(f"The stored limits lie above this worker's: {exceeded[0][0]}.")
        if specification.mode == "cell" and not environment.cell:
            raise SpecificationRejected("The specification is a cell, but this worker's environment has no cells.")
        if specification.loopback and environment.loopback == "never":
            raise SpecificationRejected(
                "The specification has a loopback, but this worker's environment does not offer it."
            )
        return environment

    def _check(self, attempt: Attempt) -> None:
        """Raise :class:`LeaseLost` or :class:`HandedBack` if the execution must not continue on this worker."""
        if not self._leased():
            raise LeaseLost()
        attempt.check()

    def _persist(self, attempt: Attempt, step: Callable[[], None]) -> None:
        for pause in (*PAUSES_SECONDS, None):
            self._check(attempt)
            try:
                step()
                return
            except (StoreUnavailable, BlobsUnavailable):
                metrics.store_errors.inc()
                if pause is None:
                    raise
                attempt.stopped.wait(pause)  # the return of Redis is not announced
