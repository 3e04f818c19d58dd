"""A deployment by compose, really started, under a name, in a directory and on a network of its own."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from orchestrator.backup.encryption import write_identity
from tests.builders.processes.composes import V1, compose_of
from tests.builders.processes.networks import SHOW, unused
from tests.harness import ROOT, bearer, free_port, free_uids

SERVICES = ("proxy", "api", "worker", "engine-proxy", "broker", "redis")
OTHERS = 6  # containers that are no workers: two of the API, one of each other service
# The tests' own settings must not reach compose, which prefers the environment to its file.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("MAYFLY_", "COMPOSE_"))}


def command(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, env=CLEAN, timeout=1200)
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


class Deployment:
    """An installation of deploy/prepare.sh and deploy/compose.yaml, under a name and in a directory of its own."""

    def __init__(self, home: Path, images: Path, version: str = V1) -> None:
        self.home, self.images = home, images
        self.name = f"test-{secrets.token_hex(6)}"
        self.port = free_port()
        options = ("-p", self.name, "--env-file", str(home / "compose.env"), "-f", "deploy/compose.yaml")
        self.compose = (compose_of(version), *options)
        self.with_sandboxes = (*self.compose, "-f", "deploy/compose.sandboxes.yaml")
        self.with_backups = (*self.compose, "-f", "deploy/compose.backup.yaml")
        self.with_hosts = (*self.compose, "-f", "deploy/compose.hosts.yaml")
        self.done: list[str] = []

    def prepare(self, **changes: str) -> str:
        """Run deploy/prepare.sh with these variables."""
        changes = {"IMAGES": str(self.images), "PYTHON": sys.executable} | changes
        env = [f"{name}={value}" for name, value in changes.items()]
        self.done.append("deploy/prepare.sh")
        return command("env", *env, "deploy/prepare.sh", str(self.home))

    def configure(self) -> None:
        settings = self.home / "compose.env"
        network = unused(command(*SHOW))
        written = settings.read_text().replace("127.0.0.1:8443", f"127.0.0.1:{self.port}")
        written = written.replace("NETWORK=10.213.57", f"NETWORK={network}")
        written = written.replace("INSTALLATION=mayfly", f"INSTALLATION={self.name}")
        own = {"UID_FIRST": free_uids(), "POOL_SIZE": 0, "POOL_SIZES": '{"python":1}'}
        own["BACKUP_RECIPIENTS"] = json.dumps([write_identity(self.home / "identity.txt")])
        own["RATE_LIMIT"] = "1000/second"  # waiting is many requests
        settings.write_text(written + "".join(f"MAYFLY_{name}={value}\n" for name, value in own.items()))

    def __call__(self, *arguments: str) -> str:
        self.done.append(f"$compose {' '.join(arguments)}")
        return command(*self.compose, *arguments)

    def logs(self) -> str:
        return self("ps") + self("logs", "--tail=40")

    def client(self) -> httpx2.Client:
        """A client with the admin's key that trusts this installation's authority alone."""
        key = (self.home / "secrets" / "admin-key").read_text().strip()
        trusted = ssl.create_default_context(cafile=str(self.home / "tls" / "ca.crt"))
        return httpx2.Client(base_url=f"https://127.0.0.1:{self.port}", headers=bearer(key), verify=trusted, timeout=90)

    def healthy(self, workers: int = 2) -> bool:
        """Whether every service is."""
        states = [c["State"].get("Health", {}).get("Status") for name in SERVICES for c in self.service(name)]
        return states == ["healthy"] * (workers + OTHERS)

    def service(self, name: str) -> list[dict[str, Any]]:
        """The engine's description of a service's containers."""
        return self._inspected(f"com.docker.compose.project={self.name}", f"com.docker.compose.service={name}")

    def containers(self) -> list[dict[str, Any]]:
        """Every container of this deployment: the services' and the sandboxes."""
        ours = self._inspected(f"com.docker.compose.project={self.name}")
        return ours + self._inspected(f"dev.mayfly.installation={self.name}")

    def left(self) -> list[str]:
        """Containers, networks, volumes and leases that there are."""
        label = f"label=com.docker.compose.project={self.name}"
        found = [container["Name"] for container in self.containers()]
        found += command("docker", "network", "ls", "--quiet", "--filter", label).split()
        found += command("docker", "volume", "ls", "--quiet", "--filter", label).split()
        return found + [path.name for path in (self.home / "sandboxes").iterdir()]

    def _inspected(self, *labels: str) -> list[dict[str, Any]]:
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        ids = command("docker", "ps", "--all", "--quiet", "--no-trunc", *filters).split()
        if not ids:
            return []
        # One may be gone meanwhile, which makes `inspect` fail but not withhold the others.
        shown = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, env=CLEAN)
        found: list[dict[str, Any]] = json.loads(shown.stdout)
        return found
