"""Helper processes: Python without this process's environment, packages and files, connected by a socket.

A helper parses untrusted input in place of this process. It ends with its socket, and so with this process.
"""

from __future__ import annotations

import socket
import subprocess
import sys


def start_helper(boot: str, *arguments: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a helper that runs the Python text ``boot`` with arguments; returns the process and our end of the socket.

    The helper has the other end at descriptors 0 and 1.

    Raises ``OSError``.
    """
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", boot, *arguments],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            process_group=0,  # without signals of the terminal, such as Ctrl-C
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours
