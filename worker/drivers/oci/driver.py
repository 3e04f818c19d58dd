"""Containers by an OCI runtime directly: crun, runc or gVisor's runsc, without a daemon.

The runtimes of this host, and the handles of its containers; :mod:`worker.drivers.oci.sandbox` has the theory of
operation.

*On disk*: ``bundles/<worker>/<container>/``, which names the owner, with ``config.json``, ``runtime`` (the runtime's
name) and ``root``, a mount point; ``rootfs/`` has the unpacked images, ``runtimes/`` each runtime's own state.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import structlog

from orchestrator import metrics
from orchestrator.environments import Environment
from orchestrator.errors import RuntimeUnavailable
from orchestrator.host import oci
from orchestrator.host.posture import EngineFacts, host_facts
from orchestrator.host.rootfs import Rootfs, prune, unpacked
from orchestrator.models import Isolation
from orchestrator.settings import Settings
from worker.drivers.base import Image
from worker.drivers.images import built_image
from worker.drivers.oci.removal import OciOwned, translated
from worker.drivers.oci.sandbox import OciSandbox, Starter
from worker.drivers.oci.startup_cache import CompiledFilter, SealedProgram
from worker.sandbox.profile import SandboxProfile

log = structlog.get_logger()


class OciDriver:
    """The driver for OCI runtimes."""

    name = "oci"

    def __init__(self, settings: Settings, worker: str) -> None:
        self._settings = settings
        self._rootfs = settings.oci_path / "rootfs"
        self._all_bundles = settings.oci_path / "bundles"
        self._bundles = self._all_bundles / worker
        self._bundles.mkdir(parents=True, exist_ok=True, mode=0o700)
        with translated("prune"):
            metrics.engine_errors.labels("prune").inc(len(prune(self._rootfs).left))
        self._lock = threading.Lock()
        self._usable: dict[str, Starter] = {}
        self._images: dict[str, Rootfs] = {}

    def runtimes(self) -> dict[Isolation, str]:
        offered: dict[Isolation, str] = {}
        reasons = []
        for isolation, candidates in oci.found(self._settings).items():
            for runtime in candidates:
                if runtime.name not in self._usable:
                    reason = oci.why_not(runtime)
                    if reason:
                        reasons.append(f"{runtime.name}: {reason}")
                        continue
                    filters = CompiledFilter(runtime, oci.state_of(self._settings, runtime.name))
                    # gVisor runs the sandbox from a program of its own, and needs neither sealed program nor filter.
                    program = SealedProgram(runtime.path) if isolation == "standard" else None
                    self._usable[runtime.name] = Starter(self._settings, runtime, filters, program)
                offered[isolation] = runtime.name
                break
        if "standard" not in offered:
            log.warning("runtimes.unusable", reasons=reasons)
            raise RuntimeUnavailable("No OCI runtime works on this host; see `mayfly doctor`.")
        return offered

    def places(self) -> dict[str, Path]:
        return {"containers": self._all_bundles}

    def version(self) -> str:
        versions = [f"{name} {starter.runtime.version()}" for name, starter in self._usable.items()]
        if not versions:
            raise RuntimeUnavailable("No OCI runtime works on this host; see `mayfly doctor`.")
        return ", ".join(versions)

    def facts(self) -> EngineFacts:
        return host_facts(self._settings)

    def image(self, environment: Environment) -> Image:
        image = built_image(self._settings.images_path, environment)
        known = self._images.get(image.id)
        if known is None or not known.used():
            archive = self._settings.images_path / f"{environment.name}.tar"
            with self._lock:
                self._images[image.id] = unpacked(self._rootfs, archive, image.id)
        return image

    def sandbox(self, profile: SandboxProfile) -> OciSandbox:
        bundle = self._bundles / profile.name
        return OciSandbox(profile, self._usable[profile.runtime], self._images[profile.image], bundle)

    def owned(self) -> list[OciOwned]:
        bundles: list[Path] = []
        for worker in self._all_bundles.iterdir():
            with suppress(FileNotFoundError):  # another reaper has removed the directory of a dead worker meanwhile
                bundles += worker.iterdir()
        return [OciOwned(bundle, self._settings, self._bundles) for bundle in bundles]
