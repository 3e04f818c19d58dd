"""Connections are counted by client address; half-sent requests make no work for a neighbour."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from orchestrator.api.door import connections
from orchestrator.api.door.connections import Connection
from orchestrator.api.door.table import Bounds, ConnectionTable
from tests.builders.counted import counted_work

FROM_ONE = 2


class Peer(asyncio.Transport):
    """The side of a client, with what it is answered."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1)})
        self.answer, self._is_closing = b"", False

    def write(self, data: Any) -> None:
        self.answer += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._is_closing = True

    def abort(self) -> None:
        self._is_closing = True

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return 0


async def serve(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


def connected(table: ConnectionTable, address: str) -> tuple[Connection, Peer]:
    peer, config = Peer(address), uvicorn.Config(serve, interface="asgi3", ws="none", log_config=None)
    connection = Connection(table, config=config, server_state=ServerState(), app_state={})
    connection.connection_made(peer)
    return connection, peer


async def is_refused(addresses: list[str]) -> list[bool]:
    """Whether the connections of clients are refused that come from these addresses, one after the other."""
    table = ConnectionTable(Bounds(100, FROM_ONE, stall_seconds=60, answer_rate=1))
    return [connected(table, address)[1].answer.startswith(b"HTTP/1.1 429") for address in addresses]


def test_addresses_of_one_ipv6_network_share_its_connections() -> None:
    one_network = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"]
    other_clients = ["2001:db8:0:1::1", "203.0.113.1", "203.0.113.2"]
    assert asyncio.run(is_refused([*one_network, *other_clients])) == [False, False, True, False, False, False]


def test_ipv4_address_within_ipv6_is_the_ipv4_address() -> None:
    addresses = ["203.0.113.1", "::ffff:203.0.113.1", "203.0.113.1", "::ffff:203.0.113.2"]
    assert asyncio.run(is_refused(addresses)) == [False, False, True, False]


def test_address_of_an_interface_counts_with_its_network() -> None:
    assert asyncio.run(is_refused(["fe80::1%eth0", "fe80::2%eth0", "fe80::3"])) == [False, False, True]


async def work_for_a_neighbour(half_sent: int, *, is_full: bool) -> Counter[str]:
    """The work for a neighbour's request, from its connection to its end, beside so many half-sent requests."""
    bound = half_sent if is_full else 2 * half_sent
    table = ConnectionTable(Bounds(bound, bound, stall_seconds=60, answer_rate=1))
    for _ in range(half_sent):
        connected(table, "203.0.113.1")[0].data_received(b"GET / HTTP/1.1\r\nX: y\r\n")
    with counted_work() as work:
        connection, peer = connected(table, "203.0.113.2")
        connection.data_received(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        while not peer.is_closing():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        connection.connection_lost(None)
    assert peer.answer.startswith(b"HTTP/1.1 200")
    return work


@pytest.mark.parametrize("is_full", [False, True])
def test_half_sent_requests_make_no_work_for_a_neighbour(monkeypatch: pytest.MonkeyPatch, is_full: bool) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 3600.0)
    asyncio.run(work_for_a_neighbour(1, is_full=is_full))  # which also makes what the process keeps
    few, many = (asyncio.run(work_for_a_neighbour(count, is_full=is_full)) for count in (10, 600))
    assert (few - many) + (many - few) == Counter()
