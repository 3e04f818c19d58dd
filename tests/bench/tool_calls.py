"""The cost of a call of a tool on its way to an empty tool server and back: ``python -m tests.bench.tool_calls``.

A part of ``make bench``. One broker, one Redis, and one process that calls, all on this machine; the tool server is raw
HTTP that answers at once. One call at a time gives the time that is added to a tool's own; forty at a time give the
calls a second, and the broker's CPU time for a call, which says how many a second one broker can do where the other
processes have cores of their own. Then programs in sandboxes call the same server, one call after the other; and twenty
calls at once of a tool that takes 50 ms, beside twenty in turn.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from orchestrator.models.tool_servers import DeclaredHints, ToolServer
from orchestrator.models.tools import ToolOutcome
from tests.bench.expected import BY_KEY
from tests.bench.systems.mayfly import Driver
from tests.builders.brokers import Brokers, code
from tests.harness import Process, RedisServer, Stack, eventually, free_port

ALONE, TOGETHER, AT_ONCE = 500, 5000, 40
DISCOVERED = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
LISTED = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("empty", "slow")]}
SLOW_SECONDS, OVERLAPPING = 0.05, 20
LENGTH = re.compile(rb"content-length: (\d+)")
HINTS = {name: DeclaredHints(read_only=True) for name in ("empty", "slow")}
EXECUTIONS, CALLS = 10, 45  # of programs, and of calls of each: fewer than an execution may make
INSIDE = f"""
import json, time
from mayfly import tools
def took(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
tools.test.empty()
print(json.dumps([took(tools.test.empty) for _ in range({CALLS})]))
"""
TWENTY = f"""
import asyncio, json, time
from mayfly import tools
async def main():
    tools.test.empty()
    began = time.perf_counter()
    for _ in range({OVERLAPPING}): tools.test.slow()
    middle = time.perf_counter()
    await asyncio.gather(*(tools.aio.test.slow() for _ in range({OVERLAPPING})))
    print((time.perf_counter() - middle) / (middle - began))
asyncio.run(main())
"""


class Empty(asyncio.Protocol):
    """A tool server that answers at once, one request after the other."""

    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if end and len(body) >= length:
            self._data = body[length:]
            request = json.loads(body[:length])
            slow = request.get("params", {}).get("name") == "slow"
            asyncio.get_running_loop().call_later(SLOW_SECONDS * slow, self._transport.write, _answer(request))


def _answer(request: dict[str, Any]) -> bytes:
    common: dict[str, Any] = {"resultType": "complete", "ttlMs": 0, "cacheScope": "public"}
    known: dict[str, dict[str, Any]] = {"server/discover": DISCOVERED, "tools/list": LISTED}
    result = known.get(request["method"], {"content": [{"type": "text", "text": "ok"}]}) | common
    body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Empty, "127.0.0.1", port)
    await server.serve_forever()


@contextmanager
def empty_server(brokers: Brokers, tenant: str) -> Iterator[Process]:
    """A broker, and the tool server ``test`` of a tenant."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.tool_calls", str(port)]
    upstream = Process(command, {}, brokers.directory / "upstream.log")
    try:
        eventually(lambda: _listens(port), "the tool server runs")
        url = f"http://127.0.0.1:{port}/mcp"
        brokers.declare(ToolServer(name="test", url=url, concurrency=AT_ONCE, hints=HINTS), tenant)
        broker = brokers.start()
        eventually(lambda: brokers.store.tools.catalogues.of(tenant), "the tools are listed")
        yield broker
    finally:
        brokers.stop()
        upstream.stop()


def figures(driver: Driver, directory: Path) -> dict[str, float]:
    """All figures, by their keys in ``expected.py``."""
    outside, inside = directory / "outside", directory / "inside"
    for one in (outside, inside):
        one.mkdir()
    found = measured(outside)
    kept = {"tool_rate": "calls_a_second", "tool_broker_cpu": "broker_cpu_ms_a_call", "tool_direct_p50": "p50_ms"}
    return {key: found[name] for key, name in kept.items()} | from_inside(driver, inside)


def from_inside(driver: Driver, directory: Path) -> dict[str, float]:
    """Calls of programs in sandboxes: their p50 in ms, and what twenty at once take of what twenty in turn do."""
    settings: dict[str, Any] = {"driver": driver.driver, "standard_runtime": driver.runtime}
    stack = Stack(directory, **settings, pool_size=0, pool_sizes={"python": 2}, pool_max=0)
    try:
        stack.start()
        with empty_server(Brokers(directory, stack.redis, log_level="warning"), "default"):
            took = [one for _ in range(EXECUTIONS) for one in json.loads(_run(stack, INSIDE))]
            overlap = statistics.median(float(_run(stack, TWENTY)) for _ in range(3))
        return {"tool_inside_p50": statistics.median(took) * 1000, "tool_overlap": overlap}
    finally:
        stack.stop()


def _run(stack: Stack, code: str) -> str:
    found = stack.run(code=code, tools=["test.*"])
    assert found["state"] == "succeeded", found
    text: str = found["stdout"]
    return text


def measured(directory: Path) -> dict[str, float]:
    """The figures of direct calls."""
    redis = RedisServer(directory)
    redis.start()
    brokers = Brokers(directory, redis, log_level="warning")
    with ExitStack() as stack:
        stack.callback(redis.stop)
        broker = psutil.Process(stack.enter_context(empty_server(brokers, "t")).pid)
        for _ in range(50):
            brokers.call("empty")
        alone = [_one(brokers) for _ in range(ALONE)]
        before, began = broker.cpu_times(), time.perf_counter()
        _many(brokers)
        took, after = time.perf_counter() - began, broker.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        quantiles = statistics.quantiles(alone, n=100)
        return {
            "p50_ms": statistics.median(alone) * 1000,
            "p99_ms": quantiles[98] * 1000,
            "calls_a_second": TOGETHER / took,
            "broker_cpu_ms_a_call": cpu / TOGETHER * 1000,
        }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _one(brokers: Brokers) -> float:
    began = time.perf_counter()
    assert code(brokers.call("empty")) == "ok"
    return time.perf_counter() - began


def _many(brokers: Brokers) -> None:
    places, done = threading.Semaphore(AT_ONCE), threading.Semaphore(0)
    failures: list[ToolOutcome] = []

    def end(outcome: ToolOutcome) -> None:
        if outcome.failure:
            failures.append(outcome)
        places.release()
        done.release()

    for _ in range(TOGETHER):
        places.acquire()
        brokers.submit("empty").add_done_callback(lambda future: end(future.result()))
    for _ in range(TOGETHER):
        done.acquire()
    assert not failures, failures[0]


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(_serve(int(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory() as directory:
        for key, value in figures(Driver("oci", "crun"), Path(directory)).items():
            figure = BY_KEY[key]
            sys.stdout.write(f"{value:10.2f} {figure.unit:<3} {figure.verdict(value):<6} {figure.title}\n")
        sys.stdout.write(f"load of the last minute {os.getloadavg()[0]:.1f}\n")


if __name__ == "__main__":
    main()
