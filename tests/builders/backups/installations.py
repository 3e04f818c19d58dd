"""Installations to back up and to restore into: a Redis, a blob directory and keys, without processes of Mayfly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from orchestrator.audit.log import AuditLog
from orchestrator.backup.catalogue import chosen
from orchestrator.backup.creation.creating import Creator, Made
from orchestrator.backup.creation.retention import Kept
from orchestrator.backup.encryption import Identities, write_identity
from orchestrator.backup.restoration.reading import Reader
from orchestrator.backup.restoration.restoring import Restored, restore
from orchestrator.backup.restoration.verifying import Verified, verify_backup
from orchestrator.backup.targets import Target, open_target
from orchestrator.host import token_keys
from orchestrator.identity import Principal
from orchestrator.models import Artifact
from orchestrator.settings import Settings, create_secret_file
from orchestrator.store import Store, open_store
from orchestrator.store.security import LogBounds
from tests.builders.records import claimed, result, submit
from tests.harness import RedisServer

OPTIONS = ("--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes")
BLOB = b"an uploaded blob"
ADMIN = Principal(id="key:admin", tenant="default", scopes=frozenset())


class Source(NamedTuple):
    """An installation with two ended executions, two that are queued, a blob and a sealed audit log."""

    settings: Settings
    store: Store
    ended: tuple[str, str]
    queued: tuple[str, str]


class Backups:
    """Backups of installations in one target, with the identity that reads them."""

    def __init__(self, directory: Path, address: str) -> None:
        self.identity = directory / "identity.txt"
        self.recipient = write_identity(self.identity)
        self.address = address
        self.target: Target = open_target(address)

    def settings(self, state: Path, server: RedisServer) -> Settings:
        """The settings of an installation."""
        return Settings(
            state_dir=state, redis_url=server.url, backup_target=self.address, backup_recipients=[self.recipient]
        )

    def create(self, settings: Settings, keep: int = 100) -> Made:
        return Creator(settings, self.target).create(Kept(keep, 0))

    def reader(self, id: str | None = None, identity: Path | None = None) -> Reader:
        return Reader(self.target, chosen(self.target, id, None), Identities(identity or self.identity))

    def verify(self, settings: Settings, id: str | None = None) -> Verified:
        return verify_backup(self.reader(id), settings)

    def restore(self, settings: Settings, id: str | None = None) -> Restored:
        return restore(self.reader(id), settings)


@contextmanager
def redis_in(directory: Path) -> Iterator[RedisServer]:
    """An empty Redis of its own."""
    directory.mkdir()
    server = RedisServer(directory, *OPTIONS)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def prepare(settings: Settings) -> None:
    """Make the keys of an installation, and one file of each further kind of its own files."""
    create_secret_file(settings.secret_path)
    create_secret_file(settings.admin_key_path, "mfk_")
    token_keys.create(settings.token_keys_path)
    settings.tool_servers_path.mkdir()
    (settings.tool_servers_path / "one.toml").write_text("name = 'one'\n")


def ended(store: Store, *contents: bytes) -> str:
    """An execution that has ended, with these artifacts."""
    id = submit(store, tenant="default")
    claim = claimed(store, id)
    store.records.start(claim, store.now())
    artifacts = []
    for number, content in enumerate(contents):
        writer = store.blobs.artifact_writer(id, claim.attempt)
        writer.write(content)
        sha256, size = writer.commit()
        sha256 = sha256.removeprefix("sha256:")
        artifacts.append(Artifact(path=f"{number}.bin", size=size, media_type="text/plain", sha256=sha256))
    store.records.commit(claim, result().model_copy(update={"artifacts": tuple(artifacts)}))
    return id


def seal_entries(settings: Settings, store: Store, count: int) -> None:
    """Append entries to the audit log, and seal them."""
    log = AuditLog(store, settings.secret(), LogBounds(1000, 86400))
    for number in range(count):
        log.append(log.writer.entry(ADMIN, "key.create", f"key/{number}"))
    assert log.seal() is not None


def contents_of(settings: Settings) -> tuple[dict[str, str], dict[bytes, bytes]]:
    """The files of an installation by digest, and the lasting keys of its Redis by a digest of their values."""
    files = {
        str(path.relative_to(settings.blobs_path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in settings.blobs_path.rglob("*")
        if path.is_file()
    }
    with closing(open_store(settings).redis) as redis:
        names = sorted(name for name in redis.keys("*") if redis.ttl(name) == -1)
        digests = redis.execute_command("DEBUG", "DIGEST-VALUE", *names)
    return files, dict(zip(names, digests, strict=True))


@contextmanager
def source_in(directory: Path, backups: Backups) -> Iterator[Source]:
    """An installation with something of everything."""
    with redis_in(directory / "redis") as server:
        settings = backups.settings(directory / "state", server)
        prepare(settings)
        store = open_store(settings)
        store.own_blobs.put("default", [BLOB])
        done = ended(store, b"the same", b"only here"), ended(store, b"the same", b"")
        waiting = submit(store, tenant="default"), submit(store, tenant="other")
        seal_entries(settings, store, 5)
        yield Source(settings, store, done, waiting)
        store.redis.close()
