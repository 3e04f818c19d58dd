"""The narrow protocol between a worker and the drivers that make containers. No engine type crosses it.

Theory of operation
===================
A driver gives out handles. ``Driver.sandbox`` returns the handle of a container that does not exist yet, and
``Driver.owned`` returns a handle for each container of this installation. Everything that happens to a container is a
method of its handle; no caller names a container to a driver.

*Order of calls.* ``sandbox``, then ``start`` once. After a successful ``start``: ``send``, ``receive``, ``counters``
and ``kill`` in any order and any number; ``restore_cpu_weight`` and ``adjust`` at most once each, before the program
starts; ``wait`` until it returns an end. ``destroy`` is the last call, and the caller owes it for every handle whose
``start`` was called, whether that succeeded or raised.

*Thread safety.* A driver's methods may be called from any thread. So may ``send`` and ``kill`` of a handle, also while
another thread receives, waits or destroys. All other methods are called by the one thread that has the handle at that
moment; handles pass between threads with their lease.

*Cleanup.* ``destroy`` removes the container, all processes in it and everything the driver made for it on the host. It
is idempotent and safe at any point: before ``start``, after a ``start`` that raised half-way, while the container runs,
and after another worker has removed it. When ``destroy`` raises, the container counts as still there, the caller keeps
what the container uses (the host directory and its uid), and the handle that ``owned`` returns for it removes the rest
later, from this process or another one. After ``destroy``, ``kill`` does nothing, ``send`` raises, ``receive`` returns
the end of the stream, ``counters`` the last counts and ``wait`` ``None``.

*Bounds and errors.* Every call is bounded in time. A failed request to the engine raises
:class:`RuntimeUnavailable`, a missing image :class:`EnvironmentUnavailable`, a container that is weaker than its
profile :class:`WeakContainer`.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """A sandbox image on this worker."""

    environment: str
    id: str
    size_bytes: int


class Owned(Protocol):
    """The handle of a container of this installation, alive or not, whichever worker made it."""

    @property
    def name(self) -> str:
        """The name in its profile."""

    @property
    def worker(self) -> str:
        """The id of the worker that made it."""

    def destroy(self) -> None:
        """Remove the container and everything that was made for it. Idempotent."""


class Sandbox(Protocol):
    """The handle of one container: its life, its byte stream, and facts about it."""

    @property
    def profile(self) -> SandboxProfile:
        """The profile that the container is made from."""

    @property
    def diagnostics(self) -> bytes:
        """The agent's standard error: for the operator's log, never for a client."""

    @property
    def cgroup_survives_exit(self) -> bool:
        """Whether the cgroup's counters can be read after the sandbox's end, and the agent's exit code is certain."""

    def start(self) -> None:
        """Make and start the container; it is verified not to be weaker than its profile."""

    def send(self, data: bytes, timeout_seconds: float) -> None:
        """Write all of ``data`` to the agent. Raises :class:`RuntimeUnavailable` if the agent does not read them in
        time.
        """

    def receive(self, timeout_seconds: float) -> bytes | None:
        """The agent's next bytes; ``b""`` at the end of the stream, ``None`` after the time-out."""

    def counters(self) -> Counters:
        """The counts of the cgroup so far; the last read counts once the cgroup is gone."""

    def restore_cpu_weight(self) -> None:
        """Restore the usual share of CPU time of a container that was made ahead and is now leased."""

    def adjust(self, limits: Limits) -> None:
        """Set other memory, CPU and process limits while the agent waits; of a hardened container the CPU limit alone.

        Raises :class:`WeakContainer` if the limits are not in force afterwards.
        """

    def wait(self, timeout_seconds: float) -> Ended | None:
        """How the container ended, or ``None`` if it still runs after that time."""

    def kill(self) -> None:
        """Kill every process of the container at once. No effect on a container that has ended."""

    def destroy(self) -> None:
        """Remove the container and everything that was made for it. Idempotent, safe at any point."""


class Driver(Protocol):
    """A way to reach containers."""

    name: str

    def runtimes(self) -> dict[Isolation, str]:
        """The isolation tiers this host offers, each with its runtime."""

    def image(self, environment: Environment) -> Image:
        """The environment's image, loaded if necessary."""

    def sandbox(self, profile: SandboxProfile) -> Sandbox:
        """The handle of a container that :meth:`Sandbox.start` will make. Touches neither host nor engine."""

    def owned(self) -> Sequence[Owned]:
        """A handle for every container that carries this installation's label."""

    def places(self) -> dict[str, Path]:
        """The directories of containers on this host, by name, as far as they are known."""

    def version(self) -> str:
        """The engine's name and version. Raises :class:`RuntimeUnavailable` if the engine does not answer."""

    def facts(self) -> EngineFacts:
        """The facts about the engine for the checks of this host's posture."""
