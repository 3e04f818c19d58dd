"""The bounds on connections, from one address and in all."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.builders.processes.sockets import answer_of, await_read, connections, exchange, head, is_closed
from tests.harness import Stack, eventually

HALF = b"GET /livez HTTP/1.1\r\nX-A: b\r\n"
WHOLE = b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"
ATTACKER, NEIGHBOUR = "127.0.0.2", "127.0.0.3"
FROM_ONE, IN_ALL = 20, 50


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"address_connections": FROM_ONE, "connections": IN_ALL}


@pytest.fixture(autouse=True)
def no_other_connection(api: Stack) -> None:
    """That of the stack's client would be one of those that may be."""
    api.client.close()


def metric(api: Stack, name: str) -> float:
    text = exchange(api.port, head("GET", "/metrics", api.key, 0, Connection="close")).body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_connections_of_an_address_are_bounded(api: Stack) -> None:
    with connections(api.port, FROM_ONE, HALF, ATTACKER):
        refused = exchange(api.port, WHOLE, ATTACKER)
        assert (refused.status, refused.problem["code"]) == (429, "too_many_connections")
        assert int(refused.headers["retry-after"]) > 0
        assert exchange(api.port, WHOLE, NEIGHBOUR).status == 200
        name = 'mayfly_requests_refused_total{code="too_many_connections"}'
        eventually(lambda: metric(api, name) >= 1, "the refusal is counted")
        assert metric(api, "mayfly_http_connections") > FROM_ONE
    eventually(lambda: exchange(api.port, WHOLE, ATTACKER).status == 200, "closed connections are no longer counted")


def wait_for_execution(api: Stack, id: str) -> bytes:
    """A request that stays in progress as long as that execution is queued, and a minute at most."""
    return head("GET", f"/api/v1/executions/{id}?wait=60", api.key, 0, Connection="close")


@contextmanager
def full_table(api: Stack, request: bytes) -> Iterator[list[socket.socket]]:
    """As many connections as there may be, from three addresses, the first ones ahead."""
    with ExitStack() as stack:
        made: list[socket.socket] = []
        for number, count in enumerate((FROM_ONE, FROM_ONE, IN_ALL - 2 * FROM_ONE), 4):
            made += stack.enter_context(connections(api.port, count, request, f"127.0.0.{number}"))
        await_read(api.port, made)
        yield made


def test_new_connection_evicts_oldest_half_sent_request(api: Stack) -> None:
    with full_table(api, HALF) as attackers:
        for number in range(5):
            assert exchange(api.port, WHOLE, NEIGHBOUR).status == 200
            eventually(lambda: is_closed(attackers[0]), "the first connection was evicted")
            if number == 0:  # each newcomer closed its own connection, so there is a place from now on
                assert not any(is_closed(one) for one in attackers[1:])
        with connections(api.port, 3, HALF, NEIGHBOUR):
            eventually(lambda: is_closed(attackers[2]), "two more connections were evicted")
            assert not any(is_closed(one) for one in attackers[3:])
    name = 'mayfly_http_connections_cut_total{cause="gave_way"}'
    eventually(lambda: metric(api, name) == 3, "each is counted")


def test_an_idle_connection_gives_way_too(api: Stack) -> None:
    kept = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with full_table(api, kept) as attackers:
        for one in attackers:
            assert one.recv(12) == b"HTTP/1.1 200"
        assert exchange(api.port, WHOLE, NEIGHBOUR).status == 200


@pytest.fixture
def queued(api: Stack) -> Iterator[str]:
    """The id of an execution that stays queued."""
    body = b'{"environment": "python", "code": "1"}'
    post = head("POST", "/api/v1/executions", api.key, len(body), Connection="close", Content_Type="application/json")
    id = json.loads(exchange(api.port, post + body).body)["id"]
    yield id
    end(api, id)


def end(api: Stack, id: str) -> None:
    cancel = head("POST", f"/api/v1/executions/{id}/cancel", api.key, 0, Connection="close")
    assert exchange(api.port, cancel).status in (202, 409)


def test_addresses_share_a_table_that_is_full_of_requests_in_progress(api: Stack, queued: str) -> None:
    """Two addresses have 20 of 50 connections, one has 10, and a newcomer ends up with as many as the others."""
    request = wait_for_execution(api, queued)
    with full_table(api, request) as waiting, ExitStack() as stack:
        for _ in range(3):
            assert exchange(api.port, WHOLE, NEIGHBOUR).status == 200
        lost = answer_of(waiting[FROM_ONE - 1])  # the newest of the first address
        assert (lost.status, lost.problem["code"]) == (429, "too_many_connections")
        assert int(lost.headers["retry-after"]) > 0
        others = stack.enter_context(connections(api.port, 13, request, NEIGHBOUR))
        await_read(api.port, others)
        refused = exchange(api.port, WHOLE, NEIGHBOUR)
        assert (refused.status, refused.problem["code"]) == (503, "connections_full")
        end(api, queued)
        statuses = [answer_of(one).status for one in (*waiting[: FROM_ONE - 1], *waiting[FROM_ONE:], *others)]
        # The first of the 13 found a place; the cancellation came from an address of its own.
        assert sorted(statuses) == [200] * (IN_ALL - 1) + [429] * 13
        assert statuses[-len(others) :] == [200] * len(others)
        assert statuses[2 * FROM_ONE - 1 : IN_ALL - 1] == [200] * (IN_ALL - 2 * FROM_ONE)  # had no more than its share


def test_as_many_addresses_as_connections_keep_a_newcomer_out(api: Stack, queued: str) -> None:
    """The control: the table is bounded."""
    request = wait_for_execution(api, queued)
    with ExitStack() as stack:
        waiting = [
            stack.enter_context(connections(api.port, 1, request, f"127.0.1.{number}"))[0] for number in range(IN_ALL)
        ]
        await_read(api.port, waiting)
        refused = exchange(api.port, WHOLE, NEIGHBOUR)
        assert (refused.status, refused.problem["code"]) == (503, "connections_full")
        assert int(refused.headers["retry-after"]) > 0
        waiting[0].close()
        eventually(
            lambda: exchange(api.port, WHOLE, NEIGHBOUR).status == 200, "closed connections are no longer counted"
        )
        end(api, queued)
        assert [answer_of(one).status for one in waiting[1:]] == [200] * (IN_ALL - 1)


def test_unauthenticated_missing_body_is_no_request_in_progress(api: Stack) -> None:
    """Such requests are answered at once, so their places can be given to others."""
    with full_table(api, head("POST", "/api/v1/executions", "wrong", 10_000)):
        assert exchange(api.port, WHOLE, NEIGHBOUR).status == 200
