"""The engine proxy beside the worker of ``mayfly host run``.

Theory of operation. The command becomes the worker. Before, it starts this module as a child, which starts the proxy
and starts it again when it ends. The worker has the write end of a pipe and never writes; its end, however it comes,
ends the pipe, and then this process ends the proxy. Both are in a session of their own, so that Ctrl-C reaches the
worker alone, which still needs the proxy for its executions. The child also has the lock of the socket's directory, so
that another command neither takes the socket away, nor loses its own to a proxy that is ending.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from orchestrator.cli.console import CommandFailed
from orchestrator.cli.verdict import MAYFLYS_FAULT, MISTAKE
from orchestrator.host.tied import tied
from orchestrator.settings import PREFIX

DIRECTORY = "engine"  # below the state directory
LOCK = "lock"  # beside the socket
LOCK_SECONDS = 10.0  # for the end of an earlier proxy, which sends its last events
START_SECONDS = 120.0
PAUSE_SECONDS = 1.0  # before another start
POLL_SECONDS = 0.05


def lock_proxy(environment: Mapping[str, str]) -> int:
    """Make the socket's directory and lock it; returns the lock's descriptor, for :func:`start_proxy`.

    Raises :class:`CommandFailed` if the proxy of another worker has the lock.
    """
    directory = Path(environment[f"{PREFIX}ENGINE_PROXY_SOCKET"]).parent
    directory.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                os.close(lock)
                message = f"Another worker uses {directory}: end it first, or set another MAYFLY_STATE_DIR."
                raise CommandFailed(message, MISTAKE) from error
            time.sleep(POLL_SECONDS)
        else:
            return lock


def start_proxy(environment: Mapping[str, str], account: pwd.struct_passwd | None, lock: int) -> None:
    """Start the proxy, and wait until it listens. ``account`` is the worker's user, whose group may use the socket.

    Raises :class:`CommandFailed` if it ends before, or does not listen in time.
    """
    path = Path(environment[f"{PREFIX}ENGINE_PROXY_SOCKET"])
    if account is not None:  # the socket inherits the group
        os.chown(path.parent, -1, account.pw_gid)
        path.parent.chmod(0o2750)
    path.unlink(missing_ok=True)
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    with subprocess.Popen(
        [sys.executable, "-m", __name__, str(reader), str(path)],
        env=environment,
        pass_fds=[reader, lock],
        start_new_session=True,
    ) as child:
        os.close(reader)
        os.close(lock)
        handle = os.pidfd_open(child.pid)
        until = time.monotonic() + START_SECONDS
        while not _listens(path):
            ended = bool(select.select([handle], [], [], POLL_SECONDS)[0])
            if ended or time.monotonic() >= until:
                os.close(handle)
                os.close(writer)
                failure = "ended right after its start" if ended else f"does not listen after {START_SECONDS:.0f} s"
                raise CommandFailed(f"The engine proxy {failure}.", MAYFLYS_FAULT)
        os.close(handle)
        child.returncode = 0  # it ends with the worker, which this process becomes


def keep_running(worker: int, path: Path) -> int:
    """Run the proxy until the pipe ``worker`` ends; the exit code. A proxy that cannot listen is not started again."""
    while True:
        with subprocess.Popen([*tied(), sys.executable, "-m", "worker.engine_proxy"]) as proxy:
            handle = os.pidfd_open(proxy.pid)
            ended = worker in select.select([worker, handle], [], [])[0]
            os.close(handle)
            if ended:
                proxy.terminate()
                return 0
        if proxy.returncode and not path.exists():
            return proxy.returncode
        if select.select([worker], [], [], PAUSE_SECONDS)[0]:
            return 0


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


if __name__ == "__main__":
    sys.exit(keep_running(int(sys.argv[1]), Path(sys.argv[2])))
