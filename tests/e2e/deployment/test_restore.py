"""The drill under compose: a backup, everything is wiped and restored, and work continues."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.builders.processes.deployment import Deployment, command
from tests.harness import eventually

pytestmark = [pytest.mark.complete, pytest.mark.timeout(1500)]
PROGRAM = "open('/output/kept.txt', 'w').write('an artifact'); print('x' * 100_000)"


@pytest.fixture
def deployment(images: Path, tmp_path: Path) -> Iterator[Deployment]:
    if os.getuid() != 0:
        pytest.skip("deploy/prepare.sh needs root")
    made = Deployment(tmp_path / "home", images)
    made.prepare()
    made.configure()
    try:
        started(made)
        yield made
    except BaseException:
        sys.stdout.write(made.logs())
        raise
    finally:
        made("down", "-v")
    assert made.left() == []


def started(deployment: Deployment) -> None:
    deployment("up", "-d")
    eventually(lambda: deployment.healthy(workers=1), "every service is healthy", 240)
    with deployment.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200, "a worker takes executions", 120)


def submitted(client: httpx2.Client, code: str, **headers: str) -> dict[str, Any]:
    body = {"environment": "python", "code": code}
    shown: dict[str, Any] = client.post("/api/v1/executions", json=body, headers=headers).raise_for_status().json()
    return shown


def ended(client: httpx2.Client, id: str) -> dict[str, Any]:
    place = f"/api/v1/executions/{id}"
    return eventually(
        lambda: (one := client.get(place, params={"wait": 30}).json())["finished_at"] and one, f"{id} ends", 240
    )


def restored(deployment: Deployment, identity: Path) -> str:
    changes = {"PYTHON": sys.executable, "COMPOSE": " ".join(deployment.compose)}
    env = [f"{name}={value}" for name, value in changes.items()]
    return command("env", *env, "deploy/restore.sh", str(deployment.home), "--identity", str(identity))


def files(deployment: Deployment) -> dict[str, tuple[int, bytes]]:
    """The owner and content of each secret."""
    found = [*(deployment.home / "secrets").iterdir(), deployment.home / "token-keys" / "keys"]
    return {path.name: (path.stat().st_uid, path.read_bytes()) for path in found}


def test_wiped_installation_is_restored_and_continues(deployment: Deployment, tmp_path: Path) -> None:
    home, identity = deployment.home, tmp_path / "identity.txt"
    with deployment.client() as client:
        kept = ended(client, submitted(client, PROGRAM)["id"])
        (worker,) = client.get("/api/v1/workers").json()["items"]
        assert client.post(f"/api/v1/workers/{worker['id']}/drain").status_code == 202
        eventually(lambda: client.get("/api/v1/workers").json()["items"][0]["draining"], "the worker drains")
        queued = submitted(client, "print('queued')")["id"]
        command(*deployment.with_backups, "run", "--rm", "-T", "backup", "create")
        after = submitted(client, "print('after')")["id"]

    # It runs, so it is not restored into.
    with pytest.raises(AssertionError, match="The installation is running"):
        restored(deployment, home / "identity.txt")

    # Backups, identity and settings lie elsewhere; all else is lost.
    keys = files(deployment)
    deployment("down", "-v")
    for name in ("backups", "identity.txt", "compose.env"):
        shutil.move(home / name, tmp_path / name)
    shutil.rmtree(home)
    home.mkdir()
    for name in ("backups", "compose.env"):
        shutil.move(tmp_path / name, home / name)
    deployment.prepare()
    fresh = files(deployment)
    assert fresh["signing-key"] != keys["signing-key"]

    # With another identity nothing is restored, and the new keys stay.
    command(sys.executable, "-m", "orchestrator.cli", "backup", "keygen", str(tmp_path / "other.txt"))
    with pytest.raises(AssertionError, match="cannot be decrypted"):
        restored(deployment, tmp_path / "other.txt")
    assert files(deployment) == fresh

    assert "executions that were accepted later are unknown" in restored(deployment, identity)
    assert {name: files(deployment)[name] for name in ("signing-key", "admin-key", "keys")} == {
        name: keys[name] for name in ("signing-key", "admin-key", "keys")
    }
    started(deployment)
    with deployment.client() as client:
        place = f"/api/v1/executions/{kept['id']}"
        assert client.get(f"{place}/stdout").content == b"x" * 100_000 + b"\n"
        assert client.get(f"{place}/artifacts/kept.txt").content == b"an artifact"
        assert ended(client, queued)["stdout"] == "queued\n"
        assert client.get(f"/api/v1/executions/{after}").status_code == 404
        assert ended(client, submitted(client, "print('new')")["id"])["stdout"] == "new\n"
    assert deployment("exec", "-T", "redis", "mayfly-redis", "refused").strip() == ""

    # An installation with data is not restored into, and keeps its keys.
    deployment("down")
    with pytest.raises(AssertionError, match="not empty"):
        restored(deployment, identity)
    assert files(deployment)["signing-key"] == keys["signing-key"]
