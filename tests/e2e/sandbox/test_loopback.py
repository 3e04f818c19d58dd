"""A requested loopback: a program is its own server, and reaches no other address."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.tier import Tier
from tests.harness import Stack
from tests.selection import ways
from worker.host.cgroups import version

SERVER = """
import http.server, socket, threading, urllib.request
class Six(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
for kind, host in ((http.server.ThreadingHTTPServer, "localhost"), (http.server.ThreadingHTTPServer, "127.0.0.1"),
                   (Six, "::1")):
    server = kind((host, 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = f"[{host}]" if ":" in host else host
    print(urllib.request.urlopen(f"http://{name}:{server.server_port}/").status)
one, other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("127.0.0.1", 0))
other.sendto(b"datagram", one.getsockname())
print(one.recv(100).decode())
"""
LEAVE = """
import socket
for address in ("10.0.0.1", "169.254.169.254", "2001:db8::1"):
    try:
        socket.create_connection((address, 80), 2)
        print("connected")
    except OSError as error:
        print(error.errno in (101, 113), flush=True)
"""
CLOSED = """
import socket
for arguments in ((2, 3, 1), (2, 2, 1), (2, 1, 262), (2, 1, 132), (10, 2, 58), (16, 3, 9), (0, 1, 0)):
    try:
        socket.socket(*arguments)
        print(arguments)
    except PermissionError:
        pass
with socket.socket() as made:
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for level, option, value in ((6, 31, b"tls"), (6, 13, b"cubic"), (0, 35, b"x" * 8), (0, 64, b"x" * 84)):
        try:
            made.setsockopt(level, option, value)
            print(level, option)
        except PermissionError:
            pass
    def setting(name): return open(f"/proc/sys/net/ipv4/tcp_{name}").read().split()
    print(int(setting("rmem")[2]) <= 212992, setting("max_tw_buckets"), setting("no_metrics_save"))
"""
FILL = """
import socket
kept, queued = [], 0
def fill(one, send):
    global queued
    one.setblocking(False)
    try:
        while True: queued += send(one)
    except BlockingIOError: kept.append(one)
server = socket.create_server(("127.0.0.1", 0))
for _ in range(480):
    client = socket.create_connection(server.getsockname())
    for end in (client, server.accept()[0]): fill(end, lambda one: one.send(bytes(2**16)))
print(queued)
for one in kept: one.close()
kept, queued = [], 0
for _ in range(900):
    reader = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    reader.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as writer:
        for _ in range(30): writer.sendto(bytes(8000), reader.getsockname())
    reader.setblocking(False)
    kept.append(reader)
for one in kept:
    try:
        while True: queued += len(one.recv(9000))
    except BlockingIOError: pass
print(queued)
"""
PENDING = """
import socket
kept = []
while True:
    server = socket.create_server(("127.0.0.1", 0), backlog=4096)
    kept.append(server)
    for _ in range(4000):
        with socket.create_connection(server.getsockname()) as client: client.send(bytes(2**14))
"""
CLOSE = """
import socket
server = socket.create_server(("127.0.0.1", 0))
for _ in range(6000):
    with socket.create_connection(server.getsockname()): server.accept()[0].close()
rows = (line.split() for line in open("/proc/net/sockstat"))
print(next(int(row[row.index("tw") + 1]) for row in rows if row[0] == "TCP:"))
"""
TRY = """
import socket
for family in (socket.AF_INET, socket.AF_INET6):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            socket.socket(family, kind)
            print("made")
        except OSError as error:
            print(error.errno)
"""
LIMITS = {"wall_seconds": 60, "cpu_seconds": 60}


def test_a_program_is_its_own_server(tier: Tier) -> None:
    done = tier.run(code=SERVER, loopback=True, limits=LIMITS)
    assert done["stdout"].split() == ["200", "200", "200", "datagram"], done["stderr"]
    assert (done["loopback"], done["start"], done["security_events"]) == (True, "cold", 0)


def test_node_is_its_own_server(tier: Tier) -> None:
    code = """
    const server = require('http').createServer((request, response) => response.end('served'));
    server.listen(0, 'localhost', async () => {
        console.log(await (await fetch(`http://localhost:${server.address().port}/`)).text());
        server.closeAllConnections(); server.close();
    });
    """
    done = tier.run("node", code=code, loopback=True, limits=LIMITS)
    assert (done["stdout"], done["security_events"]) == ("served\n", 0), done["stderr"]


def test_attempts_to_leave_fail_and_are_events(tier: Tier) -> None:
    done = tier.run(code=LEAVE, loopback=True, limits=LIMITS)
    assert done["stdout"].split() == ["True"] * 3
    (event, *more) = tier.stack.security(done["id"], "network_attempt")
    assert event["kind"] == "network_attempt"
    assert event["attribution"] == ("kernel" if tier.isolation == "standard" else "agent")
    assert max(one["count"] for one in (event, *more)) == 3


def test_other_sockets_and_options_stay_closed(tier: Tier) -> None:
    if tier.isolation == "hardened":
        pytest.skip("gVisor's network stack is its own, and the host's is not behind it")
    done = tier.run(code=CLOSED, loopback=True, limits=LIMITS)
    assert done["stdout"] == "True ['4096'] ['1']\n", done


@pytest.mark.skipif(version(Path("/sys/fs/cgroup")) == "v2", reason="there a container's memory is charged")
def test_data_waiting_in_sockets_is_bounded(tier: Tier) -> None:
    """Without a bound 214 and 90 MB of kernel memory that no cgroup is charged, with one limit for the whole host."""
    if tier.isolation == "hardened":
        pytest.skip("gVisor's network stack is its own, in memory that the sandbox's limit bounds")
    execution = tier.run(code=FILL, loopback=True, limits=LIMITS)
    assert execution["state"] == "succeeded", execution
    by_connections, by_datagrams = map(int, execution["stdout"].split())
    assert 2**20 < by_connections < 128 * 2**20
    assert 2**20 < by_datagrams < 64 * 2**20


def test_unaccepted_connections_are_bounded(tier: Tier) -> None:
    """They need no descriptor, and no cgroup is charged: a program makes 175 MB of them in a third of a CPU second."""
    if tier.isolation == "hardened":
        pytest.skip("gVisor's network stack is its own, in memory that the sandbox's limit bounds")
    execution = tier.run(code=PENDING, loopback=True, limits={"wall_seconds": 60, "cpu_seconds": 60})
    ended = (execution["state"], execution["reason"], execution["fault"], execution["attempt"])
    assert ended == ("failed", "oom_killed", "user", 1), execution
    assert execution["facts"]["killed"] == "sockets"
    [event] = tier.stack.security(execution["id"])
    assert (event["kind"], event["limit"]) == ("oom_killed", 4096)


def test_closed_connections_that_wait_are_bounded(tier: Tier) -> None:
    """No cgroup is charged for them, and the host's own bound is 131,072 and more."""
    if tier.isolation == "hardened":
        pytest.skip("gVisor's network stack is its own, in memory that the sandbox's limit bounds")
    done = tier.run(code=CLOSE, loopback=True, limits={"wall_seconds": 60, "cpu_seconds": 60})
    assert 1000 < int(done["stdout"]) <= 4096, done


@pytest.mark.alone  # floods of denials in another lane push records out of the kernel's log
@pytest.mark.parametrize("tier", ways("docker-runc", "oci-crun"), indirect=True)
def test_internet_sockets_are_denied_without_loopback(tier: Tier) -> None:
    """Not in gVisor, whose network stack is its own, with a loopback and nothing behind it."""
    tier.run(code=SERVER, loopback=True, limits=LIMITS)  # whose container or filter no other one gets
    done = tier.run(code=TRY)
    assert done["stdout"].split() == ["1"] * 4
    assert {event["kind"] for event in tier.stack.security(done["id"], "network_attempt")} == {"network_attempt"}


def test_delivered_environments_allow_loopback(stack: Stack) -> None:
    answer = stack.submit(environment="python", code="print(1)", loopback=1)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    offered = {item["name"]: item["loopback"] for item in stack.client.get("/api/v1/environments").json()["items"]}
    assert {offered[name] for name in ("python", "python-data", "node", "bash")} == {"allowed"}
