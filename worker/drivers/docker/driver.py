"""Containers through Docker Engine: the engine's runtimes and images, and the handles of its containers."""

from __future__ import annotations

from pathlib import Path

from orchestrator.environments import Environment
from orchestrator.host.posture import INSTALLATION_LABEL, EngineFacts
from orchestrator.models import Isolation
from orchestrator.settings import Settings
from worker.drivers.base import Image
from worker.drivers.docker.config import WORKER_LABEL
from worker.drivers.docker.engine import Engine, translated
from worker.drivers.docker.removal import DockerOwned
from worker.drivers.docker.sandbox import DockerSandbox
from worker.drivers.images import built_image
from worker.sandbox.profile import SandboxProfile


class DockerDriver:
    """The driver for Docker Engine."""

    name = "docker"

    def __init__(self, settings: Settings, worker: str) -> None:
        self.engine = Engine(settings.worker_engine_url, settings.engine_timeout_seconds)
        self._url = settings.worker_engine_url
        self._wanted_runtimes = settings.runtime_names()
        self._images = settings.images_path
        self._installation = settings.installation
        self._worker = worker
        self._cgroup_root = settings.cgroup_root
        self._places: dict[str, Path] = {}

    def runtimes(self) -> dict[Isolation, str]:
        with translated("info"):
            info = self.engine.api().info()
        # A path of an engine on another host is meaningless here, and a worker in a container cannot see the path.
        root = Path(info["DockerRootDir"])
        self._places = {"engine": root} if self._url.startswith("unix:") and root.is_dir() else {}
        known = info["Runtimes"]
        return {isolation: name for isolation, (name,) in self._wanted_runtimes.items() if name in known}

    def places(self) -> dict[str, Path]:
        return self._places

    def version(self) -> str:
        with translated("version"):
            return f"Docker Engine {self.engine.api().version()['Version']}"

    def facts(self) -> EngineFacts:
        with translated("info"):
            api = self.engine.api()
            return EngineFacts(api.info(), api.version(), [c["Labels"] or {} for c in api.containers()])

    def image(self, environment: Environment) -> Image:
        image = built_image(self._images, environment)
        self.engine.load_image(image.id, self._images / f"{environment.name}.tar")
        return image

    def sandbox(self, profile: SandboxProfile) -> DockerSandbox:
        labels = {INSTALLATION_LABEL: self._installation, WORKER_LABEL: self._worker}
        return DockerSandbox(self.engine, profile, labels, self._cgroup_root)

    def owned(self) -> list[DockerOwned]:
        with translated("list"):
            containers = self.engine.api().containers(
                all=True, filters={"label": f"{INSTALLATION_LABEL}={self._installation}"}
            )
        return [
            DockerOwned(
                container["Names"][0].lstrip("/"),
                container["Labels"].get(WORKER_LABEL, ""),
                container["Id"],
                self.engine,
                self._cgroup_root,
            )
            for container in containers
            if container["Names"]
        ]
