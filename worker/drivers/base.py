"""The narrow protocol between a worker and whatever makes containers. No engine type crosses it.

Order of calls: ``launch``, then any number of ``send`` and ``receive`` on the sandbox, ``adjust`` at most once and
before the program starts, ``kill`` at any time from any thread, ``wait``, ``destroy``. ``destroy`` is idempotent and
safe at any point, also when ``launch`` failed half-way: it goes by the profile's name, which the caller knows
beforehand. Every call is bounded in time. An engine that cannot do what was asked raises :class:`RuntimeUnavailable`,
a missing image :class:`EnvironmentUnavailable`; a driver's methods may be called from several threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.environments import Environment
from orchestrator.host.posture import EngineFacts
from orchestrator.models import Isolation, Limits
from worker.counters import Counters, Ended
from worker.sandbox.profile import SandboxProfile


@dataclass(frozen=True)
class Image:
    """A sandbox image as this worker has it."""

    environment: str
    id: str
    size_bytes: int


@dataclass(frozen=True)
class Owned:
    """A container of this installation, alive or not."""

    name: str
    worker: str


class Sandbox(Protocol):
    """One running container and its byte stream."""

    @property
    def profile(self) -> SandboxProfile:
        """What it was made from."""

    @property
    def diagnostics(self) -> bytes:
        """What the agent wrote to its standard error: for the operator's log, never for a client."""

    @property
    def cgroup_survives_exit(self) -> bool:
        """Whether its counters can be read after its end, and the code with which its agent ends is certain."""

    def send(self, data: bytes, timeout_seconds: float) -> None:
        """Write all of ``data`` to the agent. Raises :class:`RuntimeUnavailable` when it does not take them in time."""

    def receive(self, timeout_seconds: float) -> bytes | None:
        """The next bytes of the agent; ``b""`` at the end of the stream, ``None`` when the time is over."""

    def counters(self) -> Counters:
        """What the cgroup counted so far; its last words once it is gone."""

    def exit_code(self, timeout_seconds: float) -> int | None:
        """The agent's exit code where the kernel itself tells it; else ``None``, and the engine is to be asked."""

    def close(self) -> None:
        """Let go of the stream. Idempotent."""


class Driver(Protocol):
    """A way to reach containers."""

    name: str

    def runtimes(self) -> dict[Isolation, str]:
        """The isolation tiers this host can give, and the runtime behind each."""

    def image(self, environment: Environment) -> Image:
        """The environment's image, loaded if need be."""

    def launch(self, profile: SandboxProfile) -> Sandbox:
        """Make and start a container; it is verified not to be weaker than its profile."""

    def restore_cpu_weight(self, sandbox: Sandbox) -> None:
        """One made ahead is taken: from now on it has as large a share of CPU time as any."""

    def adjust(self, sandbox: Sandbox, limits: Limits) -> None:
        """Set other memory, CPU and process limits on a container that waits; of a hardened one its CPU limit alone."""

    def wait(self, sandbox: Sandbox, timeout_seconds: float) -> Ended | None:
        """How it ended, or ``None`` if it still runs after that time."""

    def kill(self, name: str) -> None:
        """End every process of a container at once. One that is gone already is fine."""

    def destroy(self, name: str) -> None:
        """Remove a container and all that belongs to it. One that is gone already is fine."""

    def owned(self) -> list[Owned]:
        """Every container that carries this installation's label."""

    def places(self) -> dict[str, Path]:
        """Where on this host its containers lie, by a name for it, as far as that is known."""

    def version(self) -> str:
        """The engine's name and version. Raises :class:`RuntimeUnavailable` when it does not answer."""

    def facts(self) -> EngineFacts:
        """What the checks of this host's posture ask of the engine."""
