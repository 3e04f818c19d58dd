"""The drill: a backup under load, everything is wiped and restored, and work continues."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from mayfly import Client, NotFound
from orchestrator.backup.encryption import write_identity
from tests.builders.processes.installed import Installation, installed
from tests.harness import eventually

BLOCKER = "import time; print('started', flush=True); time.sleep(280)"
KEEPER = "open('/output/kept.txt', 'w').write('an artifact'); print('before')"


class Load:
    """A client that submits until it is stopped; ``accepted`` are the ids, in order."""

    def __init__(self, installation: Installation) -> None:
        self.accepted: list[str] = []
        self._stopped = threading.Event()
        self._installation = installation
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with self._installation.client() as client:
            while not self._stopped.is_set():
                self.accepted.append(client.submit(f"print({len(self.accepted)})").id)


def wipe(installation: Installation) -> None:
    """Kill every process of Mayfly and remove all its files, as the loss of a host does."""
    installation.kill(*(name for name in installation.pids() if name != "supervisor"))
    sandboxes = installation.state / "sandboxes"
    if sandboxes.is_symlink():
        shutil.rmtree(sandboxes.resolve().parent)
    shutil.rmtree(installation.state)


def exists(client: Client, id: str) -> bool:
    try:
        client.get(id)
    except NotFound:
        return False
    return True


@pytest.fixture
def target(tmp_path: Path) -> dict[str, str]:
    recipient = write_identity(tmp_path / "identity.txt")
    return {"BACKUP_TARGET": str(tmp_path / "backups"), "BACKUP_RECIPIENTS": json.dumps([recipient])}


def test_wiped_installation_is_restored_and_continues(images: Path, tmp_path: Path, target: dict[str, str]) -> None:
    slots = {"SLOTS": "1", "SPARE_SLOTS": "0", "QUEUE_LIMIT": "100000", "TENANT_QUEUE_SHARE": "1"}
    identity = ("--identity", str(tmp_path / "identity.txt"))
    with installed(images, **slots, **target) as made:
        made.up("--no-sample")
        with made.client() as client:
            kept = client.run(KEEPER)
            blocker = client.submit(BLOCKER, limits={"wall_seconds": 300}).id
            eventually(lambda: client.get(blocker).state == "running", "one program has the only slot")
            load = Load(made)
            eventually(lambda: len(load.accepted) >= 5, "executions are queued")
            before = list(load.accepted)
            done = made.mayfly("backup", "create", "--json")
            assert done.returncode == 0, done.stderr.decode()
            known = len(load.accepted)
            eventually(lambda: len(load.accepted) > known + 2, "executions are accepted after the backup")
            load.stop()
            after = client.submit("print('after')").id
        key = (made.state / "api-key").read_text()
        wipe(made)
        restored = made.mayfly("backup", "restore", *identity)
        assert restored.returncode == 0, restored.stderr.decode()
        assert b"executions that were accepted later are unknown" in restored.stdout
        made.up("--no-sample")
        assert (made.state / "api-key").read_text() == key
        with made.client() as client:
            assert client.get(kept.id).stdout == "before\n"
            (artifact,) = client.save_artifacts(client.get(kept.id), tmp_path)
            assert artifact.read_text() == "an artifact"
            assert not exists(client, after)
            assert not exists(client, load.accepted[-1])
            client.cancel(blocker)  # which runs again, since its worker was lost
            for number, id in enumerate(before):
                assert client.wait(id, 120).stdout == f"{number}\n"
            verified = made.mayfly("audit", "verify")
            assert verified.returncode == 0, verified.stdout.decode() + verified.stderr.decode()
        again = made.mayfly("backup", "restore", *identity)
        assert again.returncode == 1
        assert b"mayfly down" in again.stderr
        made.down()
        again = made.mayfly("backup", "restore", *identity)
        assert again.returncode == 1
        assert b"not empty" in again.stderr


def test_installation_with_half_a_restore_does_not_start(images: Path, target: dict[str, str]) -> None:
    with installed(images, **target) as made:
        (made.state / "restore-incomplete").write_text("20260101T000000Z-000000\n")
        refused = made.mayfly("up", "--no-sample")
        assert refused.returncode == 1
        assert b"restore 20260101T000000Z-000000 --identity" in refused.stderr
        assert made.pids() == {}
