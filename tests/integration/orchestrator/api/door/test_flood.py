"""Floods of connections against the bounds as delivered: memory stays bounded, and a neighbour's requests as fast."""

from __future__ import annotations

import re
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.api.door.connections import MAX_HEADER_BYTES
from orchestrator.settings import Settings
from tests.builders.processes.sockets import MIB, connections, exchange, head, resident_bytes
from tests.harness import Stack

HALF = b"GET /livez HTTP/1.1\r\nX-A: b\r\n"
FULL = b"GET /livez HTTP/1.1\r\nX-A: " + b"b" * (MAX_HEADER_BYTES - 100)
WHOLE = b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"
ATTACKER, NEIGHBOUR = "127.0.0.2", "127.0.0.3"
FROM_ONE = Settings.model_fields["address_connections"].default
COUNTS = [pytest.param(FROM_ONE + 88, id="600"), pytest.param(3000, id="3000", marks=pytest.mark.complete)]


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Enough of them for this process to be the attacker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(10_000, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def p95(port: int, count: int = 100) -> float:
    """The 95th percentile of a hundred requests of a neighbour, in seconds; each over a connection of its own."""
    taken = []
    for _ in range(count):
        began = time.monotonic()
        assert exchange(port, WHOLE, NEIGHBOUR).status == 200
        taken.append(time.monotonic() - began)
    return statistics.quantiles(taken, n=20)[-1]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("sent", [HALF, FULL], ids=["two lines", "64 KiB"])
def test_half_sent_requests_leave_memory_and_neighbours_alone(api: Stack, count: int, sent: bytes) -> None:
    assert api.api is not None
    quiet = min(p95(api.port), p95(api.port))
    before = resident_bytes(api.api.pid)
    with connections(api.port, count, sent, ATTACKER):
        grown = resident_bytes(api.api.pid) - before
        loud = min(p95(api.port) for _ in range(3))
    quiet = max(quiet, p95(api.port))  # what else the machine does changes meanwhile
    assert grown < FROM_ONE * (len(sent) + 64 * 1024) + 16 * MIB
    assert loud < 5 * quiet + 0.02, (quiet, loud)


def test_half_sent_requests_from_many_addresses_keep_no_neighbour_out(api: Stack) -> None:
    """All permitted connections are open, and one more address opens new connections all the time."""
    quiet, most = min(p95(api.port), p95(api.port)), Settings.model_fields["connections"].default
    with ExitStack() as stack:
        for number in range(10, 10 + most // FROM_ONE):
            stack.enter_context(connections(api.port, FROM_ONE, HALF, f"127.0.0.{number}"))
        loud = p95(api.port)
        stack.enter_context(connections(api.port, FROM_ONE // 2, HALF, "127.0.0.9"))
        loud = min(loud, p95(api.port))
        text = exchange(api.port, head("GET", "/metrics", api.key, 0, Connection="close"), NEIGHBOUR).body.decode()
    gave_way = re.search(r'cut_total\{cause="gave_way"\} (\S+)', text)
    assert gave_way is not None  # the control: there was no place left
    assert float(gave_way[1]) > FROM_ONE // 2
    quiet = max(quiet, p95(api.port))
    assert loud < 5 * quiet + 0.02, (quiet, loud)
    print(f"p95 of a neighbour: alone {quiet * 1000:.1f} ms, beside {most} half-sent requests {loud * 1000:.1f} ms")


@pytest.mark.complete
@pytest.mark.parametrize(
    "mode",
    [["-H", "-i", "5"], ["-B", "-i", "5", "-s", "8192", "-t", "POST"], ["-X", "-r", "400", "-w", "10", "-y", "20"]],
    ids=["slowloris", "slow body", "slow reader"],
)
def test_slowhttptest_does_not_take_the_service_down(api: Stack, tmp_path: Path, mode: list[str]) -> None:
    """1,000 connections from the machine's own address, as slowhttptest makes them, for 30 s."""
    tool = shutil.which("slowhttptest")
    if tool is None:
        pytest.skip("the Debian package slowhttptest is not installed")
    assert api.api is not None
    quiet, before = p95(api.port), resident_bytes(api.api.pid)
    url = f"http://127.0.0.1:{api.port}/livez"
    command = [tool, "-c", "1000", "-r", "400", "-l", "30", "-p", "3", "-u", url, *mode]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as attack:
        loud = []
        while attack.poll() is None:
            loud.append(p95(api.port))
            assert resident_bytes(api.api.pid) - before < 128 * MIB
    assert attack.returncode == 0
    assert len(loud) > 1
    assert statistics.median(loud) < 10 * quiet + 0.01, (quiet, loud)
