"""Thousands of tasks, streams, answers and sessions of a tenant: bounded, with a stable code; others are served."""

from __future__ import annotations

import json
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from orchestrator.api import ALL_LARGEST_BODIES, LARGEST_BODIES
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.executions.agent_calls import MOST_CALLS
from tests.builders.mcp_calls import ERAS, LEGACY, Agent
from tests.builders.processes.sockets import MIB, answer_of, connections, peak_growth, resident_bytes
from tests.builders.records import loud_execution
from tests.harness import Stack, bearer, eventually

ALL = ("mcp", "executions:read", "executions:write")
CALLS, BODY_BYTES, OUTPUT_BYTES = 40, 60 * 1024, 3 * MIB
# Of one tenant, with the copies of each that reading makes: two places, and eight threads that read records.
OUTPUTS_AT_ONCE = {"read_output": CALLS // 4, "get_execution": CALLS * 3 // 4}
QUEUE, SHARE = 1000, 0.5
TASKS: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
WAITING: dict[str, Any] = {
    "name": "execute_code",
    "arguments": {"code": "1", "wait_seconds": 50},
    "_meta": {"progressToken": 1},
}


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {
        "mcp_calls": CALLS,
        "mcp_body_bytes": BODY_BYTES,
        "queue_limit": QUEUE,
        "tenant_queue_share": SHARE,
        "mcp_hosts": ["127.0.0.1:*", "x"],
    }


@pytest.fixture
def pid(api: Stack) -> int:
    Agent(api).result("tools/list")  # which loads the protocol's library
    assert api.api is not None
    return api.api.pid


@pytest.fixture
def store(api: Stack) -> Iterator[Store]:
    made = open_store(Settings(redis_url=api.redis.url))
    yield made
    made.redis.close()


@pytest.fixture
def attacker(api: Stack) -> dict[str, str]:
    """Headers with a key of a tenant of its own."""
    return api.headers_of(f"attacker-{secrets.token_hex(4)}", *ALL)


def is_served(api: Stack) -> bool:
    """Whether a neighbour's program is accepted, and looked at."""
    neighbour = Agent(api, headers=api.headers_of(f"neighbour-{secrets.token_hex(4)}", *ALL))
    id = neighbour.call("execute_code", code="1", wait_seconds=0)["structuredContent"]["execution_id"]
    neighbour.call("cancel_execution", execution_id=id)
    return bool(neighbour.call("get_execution", execution_id=id)["structuredContent"]["state"] == "cancelled")


def raw(agent: Agent, method: str, params: dict[str, Any]) -> bytes:
    """A request as bytes, of a connection that the server closes."""
    body, headers = agent.message(method, params)
    data = json.dumps(body).encode()
    sent = {"Host": "x", **headers, "Connection": "close", "Content-Type": "application/json"}
    lines = [f"{name}: {value}" for name, value in {**sent, "Content-Length": str(len(data))}.items()]
    return "\r\n".join(["POST /mcp HTTP/1.1", *lines, "", ""]).encode() + data


def spread(calls: Callable[[int], str], count: int) -> Counter[str]:
    """The outcomes of so many calls, some at a time."""
    with ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(calls, range(count)))


def test_open_tasks_of_a_tenant_are_bounded(api: Stack, pid: int, attacker: dict[str, str], store: Store) -> None:
    agent = Agent(api, headers=attacker, capabilities=TASKS)
    ids: list[str] = []

    def task(number: int) -> str:
        found = agent.call("execute_code", code="1")
        if found["resultType"] == "task":
            ids.append(found["taskId"])
            return str(found["status"])
        return str(found["content"][0]["text"]).partition(":")[0]

    few = spread(task, 100)
    before = resident_bytes(pid)
    many = spread(task, 2000)
    assert few + many == {"working": QUEUE * SHARE, "tenant_queue_full": 2100 - QUEUE * SHARE}
    assert resident_bytes(pid) - before < 16 * MIB
    assert agent.result("tasks/get", {"taskId": ids[0]})["status"] == "working"
    assert is_served(api)
    spread(lambda number: str(agent.result("tasks/cancel", {"taskId": ids[number]})["resultType"]), len(ids))
    assert agent.call("execute_code", code="1")["status"] == "working", "there is room again"


@pytest.mark.parametrize("era", ERAS)
def test_unread_streams_of_a_tenant_are_bounded(api: Stack, pid: int, attacker: dict[str, str], era: str) -> None:
    agent = Agent(api, era, headers=attacker)
    before = resident_bytes(pid)
    with connections(api.port, 10 * CALLS, raw(agent, "tools/call", WAITING), "127.0.0.2") as made:
        refused = [one for one in made if begins(one) != b"HTTP/1.1 200"]
        assert len(refused) == 9 * CALLS
        for one in refused:
            answer = answer_of(one)
            assert (answer.status, answer.problem["code"]) == (429, "too_many_calls")
            assert int(answer.headers["retry-after"]) > 0
        assert agent.request("tools/list").json()["code"] == "too_many_calls"
        assert is_served(api)
        assert resident_bytes(pid) - before < CALLS * MIB
    eventually(lambda: agent.request("tools/list").status_code == 200, "closed streams are no longer counted")
    listed = {"state": "queued"}
    eventually(
        lambda: not api.client.get("/api/v1/executions", params=listed, headers=attacker).json()["items"],
        "the programs of closed streams are cancelled",
    )


def begins(connection: socket.socket) -> bytes:
    """The beginning of an answer, which stays unread."""
    return connection.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)


def test_unread_answers_of_a_tenant_take_bounded_memory(api: Stack, pid: int, store: Store) -> None:
    """Answers of somewhat less than what goes to disk."""
    id = loud_execution(store, MIB - 2 * 65536)
    request = raw(Agent(api, headers=bearer(api.key)), "resources/read", {"uri": f"mayfly://executions/{id}/stdout"})
    before = resident_bytes(pid)
    with ExitStack() as stack:
        made = stack.enter_context(connections(api.port, 5 * CALLS, request, "127.0.0.2"))
        found = Counter(begins(one) for one in made)
        assert found[b"HTTP/1.1 200"] >= CALLS and set(found) <= {b"HTTP/1.1 200", b"HTTP/1.1 429"}
        assert is_served(api)
        assert resident_bytes(pid) - before < 3 * CALLS * MIB
    eventually(lambda: Agent(api).request("tools/list").status_code == 200, "closed connections are no longer counted")


@pytest.mark.parametrize("tool", ["read_output", "get_execution"])
def test_calls_that_wait_for_a_place_keep_no_output(api: Stack, pid: int, store: Store, tool: str) -> None:
    """Many calls at once take the memory of those that have places; a call that kept its output would add it."""
    line = b'{"source":"named","data":{"text/plain":"' + b"y" * OUTPUT_BYTES + b'"}}'
    id = loud_execution(store, *((OUTPUT_BYTES, b"") if tool == "read_output" else (65536, line)))
    agent = Agent(api, headers=bearer(api.key))

    def look(number: int) -> None:
        assert not agent.call(tool, execution_id=id).get("isError")

    look(0)  # which loads what composing an answer takes
    with ThreadPoolExecutor(CALLS) as pool:
        grown = peak_growth(pid, lambda: list(pool.map(look, range(CALLS))))
    assert grown < OUTPUTS_AT_ONCE[tool] * OUTPUT_BYTES


def test_bytes_of_requests_in_progress_are_bounded(api: Stack, pid: int, attacker: dict[str, str]) -> None:
    """Of nearly the largest body, whose calls wait for the ends of their programs: of a tenant, and in all."""
    agent = Agent(api, headers=attacker)
    arguments = {**WAITING["arguments"], "code": "#" * (BODY_BYTES - 1024)}

    def largest(headers: dict[str, str]) -> bytes:
        return raw(Agent(api, headers=headers), "tools/call", {**WAITING, "arguments": arguments})

    body = largest(attacker)
    with connections(api.port, 2 * LARGEST_BODIES, body, "127.0.0.2") as made:
        found = Counter(begins(one) for one in made)
        assert found == {b"HTTP/1.1 200": LARGEST_BODIES, b"HTTP/1.1 429": LARGEST_BODIES}
        assert agent.request("tools/list").status_code == 200, "small requests have room"
        params = {"name": "execute_code", "arguments": {"code": "#" * BODY_BYTES}}
        assert agent.request("tools/call", params).json()["code"] == "payload_too_large"
        assert is_served(api)
        served = [LARGEST_BODIES]  # of each tenant, as others leave room
        with ExitStack() as stack:
            while sum(served) < ALL_LARGEST_BODIES:
                headers = api.headers_of(f"crowd-{len(served)}", *ALL)
                left = ALL_LARGEST_BODIES - sum(served)
                asked = min(LARGEST_BODIES, left // 2 + 1)  # one more than may be served
                taken = stack.enter_context(connections(api.port, asked, largest(headers), "127.0.0.3"))
                served.append([begins(one) for one in taken].count(b"HTTP/1.1 200"))
                assert served[-1] > 0
            assert served[:3] == [LARGEST_BODIES] * 3
            last = api.headers_of("crowd-last", *ALL)
            (refused,) = stack.enter_context(connections(api.port, 1, largest(last), "127.0.0.4"))
            answer = answer_of(refused)
            assert (answer.status, answer.problem["code"]) == (503, "uploads_full")
            assert Agent(api, headers=last).request("tools/list").status_code == 200, "small requests have room"


def test_sessions_and_cancellations_keep_nothing(api: Stack, pid: int, attacker: dict[str, str], store: Store) -> None:
    """A session is a name: thousands take neither memory nor keys, and cancellations a bounded hash."""
    agent = Agent(api, LEGACY, headers=attacker)
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    agent.request("initialize", params)
    before, stored = resident_bytes(pid), store.redis.dbsize()
    assert spread(lambda number: agent.request("initialize", params).headers["mcp-session-id"][:0], 3000) == {"": 3000}
    assert resident_bytes(pid) - before < 16 * MIB
    assert store.redis.dbsize() < stored + 30  # the rate limiter's, the key's last use, and what counts by time
    body, headers = agent.message("notifications/cancelled", {})
    tenant = tenant_of(api, attacker)

    def cancel(number: int) -> str:
        message = {"jsonrpc": "2.0", "method": body["method"], "params": {"requestId": number}}
        sent = {**headers, "Mcp-Session-Id": f"{'s' * 200}{number}"}
        return str(api.client.post("/mcp", json=message, headers=sent).status_code)

    assert spread(cancel, 3000) == {"202": 3000}
    assert store.redis.hlen(keys.tenant_calls(tenant)) <= MOST_CALLS
    assert store.redis.memory_usage(keys.tenant_calls(tenant)) < MIB
    assert resident_bytes(pid) - before < 16 * MIB
    assert is_served(api)


def tenant_of(api: Stack, headers: dict[str, str]) -> str:
    """The tenant of a key."""
    found = api.client.post("/api/v1/executions", json={"environment": "python", "code": "1"}, headers=headers).json()
    tenant: str = found["tenant"]
    return tenant
