"""deploy/install.sh with compose: it runs executions, a second run keeps it running, and `uninstall` leaves nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.processes.composes import V1, compose_of
from tests.builders.processes.deployment import CLEAN, Deployment
from tests.harness import ROOT, eventually

pytestmark = [pytest.mark.timeout(1800), pytest.mark.complete]


class Installer:
    """The installer, for the installation of one directory."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def __call__(self, *words: str) -> str:
        made = self.deployment
        own = {"DATA": str(made.home), "IMAGES": str(made.images), "COMPOSE": f"{compose_of(V1)} -p {made.name}"}
        command = ["deploy/install.sh", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**CLEAN, **own}, timeout=1200)
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture
def installer(tmp_path: Path, engine: None, images: Path) -> Iterator[Installer]:
    home = tmp_path / "home"
    home.mkdir()
    deployment = Deployment(home, images)
    (home / "compose.env").write_text((ROOT / "deploy" / "compose.env.example").read_text())
    deployment.configure()
    install = Installer(deployment)
    yield install
    if (home / "compose.env").exists():
        install("uninstall")


def test_compose_is_installed_and_leaves_nothing(installer: Installer) -> None:
    made = installer.deployment
    assert "Ready     " in installer("--compose")
    eventually(lambda: made.healthy(workers=1), "every service is healthy", 240)
    body = {"environment": "python", "code": "print(6 * 7)"}
    with made.client() as client:
        ended = client.post("/api/v1/executions", json=body, headers={"Prefer": "wait=60"}).json()
        assert (ended["state"], ended["stdout"]) == ("succeeded", "42\n")
    before = [container["Id"] for container in made.containers()]
    installer("--compose")
    services = {container["Id"] for container in made.containers()}
    assert services >= {one["Id"] for name in ("redis", "api", "worker", "engine-proxy") for one in made.service(name)}
    assert {one["Id"] for one in made.service("worker")} <= set(before), "a second run starts nothing anew"
    assert made.left(), "the control"
    assert "Removed   the services" in installer("uninstall")
    (made.home / "sandboxes").mkdir(parents=True)  # where `left` looks
    assert made.left() == []
