"""Drops a torn transaction from Redis's append-only file before Redis continues with that file.

The effects of a script are one transaction in the file: ``MULTI``, its commands, ``EXEC``. A Redis that is killed in
the middle of a write leaves a file that ends in the middle of a transaction. When Redis loads such a file it drops the
last command, keeps the first commands without ``EXEC``, and appends behind them. The next load either executes these
commands, which were never executed before, together with later commands, or loses the later commands up to the next
``EXEC``. Redis 7.0 and later releases do so; valkey-io/valkey#4342 describes the fault and repairs it there.

A Redis that loads the file a second time, with nothing appended, drops the whole transaction. So a torn file is first
loaded by a Redis that no client can reach. Redis's own tool (``redis-check-aof --fix``) would also truncate a file that
is damaged in the middle; such a file is left unchanged here, and Redis refuses to load it.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import StoreUnavailable
from orchestrator.store.connection import connect

MANIFEST = Path("appendonlydir") / "appendonly.aof.manifest"  # Redis's default name
ANSWER_SECONDS = 1.0
POLL_SECONDS = 0.02


def cut_torn_transaction(
    command: Sequence[str], environment: dict[str, str], directory: Path, socket: Path, log: Path, seconds: float
) -> bool:
    """Drop a torn transaction at the end of the file in Redis's ``directory``; whether there was one.

    ``command`` starts Redis, which listens on the Unix ``socket`` for that load; no client may know the socket. A file
    that Redis refuses to load is left unchanged. Raises :class:`TimeoutError` if the load takes more than ``seconds``.
    """
    manifest = directory / MANIFEST
    if not manifest.exists() or _is_whole(manifest):
        return False
    with log.open("ab") as out:
        redis = subprocess.Popen(
            [*command, "--port", "0", "--unixsocket", str(socket)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
        )
    try:
        return _loads(redis, socket, seconds)
    finally:
        redis.terminate()
        redis.wait()
        socket.unlink(missing_ok=True)


def _is_whole(manifest: Path) -> bool:
    """Whether the last file ends with a whole transaction; ``None`` without Redis's tool."""
    tool = shutil.which("redis-check-aof")
    return tool is not None and subprocess.run([tool, manifest], capture_output=True).returncode == 0


def _loads(redis: subprocess.Popen[bytes], socket: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    store = connect(f"unix://{socket}", ANSWER_SECONDS)
    try:
        while redis.poll() is None:
            try:
                return bool(store.ping())
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Redis has not loaded its append-only file within {seconds:g} s.") from None
            time.sleep(POLL_SECONDS)
    finally:
        store.close()
    return False
