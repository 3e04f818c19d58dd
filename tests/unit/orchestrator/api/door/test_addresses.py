"""Clients are told apart by IPv4 address, and by network of IPv6: a client may use any address of its network."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from orchestrator.api.door.connections import Connection
from orchestrator.api.door.table import Bounds, ConnectionTable

FROM_ONE = 2


class Peer(asyncio.Transport):
    """The side of a client, with what it is answered."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1)})
        self.answer = b""

    def write(self, data: Any) -> None:
        self.answer += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """An application that no request reaches."""


async def is_refused(addresses: list[str]) -> list[bool]:
    """Whether the connections of clients are refused that come from these addresses, one after the other."""
    table = ConnectionTable(Bounds(100, FROM_ONE, stall_seconds=60, answer_rate=1))
    config = uvicorn.Config(serve, interface="asgi3", ws="none", log_config=None)
    found = []
    for address in addresses:
        peer = Peer(address)
        connection = Connection(table, config=config, server_state=ServerState(), app_state={})
        connection.connection_made(peer)
        found.append(peer.answer.startswith(b"HTTP/1.1 429"))
    return found


def test_addresses_of_one_ipv6_network_share_its_connections() -> None:
    one_network = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"]
    other_clients = ["2001:db8:0:1::1", "203.0.113.1", "203.0.113.2"]
    assert asyncio.run(is_refused([*one_network, *other_clients])) == [False, False, True, False, False, False]


def test_ipv4_address_within_ipv6_is_the_ipv4_address() -> None:
    addresses = ["203.0.113.1", "::ffff:203.0.113.1", "203.0.113.1", "::ffff:203.0.113.2"]
    assert asyncio.run(is_refused(addresses)) == [False, False, True, False]


def test_address_of_an_interface_counts_with_its_network() -> None:
    assert asyncio.run(is_refused(["fe80::1%eth0", "fe80::2%eth0", "fe80::3"])) == [False, False, True]
