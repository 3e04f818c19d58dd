"""The composition of one worker process, from its start to its end.

Threads: each slot claims and runs executions, the pool's threads keep containers warm, ``heartbeat_loop`` renews the
lease, ``lease`` ends all executions when the lease has expired, ``presence`` renews the permission to use the data's
schema, ``bookkeeping_loop`` renews RQ's entries and catches missed cancellations, ``upkeep_loop`` checks the engine and
reaps, ``cancel_loop`` receives messages of cancellations and standard input, ``tool-replies`` outcomes of tool calls.
The main thread waits for signals (``stopping.py``).
SIGTERM or SIGINT: take no more executions, finish running ones within ``drain_seconds``, hand back the rest, remove
every container, exit. A second signal: hand back at once.
"""

from __future__ import annotations

import gc
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis
import structlog
from prometheus_client import start_http_server

from orchestrator import metrics
from orchestrator.environments import load_environments
from orchestrator.errors import StoreUnavailable
from orchestrator.features import lanes
from orchestrator.host.confinement import check_confinement
from orchestrator.models.fleet import ISOLATION, EnvironmentOffer, WorkerStatus
from orchestrator.settings import Settings
from orchestrator.store import open_store
from orchestrator.store.connection import connect_plain
from orchestrator.store.platform.presence import Presence, process_of
from worker.attempt.runner import Runner
from worker.attempt.security_events import Watch, weak_container
from worker.attempt.tools.desk import ToolDesk
from worker.drivers.base import Driver
from worker.drivers.docker.driver import DockerDriver
from worker.drivers.oci.driver import OciDriver
from worker.host.disks import Disks
from worker.host.hostdirs import HostDirs, in_memory
from worker.messages import MessageListener
from worker.pool.launcher import Launcher
from worker.pool.pool import Pool
from worker.slots import POP_SECONDS, SlotWorker
from worker.stopping import StopSignals
from worker.upkeep.admission import Admission, Refused
from worker.upkeep.heartbeat import Heartbeat, WorkerLease
from worker.upkeep.host_monitor import HostMonitor

BEATS_PER_LEASE = 5
REDIS_TIMEOUT_SECONDS = POP_SECONDS + 3
log = structlog.get_logger()


def driver_of(settings: Settings, worker: str) -> Driver:
    """The driver that the settings choose."""
    return OciDriver(settings, worker) if settings.driver == "oci" else DockerDriver(settings, worker)


class Worker:
    """The parts of one worker process.

    Shared parts are made first: the lease, which the heartbeat renews and the runner checks, and the signal to leave,
    which a refused host sets and the slots obey. So each part gets its dependencies in its constructor.
    """

    def __init__(self, settings: Settings, make_driver: Callable[[Settings, str], Driver] = driver_of) -> None:
        self._settings = settings
        self.id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._store = open_store(settings)
        patience = min(settings.redis_timeout_seconds, settings.lease_seconds / BEATS_PER_LEASE)
        self._pulse = open_store(
            settings.model_copy(update={"redis_timeout_seconds": patience})
        )  # shorter than the lease, so that one late answer does not lose the lease
        self._environments = load_environments(settings.environments_dirs)
        self._driver = make_driver(settings, self.id)
        self._stopped, leaving = threading.Event(), threading.Event()
        self._draining = False
        self._lacking = check_confinement("worker", settings.expect_confinement)
        self._lease = WorkerLease(settings.lease_seconds)
        self.presence = Presence(self._store.schema, process_of(self.id, "worker"))
        self._inputs = settings.sandboxes_path if settings.sandbox_dir else in_memory(settings.sandboxes_path)
        self._host_dirs = HostDirs(self._inputs, self.id, settings.uid_first, settings.uid_count)
        self._launcher = Launcher(self._driver, self._host_dirs, self._environments, self.id)
        is_off = self._pulse.switches.is_off
        self._pool = Pool(self._launcher, self._environments, settings, self._report_weak, self._keeps_none_warm)
        self._admission = Admission(settings, self._driver, self._store, self.id)
        self._host_monitor = HostMonitor(
            self.id,
            self._driver,
            self._launcher,
            self._host_dirs,
            self._admission,
            Disks(self._places, settings.disk_free_bytes, self._check_contents),
            self._store.fleet.leased,
            on_engine=self._pool.wake,
            on_refused=leaving.set,
        )
        self._watch = Watch()
        self._tools = ToolDesk(self._store, settings)
        self._runner = Runner(
            self._store,
            self._pool,
            self._environments,
            settings,
            self.id,
            self._driver,
            self._watch,
            self._host_monitor.look_at_engine,
            self._lease.is_held,
            self._tools,
            is_off,
        )
        self._heartbeat = Heartbeat(self._lease, self._on_lease_lost)
        plain = connect_plain(settings.effective_redis_url, REDIS_TIMEOUT_SECONDS)
        self._messages = MessageListener(plain, self.id, self._runner)
        self._slots = SlotWorker(
            self._store,
            plain,
            self.id,
            settings.slots,
            self._runner.run,
            settings.spare_slots,
            offered=self._offered,
            paused=self._may_not_take,
            leaving=leaving,
        )

    def main(self) -> int:
        """Work until a signal stops the worker; the exit code, which is ``EX_CONFIG`` if admission refuses this
        host.
        """
        try:
            self._admission.check_host()
        except Refused as refused:
            return _refuse(refused)
        self.presence.wait()
        signals = StopSignals()
        self.presence.start()  # now, since the rest of the start may take longer than a lease
        start_http_server(self._settings.metrics_port, self._settings.metrics_host)
        metrics.slots.set(self._settings.slots)
        self._host_monitor.look_at_engine()
        if self._host_monitor.refused is not None:
            self.presence.stop()
            return _refuse(self._host_monitor.refused)
        self._host_monitor.look_at_host()
        self._watch.kernel.start()
        self._watch.locks.start()
        self._tools.start()
        self._heartbeat.start()
        self._send_heartbeat()  # before the first container, which other workers would take for an orphan
        self._pool.start()
        runs = (self._heartbeat_loop, self._bookkeeping_loop, self._upkeep_loop, self._cancel_loop)
        threads = [threading.Thread(target=run, name=run.__name__.strip("_")) for run in runs]
        for thread in threads:
            thread.start()
        gc.collect()
        gc.freeze()  # permanent objects are excluded from collections, each of which would block all threads for 60 ms
        log.info("worker.started", worker=self.id, slots=self._settings.slots, engine=self._host_monitor.engine)
        try:
            with ThreadPoolExecutor(1, "slots") as executor:
                work = executor.submit(self._slots.work_until_left)
                signals.follow(work, self._drain, self._runner.hand_back, self._settings.drain_seconds)
        finally:  # no thread may continue after the slots
            self._slots.leave()
            self._stopped.set()
            self._messages.wake()
            for thread in threads:
                thread.join()
            self._pool.close()
            self._heartbeat.close()
            self._tools.stop()
            self._watch.kernel.close()
            self._watch.locks.close()
        try:
            self._store.fleet.leave(self.id)
        except StoreUnavailable as error:
            log.warning("redis.unreachable", detail=error.message)
        self.presence.stop()
        log.info("worker.stopped", worker=self.id)
        return 0 if self._host_monitor.refused is None else _refuse(self._host_monitor.refused)

    def _drain(self) -> None:
        log.info("worker.draining", executions=self._slots.busy, seconds=self._settings.drain_seconds)
        self._slots.leave()

    def _heartbeat_loop(self) -> None:
        try:
            while not self._stopped.wait(self._settings.lease_seconds / BEATS_PER_LEASE):
                self._send_heartbeat()
        finally:  # without its leases this worker must not take an execution
            self._slots.leave()

    def _bookkeeping_loop(self) -> None:
        while not self._stopped.wait(self._settings.lease_seconds / BEATS_PER_LEASE):
            for step in (self._cancel_requested, self._slots.beat):
                try:  # a failure of the first task does not prevent the second
                    step()
                except (StoreUnavailable, redis.exceptions.RedisError) as error:
                    log.warning("bookkeeping.failed", error=type(error).__name__, detail=str(error))

    def _cancel_requested(self) -> None:
        """Cancel executions whose cancellation was requested, in case the message was missed."""
        for id in self._store.records.cancel_requested(self._runner.running()):
            self._runner.cancel(id)

    def _upkeep_loop(self) -> None:
        try:
            self._host_monitor.run(self._stopped)
        finally:
            self._slots.leave()

    def _send_heartbeat(self) -> None:
        """Send one heartbeat, and read the feature switches."""
        try:
            self._heartbeat.renew(self._beat)
            self._pulse.switches.off()  # cached for `is_off`
        except (StoreUnavailable, redis.exceptions.RedisError) as error:
            metrics.store_errors.inc()
            log.warning("redis.unreachable", detail=str(error))

    def _beat(self) -> bool:
        known, self._draining = self._pulse.fleet.heartbeat(self._status())
        return known

    def _on_lease_lost(self) -> None:
        metrics.leases_lost.inc()
        log.error("lease.lost", executions=self._runner.running(), seconds=self._settings.lease_seconds)
        self._runner.drop()

    def _may_not_take(self) -> bool:
        return not self._host_monitor.fit or self._draining or not self._lease.is_held() or not self.presence.is_valid()

    def _offered(self) -> list[str]:
        """The lanes whose executions to take; those of a tier that is switched off stay queued."""
        return lanes(tier for tier in self._launcher.able() if not self._pulse.switches.is_off(f"{ISOLATION}{tier}"))

    def _keeps_none_warm(self, feature: str) -> bool:
        """Whether the pool keeps no containers of a feature: it is switched off, or the worker drains."""
        return self._draining or self._pulse.switches.is_off(feature)

    def _places(self) -> dict[str, Path]:
        """The directories that need room on this host's disks, by name."""
        own = {} if self._settings.blobs_url else {"blobs": self._settings.blobs_path}
        return {**own, "inputs": self._inputs, **self._driver.places()}

    def _check_contents(self) -> None:
        """Raise :class:`BlobsUnavailable` while the API, where it has the contents, cannot store them."""
        if self._settings.blobs_url.startswith("http"):
            self._store.blobs.check_writable()

    def _report_weak(self, what: str) -> None:
        try:
            self._store.security.add(weak_container(what), tenant=None, source=f"worker:{self.id}")
        except StoreUnavailable as error:
            log.warning("security_event.lost", kind="weak_container", detail=error.message)

    def _cancel_loop(self) -> None:
        self._messages.run(self._stopped)

    def _status(self) -> WorkerStatus:
        warm, cold = self._pool.starts()
        return WorkerStatus(
            id=self.id,
            host=socket.gethostname(),
            driver=self._driver.name,
            runtimes={str(isolation): runtime for isolation, runtime in self._launcher.runtimes.items()},
            environments=tuple(
                EnvironmentOffer(name=image.environment, image=image.id, size_bytes=image.size_bytes)
                for image in self._launcher.images.values()
            ),
            slots=self._settings.slots,
            busy=self._slots.busy,
            pool=self._pool.sizes(),
            warm_starts=warm,
            cold_starts=cold,
            executions=tuple(self._runner.running()),
            engine=self._host_monitor.engine or "unavailable",
            attribution=self._watch.kernel.source or "reduced",
            draining=self._draining or self._slots.leaving,
            weaker=self._admission.weaker,
            trouble=self._host_monitor.trouble,
            lacking=self._lacking,
        )


def _refuse(refused: Refused) -> int:
    log.error("worker.refused", findings=refused.names)
    print(refused, file=sys.stderr)  # noqa: T201 - for a person to read
    return os.EX_CONFIG
