"""Brokers, APIs and tool servers are killed at each step of a call: nothing is lost, and nothing is called twice."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.models.tool_servers import ToolServer
from orchestrator.settings import create_secret_file
from orchestrator.store import keys
from tests.builders.brokers import Brokers, code
from tests.builders.tools.tool_sandboxes import built, declared, shared_images
from tests.chaos.installations.tool_processes import (
    API_STEPS,
    BROKER_STEPS,
    DOOMED,
    IN_SANDBOX,
    SERVER_STEPS,
    Doomed,
    api,
    broker,
    server,
)
from tests.harness import IMAGES, ROOT, RedisServer, bearer, eventually, free_port

SECONDS = 300.0  # no test waits for so long on any but a very slow machine
UNKNOWN = "tool_outcome_unknown"
UNHURRIED = {"connect_seconds": SECONDS, "call_seconds": SECONDS}
PIPED = ROOT / "tests" / "chaos" / "installations" / "piped_server.py"


class Scene:
    """An installation whose brokers, APIs and tool servers are forked."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        oci = shared_images(directory)
        self.brokers = Brokers(
            directory, redis, rate_limit="off", images_dir=IMAGES, oci_dir=oci, installation=f"test-{os.getpid()}"
        )
        self.doomed = Doomed(directory)
        self.env = {**self.brokers.env, "MAYFLY_TOOL_METRICS_PORT": "0", "LEDGER": str(self.brokers.ledger)}
        self.key = create_secret_file(directory / "state" / "api-key", "mfk_")

    def broker(self, step: str = "") -> int:
        return self.doomed.begin(broker, self.env, step)

    def api(self, step: str = "") -> str:
        """Start an API; its URL."""
        port = free_port()
        self.doomed.begin(api, {**self.env, "MAYFLY_API_PORT": str(port)}, step)
        return f"http://127.0.0.1:{port}"

    def server(self, port: int, step: str = "") -> None:
        self.doomed.begin(server, port, self.brokers.ledger, step)

    def listens(self, port: int) -> None:
        """Wait for a tool server over HTTP."""
        eventually(lambda: self.brokers.status(port, "/nothing") != 0, "the tool server answers", SECONDS)

    def piped(self, name: str, step: str, way: str) -> None:
        """Declare a tool server on a pipe, as a command or in a sandbox, which ends itself at a step."""
        env = {"NAME": name, "STEP": step}
        if way == "command":
            env["LEDGER"] = str(self.brokers.ledger)
            command = ("/usr/bin/python3", "-I", str(PIPED))
            server = ToolServer(name=name, command=command, env=env, origin="file", **UNHURRIED)
        else:
            built("time")
            env["LEDGER"] = "/data/ledger"
            shared = self.brokers.ledger.parent
            shutil.copy(PIPED, shared / Path(IN_SANDBOX).name)
            files = {str(shared): "/data:rw"}
            server = declared("time", env=env, files=files, **UNHURRIED).model_copy(update={"name": name})
        self.brokers.declare(server)

    def servers_died(self, steps: list[str], way: str) -> bool:
        if way == "http":
            return self.died(steps)
        lines = self.brokers.ledger.read_text(encoding="utf-8").splitlines()
        return {line for line in lines if line.startswith("died ")} == {f"died s{n}" for n in range(len(steps))}

    def answers(self, url: str) -> None:
        """Wait for an API."""
        port = int(url.rpartition(":")[2])
        eventually(lambda: self.brokers.status(port, "/livez") == 200, "the API answers", SECONDS)

    def serves(self, name: str) -> None:
        """Wait until a tool server's tools can be called."""
        eventually(lambda: code(self.brokers.call("add", name, a=1, b=1)) == "ok", f"{name} serves again", SECONDS)

    def owners(self) -> dict[str, str]:
        """The broker of each upstream."""
        found = self.brokers.store.redis.hgetall(keys.TOOL_OWNERS)
        return {upstream.decode(): broker.decode() for upstream, broker in found.items()}

    def takers(self) -> dict[str, str]:
        """The process that took the call of each tool server last; of one call each."""
        store = self.brokers.store.redis
        found = [store.hmget(key, "server", "broker") for key in store.scan_iter(keys.tool_call("*"), count=1000)]
        return {server.decode(): broker.decode().split("-")[-2] for server, broker in found}

    def lost_a_lease(self) -> bool:
        """Whether a broker's lease ended although it was alive, as on a machine that is slow enough."""
        return any("broker.lease_lost" in path.read_text() for path in self.brokers.directory.glob("broker-*.log"))

    def died(self, steps: list[str]) -> bool:
        return self.doomed.deaths() == Counter(steps)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Scene]:
    redis = RedisServer(tmp_path)
    redis.start()
    made = Scene(tmp_path, redis)
    yield made
    made.doomed.stop()
    made.brokers.stop()
    redis.stop()


def rounds(steps: tuple[str, ...], *at_once: int) -> list[Any]:
    """The steps at which processes are killed in each round: each once, and where all tests run (``complete``) nineteen
    times more, in as few rounds as the machine has room for: a round waits for leases, whatever is killed in it.
    """
    assert sum(at_once) == 19
    many = [pytest.param(list(steps * count), id=f"{n}", marks=pytest.mark.complete) for n, count in enumerate(at_once)]
    return [pytest.param(list(steps), id="each"), *many]


# On a pipe each server is a process that the broker starts, and in a sandbox a container: these take minutes.
WAYS = ["http", *(pytest.param(way, marks=pytest.mark.thorough) for way in ("command", "sandbox"))]
ROUNDS_OF_SERVERS = [
    pytest.param(*one.values, way, id=f"{one.id}-{way}", marks=one.marks)
    for way, each in (
        ("http", rounds(SERVER_STEPS, 19)),
        ("command", rounds(SERVER_STEPS, 7, 6, 6)),
        ("sandbox", rounds(SERVER_STEPS, 7, 6, 6)),
    )
    for one in each
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("steps", rounds(BROKER_STEPS, 7, 6, 6))
def test_broker_killed_at_any_step_loses_no_call_and_repeats_none(here: Scene, steps: list[str]) -> None:
    port = free_port()
    here.server(port)
    here.listens(port)
    names = [f"s{n}" for n in range(2 * len(steps) - 1)]  # with the upstream of unknown servers, two for each broker
    for name in names:
        here.brokers.over_http(name, port, **UNHURRIED)
    step_of = {str(here.broker(step)): step for step in steps}
    eventually(
        lambda: sorted(Counter(here.owners().values()).values()) == [2] * len(steps), "each has its share", SECONDS
    )
    for name in names:
        here.brokers.ready(name)
    calls = {
        name: here.brokers.submit(tool_of(name), name, SECONDS, seconds=0.3, mark=f"{DOOMED}-{name}") for name in names
    }
    eventually(lambda: here.died(steps), "a broker was killed at every step", SECONDS)
    here.broker()
    outcomes = {name: code(call.result(SECONDS)) for name, call in calls.items()}
    takers = here.takers()
    for name, outcome in outcomes.items():
        made, killed_at = here.brokers.called(tool_of(name), f"{DOOMED}-{name}"), step_of.get(takers[name])
        about = f"{name}: {outcome}, made {made} times, its last broker killed at {killed_at}"
        if outcome == "ok":
            assert killed_at in (None, "settled"), about
            assert made == 1 or (made > 1 and tool_of(name) == "wait_again"), about
        else:
            assert (outcome, tool_of(name)) == (UNKNOWN, "wait"), about
            assert killed_at in BROKER_STEPS[BROKER_STEPS.index("taken") :] or here.lost_a_lease(), about
            assert made <= (killed_at not in ("taken", "checked")), about


def tool_of(name: str) -> str:
    """A tool that must not be called twice, and for every other server a tool that may."""
    return "wait_again" if int(name[1:]) % 2 else "wait"


def test_tool_that_may_be_called_twice_is_where_its_broker_dies(here: Scene) -> None:
    """The negative control: where all tools are declared idempotent, the test above would find calls made twice."""
    port = free_port()
    here.server(port)
    here.listens(port)
    here.brokers.over_http("one", port, **UNHURRIED, hints={"wait": {"idempotent": True}})
    here.broker("made")
    here.brokers.ready("one")
    call = here.brokers.submit("wait", "one", SECONDS, seconds=0.3, mark="m")
    eventually(lambda: here.died(["made"]), "the broker was killed", SECONDS)
    here.broker()
    assert (code(call.result(SECONDS)), here.brokers.called("wait", "m")) == ("ok", 2)


def post(here: Scene, url: str, mark: str) -> httpx2.Response:
    """A direct call of a client."""
    body = {"arguments": {"seconds": 0.3, "mark": mark}}
    headers = bearer(here.key)
    return httpx2.post(f"{url}/api/v1/tools/one/wait/calls", json=body, headers=headers, timeout=SECONDS)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("steps", rounds(API_STEPS, 10, 9))
def test_api_killed_at_any_step_of_a_direct_call_repeats_none(here: Scene, steps: list[str]) -> None:
    port = free_port()
    here.server(port)
    here.listens(port)
    url = f"http://127.0.0.1:{port}/mcp"
    here.brokers.declare(ToolServer(name="one", url=url, concurrency=100, **UNHURRIED), "default")
    here.broker()
    urls = [here.api(step) for step in steps]
    survivor = here.api()
    for one in (*urls, survivor):
        here.answers(one)
    eventually(lambda: post(here, survivor, "warm").status_code == 200, "the tool can be called", SECONDS)
    lost: list[int] = []

    def client(number: int) -> None:
        try:
            post(here, urls[number], f"{DOOMED}-{number}")
        except httpx2.TransportError:
            lost.append(number)

    clients = [threading.Thread(target=client, args=[number]) for number in range(len(urls))]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(SECONDS)
    assert sorted(lost) == list(range(len(steps))), "no client got an answer of an API that died"
    assert here.died(steps)
    expected = [int(step != "accepted") for step in steps]

    def called() -> list[int]:
        return [here.brokers.called("wait", f"{DOOMED}-{number}") for number in range(len(steps))]

    eventually(lambda: called() == expected, "every call that was written is made", SECONDS)
    ended = [here.brokers.called("waited", f"{DOOMED}-{number}") for number in range(len(steps))]
    for number in range(len(steps)):
        assert post(here, survivor, f"next-{number}").json() == {"result": "done"}
    assert called() == expected
    assert sum(ended) <= sum(expected)
    store = here.brokers.store.redis
    left = [key for key in store.scan_iter("mayfly:tools:call:*", count=1000) if store.ttl(key) == -1]
    assert left == [], "what no API collects expires"
    # The negative control: a client that sends its request again calls twice, and is found.
    again = [post(here, survivor, f"{DOOMED}-{number}").status_code for number in range(len(steps))]
    assert again == [200] * len(steps)
    assert called() == [count + 1 for count in expected]


EXPECTED = {
    "received": (UNKNOWN, 0),
    "working": (UNKNOWN, 1),
    "worked": (UNKNOWN, 1),
    "answering": (UNKNOWN, 1),
    "replied": ("ok", 1),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("steps", "way"), ROUNDS_OF_SERVERS)
def test_tool_server_killed_at_any_step_gets_no_call_twice(here: Scene, steps: list[str], way: str) -> None:
    found, neighbour = upstream_deaths(here, steps, way)
    assert found == [EXPECTED[step] for step in steps]
    assert neighbour == "2"


@pytest.mark.parametrize("way", WAYS)
def test_broker_that_calls_again_is_found(here: Scene, way: str) -> None:
    """The negative control: with a broker that repeats what it does not know, calls are made twice."""
    found, _ = upstream_deaths(here, list(SERVER_STEPS), way, "repeats")
    counts = dict(zip(SERVER_STEPS, (made for _, made in found), strict=True))
    assert counts == {"received": 1, "working": 2, "worked": 2, "answering": 2, "replied": 1}


def upstream_deaths(here: Scene, steps: list[str], way: str, how: str = "") -> tuple[list[tuple[str, int]], str | None]:
    """Kill a tool server at each step; each call's outcome with how often it was made, and the result of a neighbour
    meanwhile. Every server can be called afterwards: those over HTTP are started again here, all others by the broker.
    """
    here.broker(how)
    names = [f"s{number}" for number in range(len(steps))]
    ports = {name: free_port() for name in names if way == "http"}
    for step, name in zip(steps, names, strict=True):
        if way == "http":
            here.server(ports[name], step)
        else:
            here.piped(name, step, way)
    for name, port in ports.items():
        here.listens(port)
        here.brokers.over_http(name, port, **UNHURRIED)
    here.brokers.over_http("neighbour")
    for name in (*names, "neighbour"):
        here.brokers.ready(name)
    calls = {name: here.brokers.submit("wait", name, SECONDS, seconds=0.3, mark=f"{DOOMED}-{name}") for name in names}
    eventually(lambda: here.servers_died(steps, way), "a tool server was killed at every step", SECONDS)
    neighbour = here.brokers.call("add", "neighbour", a=1, b=1).result
    for port in ports.values():
        here.server(port)
    found = [
        (code(call.result(SECONDS)), here.brokers.called("wait", f"{DOOMED}-{name}")) for name, call in calls.items()
    ]
    for name in names:
        here.serves(name)
    again = [here.brokers.called("wait", f"{DOOMED}-{name}") for name in calls]
    assert again == [made for _, made in found]
    return found, neighbour
