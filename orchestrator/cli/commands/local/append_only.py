"""Cuts a torn transaction off Redis's append-only file before Redis goes on with that file.

The effects of a script are one transaction in the file: ``MULTI``, its commands, ``EXEC``. A Redis that is killed in
the middle of a write leaves a file that ends in the middle of one. When Redis loads such a file it cuts off the last
command and keeps the first ones, without ``EXEC``, and appends behind them: the next load runs those together with what
follows, though they were never done, or loses what follows up to the next ``EXEC``. Redis 7.0 does so, and later
releases; valkey-io/valkey#4342 describes the fault and repairs it there.

A Redis that loads the file a second time, with nothing appended, cuts off the whole transaction. So a torn file is
loaded once by a Redis that no client can reach. Redis's own tool (``redis-check-aof --fix``) would also cut a file in
the middle, where it is damaged; such a file is left to Redis here, which refuses to load it.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import StoreUnavailable
from orchestrator.store.connection import connect

MANIFEST = Path("appendonlydir") / "appendonly.aof.manifest"  # its name where no option says another
ANSWER_SECONDS = 1.0
POLL_SECONDS = 0.02


def cut_torn_transaction(
    command: Sequence[str], environment: dict[str, str], directory: Path, socket: Path, log: Path, seconds: float
) -> bool:
    """Make the file in Redis's ``directory`` end with a whole transaction; whether it did not.

    ``command`` starts Redis. For the load it is given the Unix ``socket``, which no client may know. What Redis refuses
    to load is left as it is. Raises :class:`TimeoutError` if the load takes more than ``seconds``.
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
    """Whether the last file ends with a whole transaction; where there is no tool to ask, nobody knows."""
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
