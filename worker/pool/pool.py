"""Warm containers: started ahead, taken once, never returned. ``docs/pool.md`` is the operator's view.

Theory of operation
===================
``take`` runs in a slot's thread and never waits for a container: if none is ready it starts a cold container itself.
Background threads do the rest:

* *makers*, one for every core, start missing containers. Making a container costs more CPU than a short program. So
  while other containers wait, the makers replace a leased container shortly after the end of its execution, or after
  a pause if the execution is longer;
* *the keeper* destroys used containers, and checks waiting containers every few seconds: it retires dead, old, surplus
  and outdated containers (of another image or runtime than this host has now), and measures their memory.

``demand.py`` and ``targets.py`` decide the number of containers. If more containers await destruction than there are
slots, ``discard`` destroys in the caller's thread, which bounds the backlog. A waiting container was made with the
environment's default limits by this process's code and settings; a new process starts with an empty pool.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable

import structlog

from orchestrator import metrics
from orchestrator.environments import Environment, Environments
from orchestrator.errors import MayflyError, WeakContainer
from orchestrator.models import Isolation, Limits
from orchestrator.settings import Settings
from worker.pool.demand import Kind
from worker.pool.launcher import Launcher, Lease
from worker.pool.targets import Targets

RETRY_SECONDS = 2.0
COURTESY_SECONDS = 0.1
BREATH_SECONDS = 0.01  # the time for a waiting client to get its result
LOOK_SECONDS = 2.0
# The limits that can be set on a waiting container. A tmpfs keeps the size it was mounted with, and the pool changes no
# limit of a waiting gVisor container. The agent and the worker apply the other limits themselves.
ADJUSTABLE: dict[Isolation, tuple[str, ...]] = {"standard": ("memory_bytes", "cpu_cores", "processes"), "hardened": ()}
SOFT = ("wall_seconds", "cpu_seconds", "output_bytes")
log = structlog.get_logger()


class Pool:
    """Warm containers by environment and isolation. Thread-safe.

    ``on_weak`` is called with the error for each container that is weaker than its profile; ``is_off`` returns whether
    a feature is switched off.
    """

    def __init__(
        self,
        launcher: Launcher,
        environments: Environments,
        settings: Settings,
        on_weak: Callable[[str], None],
        is_off: Callable[[str], bool],
    ) -> None:
        self._launcher = launcher
        self._environments = environments
        self._settings = settings
        self._on_weak = on_weak
        self._found_weak: set[Kind] = set()
        self._targets = Targets(launcher, environments, settings, is_off)
        self._waiting: defaultdict[Kind, deque[Lease]] = defaultdict(deque)
        self._in_making: Counter[Kind] = Counter()
        self._doomed: deque[Lease] = deque()
        self._lock = threading.Lock()
        self._missing, self._removal = threading.Condition(self._lock), threading.Condition(self._lock)
        self._closed = threading.Event()
        self._not_before = self._retry_at = 0.0  # monotonic: when the next container may be made
        self._alarm_at = float("inf")  # monotonic: when a waiting maker wakes by itself
        self._taken: Counter[bool] = Counter()  # by whether the sandbox was warm
        makers = len(os.sched_getaffinity(0))
        self._threads = [
            threading.Thread(target=self._keep, name="pool-keeper", daemon=True),
            *(threading.Thread(target=self._make, name=f"pool-maker-{n}", daemon=True) for n in range(makers)),
        ]

    def start(self) -> None:
        """Start to fill the pool in the background."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Check for missing containers again, after the engine has returned."""
        with self._lock:
            self._retry_at = 0.0
            self._missing.notify_all()

    def sizes(self) -> dict[str, int]:
        """Warm containers waiting, by environment (``environment/hardened`` for those)."""
        with self._lock:
            return {str(kind): len(waiting) for kind, waiting in self._waiting.items()}

    def starts(self) -> tuple[int, int]:
        """The numbers of warm and cold sandboxes taken so far."""
        with self._lock:
            return self._taken[True], self._taken[False]

    def take(
        self, environment: Environment, isolation: Isolation, limits: Limits, tenant: str, *, loopback: bool = False
    ) -> Lease:
        """A sandbox for one execution. Raises as :meth:`Launcher.launch` does.

        With ``loopback`` the sandbox is made now, since no waiting container has a loopback.
        """
        lease = None
        if not loopback:
            lease = self._take_warm(Kind(environment.name, isolation), environment.defaults, limits, tenant)
        with self._lock:
            self._taken[lease is not None] += 1
        metrics.pool_leases.labels(environment.name, "miss" if lease is None else "hit").inc()
        return lease or self._launcher.launch(environment, isolation, limits, loopback=loopback)

    def discard(self, lease: Lease) -> None:
        """Destroy a used or unusable container."""
        with self._lock:
            self._not_before = 0.0
            self._missing.notify()
            if not self._closed.is_set() and len(self._doomed) < self._settings.slots:
                self._doomed.append(lease)
                self._removal.notify()
                return
        self._launcher.destroy(lease)

    def close(self) -> None:
        """Destroy all waiting containers, and end the threads."""
        with self._lock:
            self._closed.set()
            self._missing.notify_all()
            self._removal.notify_all()
        for thread in self._threads:
            thread.join()
        for waiting in (self._doomed, *self._waiting.values()):
            while waiting:
                self._launcher.destroy(waiting.popleft())

    def _take_warm(self, kind: Kind, defaults: Limits, limits: Limits, tenant: str) -> Lease | None:
        differs = limits != defaults
        if differs and not fits(kind.isolation, defaults, limits):
            return None
        with self._lock:
            kept = 1 if self._targets.take(kind, tenant) else 0
        while lease := self._pop(kind, kept):
            if (why := self._fault(lease)) is not None:
                self._retire(lease, why)
                continue
            try:
                lease.sandbox.restore_cpu_weight()
                adjustable = ADJUSTABLE[kind.isolation] if differs else ()
                if any(getattr(limits, name) != getattr(defaults, name) for name in adjustable):
                    lease.sandbox.adjust(limits)
            except MayflyError as error:  # for example, the new limit is below the memory in use, as in any container
                log.warning("pool.adjust_failed", container=lease.name, detail=error.message)
                self._retire(lease, "adjust")
                return None
            lease.limits = limits
            return lease
        return None

    def _pop(self, kind: Kind, kept: int) -> Lease | None:
        with self._lock:
            waiting = self._waiting[kind]
            lease = waiting.popleft() if len(waiting) > kept else None
            self._report(kind)
            # No pause if the next execution would start cold: that costs the same CPU time, and the execution waits.
            self._not_before = time.monotonic() + COURTESY_SECONDS if waiting else 0.0
            if self._alarm_at > self._not_before:
                self._missing.notify()
            return lease

    def _fault(self, lease: Lease) -> str | None:
        """The reason why a waiting container must not be used; ``None`` without a reason."""
        image = self._launcher.images.get(lease.environment)
        if image is None or image.id != lease.image:
            return "image"
        if self._launcher.runtimes.get(lease.isolation) != lease.runtime:
            return "runtime"
        if time.monotonic() - lease.born > self._settings.pool_age_seconds:
            return "age"
        # A waiting agent sends no bytes: bytes indicate a fault, the stream's end a dead agent.
        return None if lease.sandbox.receive(0) is None else "dead"

    def _retire(self, lease: Lease, why: str) -> None:
        metrics.pool_retired.labels(why).inc()
        log.info("pool.retired", container=lease.name, why=why)
        self.discard(lease)

    def _keep(self) -> None:
        look_at = 0.0
        while True:
            with self._lock:
                while not self._closed.is_set() and not self._doomed and (pause := look_at - time.monotonic()) > 0:
                    self._removal.wait(pause)
                if self._closed.is_set():
                    return
                kinds = {Kind(doomed.environment, doomed.isolation) for doomed in self._doomed}
            if any(map(self._breathe, kinds)):
                return
            for _ in range(len(self._doomed)):  # those that came during the pause too; only this thread takes them
                self._launcher.destroy(self._doomed.popleft())
            if time.monotonic() >= look_at:
                self._look_after_waiting()
                look_at = time.monotonic() + LOOK_SECONDS

    def _look_after_waiting(self) -> None:
        retired = []
        with self._lock:
            wanted = self._targets.sizes()
            for kind, number in wanted.items():
                metrics.pool_wanted.labels(kind.environment, kind.isolation).set(number)
            samples = {kind: waiting[0] for kind, waiting in self._waiting.items() if waiting}
            for kind, waiting in self._waiting.items():
                faults = {lease.name: why for lease in waiting if (why := self._fault(lease)) is not None}
                good = [lease for lease in waiting if lease.name not in faults]
                surplus = max(0, len(good) - wanted.get(kind, 0))
                faults |= {lease.name: "surplus" for lease in good[:surplus]}
                retired += [(lease, faults[lease.name]) for lease in waiting if lease.name in faults]
                self._waiting[kind] = deque(good[surplus:])
                self._report(kind)
            self._missing.notify_all()
        for lease, why in retired:
            self._retire(lease, why)
        for kind, lease in samples.items():
            if (used := lease.sandbox.counters().peak_memory_bytes) is not None:
                with self._lock:
                    self._targets.measure(kind, used)

    def _make(self) -> None:
        while True:
            with self._lock:
                kind, pause = self._next()
                while not self._closed.is_set() and kind is None:
                    self._alarm_at = float("inf") if pause is None else time.monotonic() + pause
                    self._missing.wait(pause)
                    self._alarm_at = float("inf")
                    kind, pause = self._next()
                if self._closed.is_set() or kind is None:
                    return
                self._in_making[kind] += 1
                if self._next()[0] is not None:  # no other maker may have been woken for it
                    self._missing.notify()
            lease = None if self._breathe(kind) else self._launch(kind)
            with self._lock:
                self._in_making[kind] -= 1
                if lease is None:
                    self._retry_at = time.monotonic() + RETRY_SECONDS
                else:
                    self._waiting[kind].append(lease)
                    self._report(kind)

    def _breathe(self, kind: Kind) -> bool:
        """Pause to leave the CPU to results in progress, as long as other containers wait; whether the pool was closed
        during the pause.
        """
        with self._lock:
            others = len(self._waiting[kind])
        return others > 0 and self._closed.wait(BREATH_SECONDS)

    def _launch(self, kind: Kind) -> Lease | None:
        environment = self._environments[kind.environment]
        try:
            lease = self._launcher.launch(environment, kind.isolation, environment.defaults, ahead=True)
        except MayflyError as error:
            log.warning("pool.launch_failed", environment=kind.environment, detail=error.message)
            if isinstance(error, WeakContainer) and kind not in self._found_weak:
                self._found_weak.add(kind)  # report the kind once until a launch succeeds
                self._on_weak(error.message)
            return None
        self._found_weak.discard(kind)
        return lease

    def _next(self) -> tuple[Kind | None, float | None]:
        """The kind of the next container to make, the kind with the largest missing share; or ``None``, and the seconds
        until a container must be made, ``None`` without a missing container.
        """
        missing = self._targets.shortfalls(lambda kind: len(self._waiting.get(kind, ())) + self._in_making[kind])
        if not missing:
            return None, None
        pause = max(self._not_before, self._retry_at) - time.monotonic()
        return (None, pause) if pause > 0 else (max(missing, key=missing.__getitem__), None)

    def _report(self, kind: Kind) -> None:
        metrics.pool_size.labels(kind.environment, kind.isolation).set(len(self._waiting[kind]))


def fits(isolation: Isolation, defaults: Limits, limits: Limits) -> bool:
    """Whether a container made with the limits ``defaults`` has ``limits``, or can get them."""
    able = {*ADJUSTABLE[isolation], *SOFT}
    return all(limit == getattr(defaults, name) for name, limit in limits if name not in able)
