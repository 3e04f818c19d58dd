"""Opens the connection to each kind of tool server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import httpx2
from mcp.client.streamable_http import streamable_http_client

from orchestrator.broker.declared.secrets import Secret, SecretUnusable
from orchestrator.broker.links.bounded_http import BoundedTransport
from orchestrator.broker.links.bounded_stdio import Command, LastWords, bounded_stdio
from orchestrator.broker.links.bounds import CATALOGUE_BYTES
from orchestrator.broker.links.lean_http import LeanTransport
from orchestrator.broker.links.link import Link, LinkFailed
from orchestrator.broker.links.mcp_link import PROTOCOL_BYTES, McpLink, opened
from orchestrator.models.tool_servers import ToolServer

Filter = Callable[[str], str]
BuiltIn = Callable[[str, ToolServer, Callable[[], Filter | None]], Link]
SPARE_CONNECTIONS = 3  # beside calls: lists, and reports of changes


class Launching(Protocol):
    """Launches the process of a tool server that is a command or an environment."""

    def command(self, tenant: str, server: ToolServer, secret: Secret) -> Command:
        """The process to start; may block. Raises :class:`LinkFailed` if this host cannot run it."""


class Opener:
    """Opens connections. ``secrets`` finds the secret of a declaration; ``filtered`` is true for tenants in whose
    results personal data is replaced; ``built_in`` makes the link of the built-in server, which needs no process.
    """

    def __init__(
        self,
        most_bytes: int,
        secrets: Callable[[str, ToolServer], Secret],
        launching: Launching,
        new_filter: Callable[[str, ToolServer], Filter | None] = lambda tenant, server: None,
        built_in: BuiltIn | None = None,
    ) -> None:
        self._most_bytes, self._secrets, self._launching, self._filter = most_bytes, secrets, launching, new_filter
        self._built_in = built_in

    @asynccontextmanager
    async def open(self, tenant: str, server: ToolServer) -> AsyncIterator[Link]:
        """A connection to a tool server. Raises :class:`LinkFailed`, also when it ends within."""
        if server.hosts is not None:
            if self._built_in is None:
                raise LinkFailed("this broker has no built-in tool server")
            yield self._built_in(tenant, server, lambda: self._filter(tenant, server))
            return
        try:
            secret = self._secrets(tenant, server)
        except SecretUnusable as error:
            raise LinkFailed(str(error)) from error
        way = self._over_http if server.url else self._over_pipe
        async with way(tenant, server, secret) as link:
            yield link

    @asynccontextmanager
    async def _over_http(self, tenant: str, server: ToolServer, secret: Secret) -> AsyncIterator[Link]:
        lean = LeanTransport(server.concurrency + SPARE_CONNECTIONS, server.connect_seconds)
        headers = {**secret.headers, "accept-encoding": "identity"}
        client = httpx2.AsyncClient(transport=BoundedTransport(lean), headers=headers, timeout=None, trust_env=False)
        async with client:
            most = max(self._most_bytes + PROTOCOL_BYTES, CATALOGUE_BYTES)  # a page of a list can be one event
            transport = streamable_http_client(server.url or "", http_client=client, max_sse_event_size=most)
            async with self._opened(transport, tenant, server, lambda link: None) as link:
                yield link

    @asynccontextmanager
    async def _over_pipe(self, tenant: str, server: ToolServer, secret: Secret) -> AsyncIterator[Link]:
        words, links = LastWords(), list[McpLink]()

        def close() -> None:
            for link in links:
                link.close()

        command = await asyncio.to_thread(self._launching.command, tenant, server, secret)
        transport = bounded_stdio(command, self._most_bytes + PROTOCOL_BYTES, words, close)
        try:
            async with self._opened(transport, tenant, server, links.append) as link:
                yield link
        except LinkFailed as failure:
            raise LinkFailed(f"{failure}; its last words: {words}" if str(words) else str(failure)) from failure

    def _opened(self, transport, tenant: str, server: ToolServer, on_link: Callable[[McpLink], None]):  # type: ignore[no-untyped-def]
        return opened(
            transport, server.name, server.connect_seconds, self._most_bytes,
            lambda: self._filter(tenant, server), on_link,
        )  # fmt: skip
