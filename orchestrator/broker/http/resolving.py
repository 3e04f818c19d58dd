"""Names to addresses, once for each connection, and connections to those addresses only.

A host's addresses are looked up once, all of them are checked, and :class:`PinnedBackend` connects to the checked
addresses. There is no second lookup, so a name server cannot change its answer after the check (DNS rebinding). TLS
verifies the host's name, and ``Host`` has the name: neither depends on the address.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import httpcore2

from orchestrator.broker.http.addresses import AddressRules
from orchestrator.broker.http.failures import CallFailed
from orchestrator.models.hosts import HostRule, Origin

LOOKUPS = 16  # at once; libc's resolver blocks a thread
MOST_TRIED = 4  # addresses of one host


class Resolver(Protocol):
    """Looks up names."""

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """All addresses of a name or address. Raises ``OSError`` for a name without an address."""
        ...


class SystemResolver:
    """This host's resolver, with its ``/etc/hosts``."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="resolve")

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, host, port)
        return tuple(dict.fromkeys(found))

    @staticmethod
    def _lookup(host: str, port: int) -> list[str]:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Destinations:
    """Origins to checked addresses. ``private`` are rules of hosts that may have private addresses."""

    def __init__(self, resolver: Resolver, address_rules: AddressRules, private: Iterable[HostRule] = ()) -> None:
        self._resolver = resolver
        self._rules = address_rules
        self._private = tuple(private)

    async def addresses(self, origin: Origin) -> tuple[str, ...]:
        """The addresses of an origin's host. Raises :class:`CallFailed` without an address, or with a refused one."""
        try:
            found = await self._resolver.addresses(origin.host, origin.port)
        except (OSError, UnicodeError) as error:
            raise CallFailed("tool_failed", f"The name {origin.host} could not be resolved.") from error
        if not found:
            raise CallFailed("tool_failed", f"The name {origin.host} has no address.")
        private = any(rule.matches(origin) for rule in self._private)
        check = self._rules.private_refusal if private else self._rules.refusal
        if any(check(address) for address in found):
            # Without the address and its kind: programs must not learn the meaning of names in the operator's network.
            raise CallFailed("tool_denied", f"{origin} may not be reached: its address is not public.")
        return found[:MOST_TRIED]


class PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to the given addresses, for any host."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._addresses = addresses
        self._network = httpcore2.AnyIOBackend()
        self._stream: httpcore2.AsyncNetworkStream | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the protocol of httpcore2
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError("no address")
        for address in self._addresses:
            try:
                self._stream = await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
                return self._stream
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def aclose(self) -> None:
        """Close the connection, also where a deadline passed during TLS's handshake: there httpcore2 leaves it open."""
        if self._stream is not None:
            await self._stream.aclose()
