"""The parts of the container engine's HTTP API that the command line uses: availability, version, remaining containers.

Workers reach the engine through their driver. This module does not need the driver's library, so that ``mayfly doctor``
also works if only the command line is installed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import httpx2

from orchestrator.host.posture import INSTALLATION_LABEL, EngineFacts

ANSWER_SECONDS = 20.0
REMOVAL_SECONDS = 600.0  # of an image, whose files the engine deletes before it answers
IMAGES = "mayfly/"  # the beginning of the builder's tags
GONE_OR_IN_USE = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)  # also: being removed
SERVICES = frozenset({"mayfly/service", "mayfly/redis", "mayfly/proxy", "mayfly/monitoring"})  # of compose


class EngineUnreachable(Exception):
    """The container engine does not answer, or refuses."""


class EngineImage(NamedTuple):
    """An image of Mayfly's in an engine, of a sandbox or a service, and whether a container uses it, running or not."""

    id: str
    tags: tuple[str, ...]
    size_bytes: int
    used: bool
    service: bool


class Engine:
    """One engine, named as in ``MAYFLY_DOCKER_URL``: ``unix:///path`` or ``tcp://host:port``."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self.socket = Path(parts.path) if parts.scheme == "unix" else None
        if self.socket is not None:
            base_url, transport = "http://engine", httpx2.HTTPTransport(uds=str(self.socket))
        elif parts.scheme in ("tcp", "http", "https") and parts.netloc:
            base_url, transport = f"{'https' if parts.scheme == 'https' else 'http'}://{parts.netloc}", None
        else:
            raise EngineUnreachable(f"{url!r} is not an engine's address, which begins with unix:// or tcp://")
        # As with a worker, no proxy of the environment stands between the command and the engine.
        self._http = httpx2.Client(base_url=base_url, transport=transport, timeout=ANSWER_SECONDS, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def info(self) -> dict[str, Any]:
        """The engine's ``/info``: ``ServerVersion``, ``Runtimes``, ``CgroupVersion``, ``DockerRootDir``, …."""
        return dict(self._ask("GET", "/info").json())

    def facts(self) -> EngineFacts:
        """The facts for the checks of this host's posture."""
        running = self._ask("GET", "/containers/json").json()
        version = dict(self._ask("GET", "/version").json())
        return EngineFacts(self.info(), version, [container["Labels"] or {} for container in running])

    def answers(self) -> bool:
        """Whether the engine answers, also if it refuses."""
        try:
            self._ask("GET", "/_ping", range(300, 500))  # something that refuses is there, too
        except EngineUnreachable:
            return False
        return True

    def containers(self, installation: str) -> list[str]:
        """Ids of an installation's containers, running or not."""
        filters = json.dumps({"label": [f"{INSTALLATION_LABEL}={installation}"]})
        found = self._ask("GET", "/containers/json", params={"all": "1", "filters": filters}).json()
        return [str(container["Id"]) for container in found]

    def running(self) -> int:
        """The number of running containers, of any owner."""
        return len(self._ask("GET", "/containers/json").json())

    def images(self) -> list[EngineImage]:
        """The images of sandboxes and services in the engine, of any installation; none of other programs."""
        used = {str(container["ImageID"]) for container in self._ask("GET", "/containers/json?all=1").json()}
        filters = json.dumps({"reference": [f"{IMAGES}*"]})
        found = self._ask("GET", "/images/json", params={"filters": filters}).json()
        tags = {one["Id"]: tuple(tag for tag in one["RepoTags"] if tag.startswith(IMAGES)) for one in found}
        return [
            EngineImage(id, names, int(one["Size"]), id in used, any(map(_is_service, names)))
            for one in found
            if (names := tags[id := one["Id"]])
        ]

    def remove_image(self, image: EngineImage) -> bool:
        """Remove the builder's tags of an image, and with the last tag the image; ``False`` if it is in use now."""
        answers = [self._ask("DELETE", f"/images/{tag}", GONE_OR_IN_USE, timeout=REMOVAL_SECONDS) for tag in image.tags]
        return all(answer.status_code != HTTPStatus.CONFLICT for answer in answers)

    def remove(self, id: str) -> None:
        """Kill and remove a container. Idempotent."""
        self._ask("DELETE", f"/containers/{id}", GONE_OR_IN_USE, params={"force": "1", "v": "1"})

    def _ask(self, method: str, path: str, expected: Collection[int] = (), **options: Any) -> httpx2.Response:
        """The answer. Raises :class:`EngineUnreachable`, also for a failure that is not ``expected``."""
        try:
            response = self._http.request(method, path, **options)
        except httpx2.TransportError as error:
            raise EngineUnreachable(f"the container engine at {self.url} does not answer ({error})") from error
        if not response.is_success and response.status_code not in expected:
            raise EngineUnreachable(f"the container engine at {self.url} answered {response.status_code}")
        return response


def _is_service(tag: str) -> bool:
    return tag.rpartition(":")[0] in SERVICES
