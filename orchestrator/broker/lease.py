"""The broker's lease: a thread renews the lease, and gets the broker's upstreams with each renewal.

A broker whose lease may have ended abandons its calls: another broker has taken over its upstreams, and Redis would
refuse its outcomes. When another broker joins, a broker above its share takes no more calls for some upstreams, and
gives each back when the upstream's last call has ended. A failure to write declarations does not stop heartbeats.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog
from redis.exceptions import RedisError

from orchestrator import metrics
from orchestrator.broker.declared import files
from orchestrator.broker.serving import Serving
from orchestrator.errors import MayflyError, StoreUnavailable
from orchestrator.models.fleet import FETCH_CACHE
from orchestrator.models.tool_servers import ToolServer
from orchestrator.store import Store
from orchestrator.store.malformed import MALFORMED
from orchestrator.store.tools.brokers import LEASE_SECONDS, Service
from orchestrator.store.tools.calls import UNDECLARED, Upstream

BEAT_SECONDS = LEASE_SECONDS / 5
# Keys with a wrong type, unreadable files, an event loop that does not answer in time.
FAILURES = (MayflyError, RedisError, OSError, *MALFORMED)
P = ParamSpec("P")
R = TypeVar("R")
log = structlog.get_logger()


class Lease:
    """The lease of one broker. Created in the event loop of ``serving``, into which its thread calls."""

    def __init__(
        self,
        store: Store,
        key: bytes,
        broker: str,
        serving: Serving,
        use_cache: Callable[[bool], None],
        directory: Path,
    ) -> None:
        """``use_cache`` is called in the event loop, with the state of the feature switch."""
        self._tools, self._switches, self._use_cache = store.tools, store.switches, use_cache
        self._key, self._broker, self._serving = key, broker, serving
        self._directory = directory
        self._files: files.State | None = None
        self._version = b""
        self._served: frozenset[Upstream] | None = None
        self._renewed = 0.0
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """End the lease at once, in an orderly stop."""
        self._stopping.set()
        self._thread.join()
        try:
            self._tools.brokers.leave(self._broker)
        except StoreUnavailable:
            log.warning("broker.lease_left", broker=self._broker)

    def is_valid(self) -> bool:
        """Whether the lease is still valid."""
        return self._served is not None and time.monotonic() - self._renewed < LEASE_SECONDS

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self._attempt(self._publish)
            self._attempt(self._beat)
            self._attempt(self._read_switches)
            if self._served is not None and not self.is_valid():
                self._attempt(self._lose)
            self._stopping.wait(max(0.0, BEAT_SECONDS - (time.monotonic() - began)))

    def _attempt(self, part: Callable[[], None]) -> None:
        """Do one part of a heartbeat; the next heartbeat repeats a part that failed."""
        try:
            part()
        except StoreUnavailable:
            return  # readiness reports it
        except FAILURES:
            metrics.broker_failures.labels(part.__name__.strip("_")).inc()
            log.exception("broker.failed", part=part.__name__.strip("_"))

    def _publish(self) -> None:
        """Write the declarations of the operator's files, when a file has changed."""
        if not self._directory.is_dir():
            return
        found = files.state(self._directory)
        if found != self._files:
            files.publish(files.read(self._directory), self._tools, self._key)
            self._files = found

    def _read_switches(self) -> None:
        """Follow the feature switches."""
        self._call(self._use_cache, FETCH_CACHE not in self._switches.off())

    def _beat(self) -> None:
        sent = time.monotonic()
        service = self._tools.brokers.heartbeat(self._broker, self._call(self._serving.idle))
        if not service.known and self._served is not None:
            self._lose()
        version = self._tools.servers.version()
        if service.upstreams != self._served or version != self._version:
            servers = self._declared(service.upstreams)
            self._call(self._serving.assign, servers, UNDECLARED in service.upstreams)
            self._served, self._version = service.upstreams, version
        self._renewed = sent
        self._share_out(service)
        for state in ("starting", "ready", "down", "quarantined"):
            metrics.tool_upstreams.labels(state).set(self._serving.states()[state])

    def _share_out(self, service: Service) -> None:
        excess = len(service.upstreams) - service.share
        names = sorted(service.upstreams - {UNDECLARED})[: max(0, excess)]
        self._call(self._serving.release_only, frozenset(names))

    def _declared(self, upstreams: frozenset[Upstream]) -> dict[Upstream, ToolServer]:
        found = {}
        for tenant in {upstream.tenant for upstream in upstreams - {UNDECLARED}}:
            for server in self._tools.servers.of(tenant, self._key):
                if (name := Upstream(tenant, server.name)) in upstreams:
                    found[name] = server
        return found

    def _lose(self) -> None:
        log.error("broker.lease_lost", broker=self._broker)
        metrics.broker_leases_lost.inc()
        self._served = None
        self._call(self._serving.abandon)

    def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call into the event loop, and wait for it."""

        async def call() -> R:
            return function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(LEASE_SECONDS)
