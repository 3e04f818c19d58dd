"""A server outside of this host, and the answer of a service's container when it asks for it."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.builders.processes.deployment import Deployment, command
from tests.builders.processes.hosts import Host
from tests.harness import Process, eventually

PORT = 8099
PYTHON = (
    "import sys, urllib.request as r\n"
    "try: print(r.urlopen(sys.argv[1], timeout=int(sys.argv[2])).status)\n"
    "except OSError: print('unreachable')"
)


@contextmanager
def outside(directory: Path) -> Iterator[str]:
    """The address of a server in a network namespace, which has a way to this host and to none of its containers."""
    host = Host(f"mf{secrets.token_hex(3)}", directory)
    server = None
    try:
        words = [*host.inside, sys.executable, "-u", "-m", "http.server", str(PORT), "--directory", str(directory)]
        server = Process(words, {}, directory / "outside.log")
        eventually(lambda: b"Serving" in (directory / "outside.log").read_bytes(), "the server outside listens")
        yield f"http://{host.address.removesuffix('.1')}.2:{PORT}/"
    finally:
        if server is not None:
            server.stop()
        host.remove()


def reaches(deployment: Deployment, service: str, url: str, seconds: int, programs: str = "python3") -> bool:
    """Whether a process of that service's container gets an answer; ``programs``: what its image has to ask with."""
    inside = ("docker", "exec", deployment.service(service)[0]["Id"])
    if programs == "python3":
        return command(*inside, "python3", "-c", PYTHON, url, str(seconds)) == "200\n"
    script = f"/usr/bin/busybox wget -q -T {seconds} -O /dev/null {url} && echo 200 || echo unreachable"
    return command(*inside, "/usr/bin/busybox", "sh", "-c", script) == "200\n"
