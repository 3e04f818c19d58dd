"""HTTP servers for the tool server ``http``: raw answers, what was asked, names without a name server."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from orchestrator.broker.http import HttpBounds, HttpLink, HttpTools
from orchestrator.broker.http.addresses import SPECIAL, AddressRules, networks
from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import ToolFailure, ToolOutcome
from tests.harness import free_port

ALL_PORTS = ("http://*:*", "https://*:*")
# 127.0.0.1 is the only special address: 127.0.0.2 and the like stand for public ones.
LOOPBACK_AS_PUBLIC = AddressRules(
    special={name: networks for name, networks in SPECIAL.items() if name != "loopback"}
    | {"canary": networks("127.0.0.1/32")},
    own=False,
)


@dataclass(frozen=True)
class Asked:
    """One request as a server received it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


Write = Callable[[bytes], Awaitable[None]]
Script = Callable[[Asked, Write], Awaitable[None]]


def answer(body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None, **named: str) -> bytes:
    """A whole answer. Underscores in ``named`` headers stand for hyphens."""
    lines = [f"HTTP/1.1 {status} Reason", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in {**(headers or {}), **named}.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def always(content: bytes) -> Script:
    """A script with one answer to everything."""

    async def script(_: Asked, write: Write) -> None:
        await write(content)

    return script


@dataclass
class Upstream:
    """A server that runs. ``asked`` are its requests, ``reached`` the addresses on which they came, ``names`` what TLS
    clients named; ``cut`` is set when a client left early.
    """

    port: int
    asked: list[Asked] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, host: str, path: str = "/", scheme: str = "http") -> str:
        """A URL of this server."""
        return f"{scheme}://{host}:{self.port}{path}"


@asynccontextmanager
async def upstream(
    script: Script, addresses: Iterable[str] = ("127.0.0.1", "127.0.0.2"), tls: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """A server on addresses of this host, all with one port."""
    made = Upstream(free_port())  # another connection may have the kernel's next port on one of the addresses

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(piece: bytes) -> None:
            writer.write(piece)
            await writer.drain()

        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            made.reached.append(writer.get_extra_info("sockname")[0])
            made.asked.append(asked := Asked(method, target, headers, body))
            await script(asked, write)
        except (ConnectionError, asyncio.IncompleteReadError):
            made.cut.set()
        finally:
            writer.close()

    servers = [await asyncio.start_server(serve, address, made.port, ssl=tls) for address in addresses]
    if tls:
        tls.sni_callback = lambda _, name, __: made.names.append(name)
    try:
        yield made
    finally:
        for server in servers:
            server.close()


class Names:
    """A resolver with fixed answers: for each name its answers in turn, the last again and again."""

    def __init__(self, **names: str | list[str]) -> None:
        self._names = {
            name.replace("_", "."): [value] if isinstance(value, str) else value for name, value in names.items()
        }
        self.lookups: list[str] = []

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        self.lookups.append(host)
        answers = self._names.get(host, [host])
        seen = self.lookups.count(host)
        return tuple(answers[min(seen, len(answers)) - 1].split())


def http_tools(*, names: Names | None = None, tls: ssl.SSLContext | None = None, **bounds: Any) -> HttpTools:
    """The tools with 127.0.0.2 and the like as public addresses."""
    return HttpTools(HttpBounds(**bounds), names or Names(), LOOPBACK_AS_PUBLIC, tls)


async def fetch(
    tools: HttpTools,
    url: str,
    *,
    hosts: Iterable[str] = ALL_PORTS,
    tenant: str = "one",
    most_bytes: int = 2**24,
    **arguments: Any,
) -> ToolOutcome:
    """Call ``get``, or ``post`` where there is a body."""
    name = "post" if "body" in arguments else "get"
    link = HttpLink(tools, most_bytes, tenant, ToolServer(name="http", hosts=tuple(hosts)))
    (tool,) = [tool for tool in await link.list_tools() if tool.name == name]
    return await link.call(tool, {"url": url, **arguments}, 60)


def result(outcome: ToolOutcome) -> dict[str, Any]:
    """The result of a call that succeeded."""
    assert outcome.failure is None, outcome.failure
    assert outcome.result is not None
    found: dict[str, Any] = json.loads(outcome.result)
    return found


def failure(outcome: ToolOutcome) -> ToolFailure:
    """The failure of a call."""
    assert outcome.failure is not None, outcome.result
    return outcome.failure
