"""Launches sandboxes that are ready for a program, and destroys them.

A lease has all resources of one container: its name, host directory, uid, stream and decoder. Its name is in ``live``
before the engine creates the container and until the engine has removed it, so the reaper always knows this worker's
containers.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from orchestrator import metrics
from orchestrator.environments import Environment, Environments
from orchestrator.errors import FrameError, MayflyError, RuntimeUnavailable
from orchestrator.host.posture import UID_LABEL
from orchestrator.models import Isolation, Limits
from worker.agent import requests
from worker.agent.frames import Decoder, Frame, FromAgent
from worker.drivers.base import Driver, Image, Sandbox
from worker.host.hostdirs import HostDir, HostDirs
from worker.pool.breaker import Breaker
from worker.sandbox.profile import SLOW_CORES, STARTING_CORES, sandbox_profile
from worker.sandbox.readback import refuse_weaker

READY_SECONDS = 30.0
PREPARE_SECONDS = 1.0
DISCARD_SECONDS = 0.1
UNLIMITED_SECONDS = 10**6
log = structlog.get_logger()


@dataclass
class Lease:
    """One container, for one execution."""

    name: str
    environment: str
    isolation: Isolation
    limits: Limits
    runtime: str
    host_dir: HostDir
    sandbox: Sandbox
    image: str
    warm: bool = False  # whether the container was made before its execution came
    host_counts_cpu: bool = False
    prepared: bool = False  # whether the agent has the seccomp filters of a program without a loopback
    is_withheld: bool = False  # whether the end of the output did not arrive after a kill
    born: float = field(default_factory=time.monotonic)
    decoder: Decoder = field(default_factory=Decoder)

    def frames(self, timeout_seconds: float) -> list[Frame] | None:
        """The received frames; ``[]`` after the time-out, ``None`` at the end of the stream."""
        data = self.sandbox.receive(timeout_seconds)
        if data is None:
            return []
        return list(self.decoder.feed(data)) if data else None

    def drain(self, timeout_seconds: float) -> None:
        """Read and discard the output of a killed sandbox: an engine with undelivered output does not report the
        end.
        """
        deadline, data = time.monotonic() + timeout_seconds, None
        while (left := deadline - time.monotonic()) > 0 and (data := self.sandbox.receive(left)):
            pass
        self.is_withheld = data != b""

    def discard_during(self, kill: Callable[[], None]) -> None:
        """Kill the sandbox, and in gVisor discard its output at the same time.

        In gVisor a process that is blocked on the pipe ends only when the pipe is read, and the engine waits for it.
        """
        if self.isolation == "standard":
            kill()
            return
        over = threading.Event()
        reader = threading.Thread(target=self._discard, args=(over,), name="discard")
        reader.start()
        try:
            kill()
        finally:
            over.set()
            reader.join()

    def _discard(self, over: threading.Event) -> None:
        while not over.is_set() and self.sandbox.receive(DISCARD_SECONDS) != b"":
            pass

    def agent_cpu_seconds(self, limits: Limits) -> float:
        """The CPU limit that the agent enforces."""
        return UNLIMITED_SECONDS if self.host_counts_cpu else limits.cpu_seconds

    def prepare(self, environment: Environment) -> None:
        """Have the agent start the program's process ahead, if the environment supports that."""
        order = requests.prepare(environment, self.isolation, self.limits, self.agent_cpu_seconds(self.limits))
        if order is not None:
            self.sandbox.send(order, PREPARE_SECONDS)
            self.prepared = True


class Launcher:
    """Launches and destroys this worker's containers. Thread-safe."""

    def __init__(self, driver: Driver, host_dirs: HostDirs, environments: Environments, worker: str) -> None:
        self.driver = driver
        self._host_dirs = host_dirs
        self._worker = worker
        self.live: set[str] = set()
        self.images: dict[str, Image] = {}
        self._runtimes: dict[Isolation, str] = {}
        self._environments = environments
        self._refresh_lock = threading.Lock()
        self.breaker = Breaker(self._try)

    @property
    def runtimes(self) -> dict[Isolation, str]:
        """The isolation tiers that the engine offered at the last refresh."""
        return dict(self._runtimes)

    def able(self) -> tuple[Isolation, ...]:
        """The tiers whose launches are not blocked."""
        return tuple(isolation for isolation in self._runtimes if not self.breaker.blocks(isolation))

    def refresh(self) -> None:
        """Ask the engine for its runtimes and images again; missing images are loaded.

        Raises :class:`RuntimeUnavailable` while the engine does not answer. Logs each environment without an image,
        which is then not offered.
        """
        with self._refresh_lock:
            self._runtimes = self.driver.runtimes()
            found = {}
            for environment in self._environments.values():
                try:
                    found[environment.name] = self.driver.image(environment)
                except MayflyError as error:
                    if isinstance(error, RuntimeUnavailable):
                        raise
                    log.info("environment.unavailable", environment=environment.name, detail=error.message)
            self.images = found

    def launch(
        self,
        environment: Environment,
        isolation: Isolation,
        limits: Limits,
        *,
        ahead: bool = False,
        loopback: bool = False,
    ) -> Lease:
        """A sandbox whose agent waits for a program; if made ``ahead``, the program's interpreter waits too.

        Raises :class:`RuntimeUnavailable` or :class:`EnvironmentUnavailable`; then no container or directory remains.
        """
        try:
            lease = self._launch(environment, isolation, limits, ahead, loopback)
        except RuntimeUnavailable:
            self.breaker.failed(isolation)
            raise
        self.breaker.succeeded(isolation)
        return lease

    def _try(self, isolation: Isolation) -> None:
        """Make and destroy a trial container. Raises as :meth:`launch` does."""
        for name in self.images:
            environment = self._environments[name]
            self.destroy(self._launch(environment, isolation, environment.defaults, ahead=False))
            return

    def _launch(
        self, environment: Environment, isolation: Isolation, limits: Limits, ahead: bool, loopback: bool = False
    ) -> Lease:
        image = self.images.get(environment.name) or self.driver.image(environment)
        runtime = self._runtimes.get(isolation) or self.driver.runtimes().get(isolation)
        if runtime is None:
            raise RuntimeUnavailable(f"This host has no runtime for isolation {isolation!r}.")
        starting = limits  # a sandbox with almost no CPU time would not start within the deadline
        if limits.cpu_cores < SLOW_CORES:
            starting = limits.model_copy(update={"cpu_cores": STARTING_CORES})
        host_dir = self._host_dirs.lease(own_agent=isolation == "hardened")
        name = f"mayfly-{self._worker}-{secrets.token_hex(6)}"
        self.live.add(name)
        sandbox: Sandbox | None = None
        try:
            profile = sandbox_profile(
                environment,
                isolation,
                starting,
                uid=host_dir.uid,
                image=image.id,
                runtime=runtime,
                binds=host_dir.binds(loopback),
                name=name,
                labels={UID_LABEL: str(host_dir.uid)},
                ahead=ahead,
                loopback=loopback,
                agent_uid=host_dir.agent.uid if host_dir.agent else None,
            )
            sandbox = self.driver.sandbox(profile)
            lease = Lease(name, environment.name, isolation, limits, runtime, host_dir, sandbox, image.id, warm=ahead)
            sandbox.start()
            try:
                _await_ready(lease)
                if starting is not limits:
                    sandbox.adjust(limits)
                counts_cpu = sandbox.counters().cpu_seconds is not None  # finds the cgroup before an execution needs it
                # gVisor counts the time that its threads wait for a processor as CPU time of the program.
                lease.host_counts_cpu = isolation == "hardened" and counts_cpu
                if ahead:
                    lease.prepare(environment)
            except BaseException:
                log.warning("sandbox.not_ready", container=name, diagnostics=repr(sandbox.diagnostics))
                raise
        except BaseException:
            self._unmake(name, host_dir, sandbox)
            raise
        return lease

    def destroy(self, lease: Lease) -> None:
        """Remove a container with all its resources. A failure is counted and left to the reaper."""
        self._unmake(lease.name, lease.host_dir, lease.sandbox)

    def _unmake(self, name: str, host_dir: HostDir, sandbox: Sandbox | None) -> None:
        try:
            if sandbox is not None:
                sandbox.destroy()
            for path in host_dir.paths:
                self._host_dirs.release(path)
        except (RuntimeUnavailable, OSError) as error:
            metrics.cleanup_failures.inc()
            log.warning("cleanup.failed", container=name, detail=str(error))
        finally:
            self.live.discard(name)
            self._host_dirs.mine.difference_update(path.name for path in host_dir.paths)


def _await_ready(lease: Lease) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        try:
            frames = lease.frames(left)
            report = frames[0].json() if frames else {}
        except FrameError as error:
            raise RuntimeUnavailable(f"The sandbox did not start: {error.message}") from error
        if frames is None:
            raise RuntimeUnavailable("The sandbox ended before its agent was ready.")
        if frames:
            if len(frames) > 1 or frames[0].kind is not FromAgent.READY:
                raise RuntimeUnavailable("The first frame of the sandbox's agent was not its report.")
            refuse_weaker(lease.sandbox.profile, report)
            return
    raise RuntimeUnavailable(f"The sandbox's agent was not ready within {READY_SECONDS:g} s.")
