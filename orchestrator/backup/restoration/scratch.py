"""Temporary Redis servers: to load a snapshot, and to restore into while a backup is verified.

They listen on a Unix socket in a private directory below TMPDIR, write nothing, and die with this process. The clear
snapshot is an unnamed file, which no kill leaves behind: Redis opens it by the descriptor of this process. Results that
are too large for Redis are named files while a backup is verified, in a private directory that SIGKILL leaves behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from orchestrator.backup.errors import BackupError
from orchestrator.errors import StoreUnavailable
from orchestrator.host.tied import tied
from orchestrator.settings import inherited_environment
from orchestrator.store.connection import connect

ANSWER_SECONDS = 60.0
POLL_SECONDS = 0.02
DATABASES = 16384  # Redis loads no snapshot of more databases than it has
SHOWN_LINES = 3  # of the log


@contextmanager
def scratch_redis(snapshot: IO[bytes] | None = None, database: int = 0) -> Iterator[str]:
    """Run a Redis with the snapshot's data, or empty; yields a database's URL. Raises :class:`BackupError`."""
    server = shutil.which("redis-server")
    if server is None:
        raise BackupError("This host has no redis-server to load the backup with; install the package of that name.")
    with tempfile.TemporaryDirectory(prefix="mayfly-backup-") as name:
        directory = Path(name)
        if snapshot is not None:
            snapshot.flush()
            (directory / "dump.rdb").symlink_to(f"/proc/{os.getpid()}/fd/{snapshot.fileno()}")
        with _running(server, directory) as url:
            yield f"{url}?db={database}"


@contextmanager
def _running(server: str, directory: Path) -> Iterator[str]:
    socket, log = directory / "redis.sock", directory / "redis.log"
    options = {
        "port": "0", "unixsocket": str(socket), "unixsocketperm": "600", "dir": str(directory),
        "databases": str(DATABASES), "dbfilename": "dump.rdb", "appendonly": "no", "save": "",
        "enable-debug-command": "yes", "logfile": str(log),
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        [*tied(), server, *words], stdin=subprocess.DEVNULL, env=inherited_environment(), start_new_session=True
    )
    try:
        url = f"unix://{socket}"
        _await(process, url, log)
        yield url
    finally:
        process.kill()  # Redis has no data to save
        process.wait()


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until Redis has loaded the snapshot. Raises :class:`BackupError` if Redis exits before."""
    with closing(connect(url, ANSWER_SECONDS)) as redis:
        while process.poll() is None:
            try:
                redis.ping()
            except StoreUnavailable:
                time.sleep(POLL_SECONDS)
            else:
                return
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    raise BackupError("redis-server could not load the backup's data:\n" + "\n".join(lines[-SHOWN_LINES:]))
