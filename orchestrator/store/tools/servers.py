"""Declarations of tool servers by tenant, sealed with the installation's key. A secret's value is never in them."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import TooManyToolServers
from orchestrator.models.tool_servers import ToolServer
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import MALFORMED, report_malformed
from orchestrator.store.tools.calls import Upstream
from orchestrator.store.tools.sealing import is_sealed_declaration, seal_declaration

MOST_SERVERS = 100  # of one tenant


class Servers:
    """The declarations of every tenant. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection
        self._put = connection.script(scripts.PUT_SERVER)
        self._accept = connection.script(scripts.ACCEPT_CATALOGUE)

    def put(self, tenant: str, server: ToolServer, key: bytes, audit: str = "") -> None:
        """Write a declaration, and an entry of the audit log. Raises :class:`TooManyToolServers`."""
        text = server.model_dump_json()
        sealed = f"{seal_declaration(tenant, text, key)} {text}"
        if self._put(args=[tenant, server.name, sealed, MOST_SERVERS, audit]) == 2:
            raise TooManyToolServers(bound=MOST_SERVERS)

    def remove(self, tenant: str, name: str, audit: str = "") -> bool:
        """Remove a declaration; ``False`` if there is none."""
        return bool(self._put(args=[tenant, name, "", 0, audit]))

    def accept(self, tenant: str, name: str, digest: str, key: bytes, audit: str = "") -> None:
        """Accept a catalogue by its digest, in place of the declaration's digest."""
        sealed = f"{seal_declaration(tenant, f'{name} {digest}', key)} {digest}"
        self._accept(args=[tenant, name, sealed, audit])

    def get(self, tenant: str, name: str, key: bytes) -> ToolServer | None:
        """One declaration with a valid seal."""
        found = self._redis.hget(keys.tool_servers(tenant), name)
        if found is None:
            return None
        return _opened(tenant, name, found, self._redis.hget(keys.tool_accepted(tenant), name), key)

    def of(self, tenant: str, key: bytes) -> tuple[ToolServer, ...]:
        """The tenant's declarations by name, each with its last accepted catalogue; declarations without a valid seal
        are reported and omitted.
        """
        found = sorted(self._redis.hgetall(keys.tool_servers(tenant)).items())
        accepted = self._redis.hgetall(keys.tool_accepted(tenant)) if found else {}
        opened = (_opened(tenant, name.decode(errors="replace"), text, accepted.get(name), key) for name, text in found)
        return tuple(server for server in opened if server)

    def destructive(self, tenant: str, key: bytes) -> frozenset[str]:
        """The names of the tenant's servers whose declarations let programs call destructive tools."""
        return frozenset(server.name for server in self.of(tenant, key) if server.destructive)

    def upstreams(self) -> frozenset[Upstream]:
        """Every declared server of every tenant."""
        return frozenset(map(Upstream.parse, self._redis.smembers(keys.TOOL_UPSTREAMS)))

    def version(self) -> bytes:
        """The version of all declarations: a counter of their changes."""
        return self._redis.get(keys.TOOL_DECLARATIONS) or b""


def _opened(tenant: str, name: str, sealed: bytes, accepted: bytes | None, key: bytes) -> ToolServer | None:
    try:
        seal, _, text = sealed.decode().partition(" ")
        if not is_sealed_declaration(tenant, text, seal, key):
            raise ValueError("its seal is invalid")
        server = ToolServer.model_validate_json(text)
        if server.name != name:
            raise ValueError("it belongs to another server")
        seal, _, digest = (accepted or b"").decode().partition(" ")
        if digest and is_sealed_declaration(tenant, f"{name} {digest}", seal, key):
            server = server.model_copy(update={"accepted": digest})
    except MALFORMED as error:
        report_malformed("tool server", f"{tenant}/{name[:64]}: {error}")
        return None
    return server
