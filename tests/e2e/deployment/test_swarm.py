"""The stacks of ``deploy/swarm``, by the commands of the document, on two engines; one host is lost under load, and the
other's data is restored from a backup.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.backup.encryption import write_identity
from tests.builders.hosts.swarm import SwarmHost, join
from tests.harness import ROOT, bearer, eventually, free_uids

pytestmark = [pytest.mark.complete, pytest.mark.timeout(1500)]
TEXT = (ROOT / "docs" / "operations" / "swarm.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (\S.*)$", TEXT, re.MULTILINE)
KEEPING = "open('/output/kept.txt', 'w').write('an artifact'); print('x' * 100_000)"
PROGRAM = "print('begun', flush=True)\nprint(input())"


class Swarm:
    """Two hosts, and a client of the API on the first."""

    def __init__(self, images: Path, home: Path) -> None:
        self.home, self.images, self.identity = home, images, home.with_name("identity.txt")
        name = f"mf{secrets.token_hex(3)}"
        self.first = SwarmHost(f"{name}a", home, home)
        self.second = SwarmHost(f"{name}b", home, home.with_name("second"))
        self.address, _ = join(self.first, self.second)
        self.typed: list[str] = []
        self.url = f"https://{self.first.address}:8443"

    def type(self, host: SwarmHost, *numbers: int, **env: str) -> str:
        """Type commands of the document in one shell, with this deployment's names and paths."""
        self.typed += [COMMANDS[number] for number in numbers]
        command = "\n".join(COMMANDS[number] for number in numbers)
        command = command.replace("/var/lib/mayfly", str(self.home)).replace("mayfly.example.com", self.first.address)
        command = command.replace("identity.txt", str(self.identity))
        if command.endswith(("deploy/prepare.sh", "deploy/swarm/node.sh")):
            command += f" {host.directory}"
        bin = Path(sys.prefix) / "bin"
        given = {"IMAGES": str(self.images), "PYTHON": sys.executable, "ADDRESS": self.address, **env}
        return host(command, PATH=f"{bin}:{os.environ['PATH']}", **given)

    def configure(self) -> None:
        """The tests' own settings, in the file that an operator edits."""
        recipients = json.dumps([write_identity(self.identity)])
        own = {"INSTALLATION": self.first.name, "UID_FIRST": free_uids(), "POOL_SIZE": 0, "POOL_SIZES": "{}"}
        own |= {"SLOTS": 1, "SPARE_SLOTS": 0, "LEASE_SECONDS": 3, "RATE_LIMIT": "1000/second", "ACCEPT_WEAKER": "true"}
        own |= {"RETRY_SECONDS": 0.1, "BACKUP_RECIPIENTS": recipients}
        settings = self.home / "compose.env"
        kept = [line for line in settings.read_text().splitlines() if not line.startswith("MAYFLY_INSTALLATION")]
        settings.write_text("\n".join([*kept, *(f"MAYFLY_{name}={value}" for name, value in own.items())]) + "\n")

    def client(self) -> httpx2.Client:
        key = (self.home / "secrets" / "admin-key").read_text().strip()
        trusted = ssl.create_default_context(cafile=str(self.home / "tls" / "ca.crt"))
        return httpx2.Client(base_url=self.url, headers=bearer(key), verify=trusted, timeout=90)

    def logs(self) -> str:
        asked = "docker node ls; docker stack ps --no-trunc mayfly mayfly-workers 2>&1 || true;"
        # The logs of a lost host never come.
        services = "for s in $(docker service ls -q); do timeout 20 docker service logs --tail 15 $s 2>&1 || true; done"
        return self.first(asked + services)


def answers(client: httpx2.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx2.TransportError:
        return False


def workers(client: httpx2.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/workers").json()["items"]
    return found


def submitted(client: httpx2.Client) -> dict[str, Any]:
    body = {"environment": "python", "code": KEEPING}
    shown: dict[str, Any] = client.post("/api/v1/executions", json=body).raise_for_status().json()
    return shown


@pytest.fixture(scope="module")
def swarm(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    if os.getuid() != 0 or shutil.which("ip") is None:
        pytest.skip("engines in network namespaces need root and iproute2")
    home = tmp_path_factory.mktemp("swarm") / "home"
    for directory in (home.parent, home.parent.parent):
        directory.chmod(0o755)
    with ExitStack() as ends:
        made = Swarm(images, home)
        for host in (made.first, made.second):
            ends.callback(host.remove)
            host.start()
        socket = {"DOCKER_SOCKET": str(home / "run" / "docker.sock")}
        try:
            made.type(made.first, 0, **socket)
            made.configure()
            for number in (1, 2):
                made.type(made.first, number)
            made.type(made.first, 3, 4)
            with made.client() as client:
                eventually(lambda: answers(client, "/livez"), "the API answers through the proxy", 400)
            token = (home / "secrets" / "admin-key").read_text().strip()
            access = {"MAYFLY_URL": made.url, "MAYFLY_TOKEN": token, "SSL_CERT_FILE": str(home / "tls" / "ca.crt")}
            made.type(made.first, 5, **access)
            made.type(made.first, 3, 6)
            joined = made.type(made.first, 7).strip()
            made.type(made.second, 8)
            made.type(made.second, 9, JOIN=joined)
            made.type(made.first, 10, HOST=made.second.name)
            with made.client() as client:
                eventually(lambda: len(workers(client)) == 2, "a worker on each host is alive", 400)
            yield made
        except BaseException:
            sys.stdout.write(made.logs())
            raise


def test_services_have_and_report_their_walls(swarm: Swarm) -> None:
    with swarm.client() as client:
        assert sorted(worker["host"] for worker in workers(client)) == sorted([swarm.first.name, swarm.second.name])
        assert [worker.get("lacking") for worker in workers(client)] == [None, None]
        assert "confinement" not in client.get("/readyz").json()["details"]
    eventually(swarm.second.directory.joinpath("engine", "engine.sock").is_socket, "the engine proxy listens")


def test_host_lost_under_load_loses_no_execution(swarm: Swarm) -> None:
    with swarm.client() as client:
        limits = {"wall_seconds": 250}
        body = {"environment": "python", "code": PROGRAM, "stdin": {"stream": True}, "limits": limits}
        ids = [client.post("/api/v1/executions", json=body).json()["id"] for _ in range(6)]

        def on_second() -> list[str]:
            found = [id for one in workers(client) if one["host"] == swarm.second.name for id in one["executions"]]
            return [id for id in found if client.get(f"/api/v1/executions/{id}").json()["stdout"] == "begun\n"]

        lost = eventually(on_second, "the second host runs an execution", 120)
        swarm.second.lose()
        for id in ids:
            sent = client.post(f"/api/v1/executions/{id}/stdin", params={"end": True}, content=b"typed\n")
            assert sent.status_code in (200, 202), sent.text

        def ended(id: str) -> dict[str, Any] | None:
            shown = client.get(f"/api/v1/executions/{id}", params={"wait": 30}).json()
            return dict(shown) if shown["finished_at"] else None

        for id in ids:
            shown = eventually(lambda id=id: ended(id), f"{id} ends", 240)  # type: ignore[misc]
            assert (shown["state"], shown["stdout"]) == ("succeeded", "begun\ntyped\n"), shown
            assert shown["attempt"] == (2 if id in lost else 1)
        eventually(lambda: len(workers(client)) == 1, "the lost worker is forgotten")

    def is_down() -> bool:
        states = swarm.first("docker node ls --format '{{.Hostname}} {{.Status}}'").splitlines()
        return f"{swarm.second.name} Down" in states

    eventually(is_down, "the swarm knows that the host is down", 120)


def test_data_is_backed_up_beside_the_stack_and_restored(swarm: Swarm) -> None:
    """Also without the volumes: those of a first host that was lost."""
    first = swarm.first
    with swarm.client() as client:
        eventually(lambda: workers(client), "a worker is alive", 400)
        place = f"/api/v1/executions/{submitted(client)['id']}"

        def end() -> bool:
            return bool(client.get(place, params={"wait": 30}).json()["finished_at"])

        eventually(end, "the execution ends", 240)
        assert " files, " in swarm.type(first, 11)
        swarm.type(first, 12)
        later = submitted(client)["id"]
    keys = {path.name: path.read_bytes() for path in (swarm.home / "secrets").iterdir()}
    for number in range(13, 18):
        swarm.type(first, number)
    assert {path.name: path.read_bytes() for path in (swarm.home / "secrets").iterdir()} == keys
    swarm.type(first, 3, 4)
    with swarm.client() as client:
        eventually(lambda: answers(client, place), "the restored execution is there", 400)
        assert client.get(f"{place}/artifacts/kept.txt").content == b"an artifact"
        assert client.get(f"{place}/stdout").content == b"x" * 100_000 + b"\n"
        assert client.get(f"/api/v1/executions/{later}").status_code == 404


def test_each_command_of_the_document_was_typed(swarm: Swarm) -> None:
    assert [command for command in COMMANDS if command not in swarm.typed] == []
