"""The use cases of tool servers: the tenant's servers, and operators' declarations."""

from __future__ import annotations

from pydantic import Field, ValidationError

from orchestrator.audit import Writer
from orchestrator.errors import CatalogueChanged, DeclaredInFile, Mistake, NotFound, ValidationFailed
from orchestrator.identity import Principal
from orchestrator.models.frozen import Frozen
from orchestrator.models.tool_servers import CatalogueChange, Declaration, ToolServer
from orchestrator.models.tools import Catalogue, ServerState
from orchestrator.store.tools import Tools

MOST_CHANGES = 200


class ShownServer(Frozen):
    """A tool server. ``state`` is null until a broker has connected the server."""

    declaration: ToolServer
    state: ServerState | None
    detail: str
    tools: int
    digest: str = Field(description="The digest of the server's current catalogue.")


class Acceptance(Frozen):
    """The digest of a changed catalogue whose tools may be called."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")


class ToolServers:
    """The tool servers of every tenant. Thread-safe."""

    def __init__(self, tools: Tools, key: bytes, audit: Writer) -> None:
        self._tools, self._key, self._audit = tools, key, audit

    def all(self, tenant: str) -> list[ShownServer]:
        """The tenant's tool servers, by name."""
        catalogues = {catalogue.server: catalogue for catalogue in self._tools.catalogues.of(tenant)}
        return [_shown(server, catalogues.get(server.name)) for server in self._tools.servers.of(tenant, self._key)]

    def get(self, tenant: str, name: str) -> ShownServer:
        """One tool server. Raises :class:`NotFound`."""
        server = self._tools.servers.get(tenant, name, self._key)
        if server is None:
            raise NotFound(f"There is no tool server {name!r}.")
        return _shown(server, self._catalogue(tenant, name))

    def declare(self, principal: Principal, tenant: str, name: str, declaration: Declaration) -> ShownServer:
        """Write a declaration; brokers connect the server within seconds.

        Raises :class:`ValidationFailed`, :class:`DeclaredInFile` and :class:`TooManyToolServers`.
        """
        self._refuse_file(tenant, name)
        try:
            server = ToolServer(name=name, **declaration.model_dump(exclude_unset=True), origin="api")
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            mistakes = [Mistake(".".join(map(str, one["loc"])) or "body", one["msg"], None) for one in found]
            raise ValidationFailed(mistakes) from error
        self._tools.servers.put(tenant, server, self._key, self._entry(principal, "declare", tenant, name))
        return self.get(tenant, name)

    def remove(self, principal: Principal, tenant: str, name: str) -> None:
        """Remove a declaration. Raises :class:`NotFound` and :class:`DeclaredInFile`."""
        self._refuse_file(tenant, name)
        if not self._tools.servers.remove(tenant, name, self._entry(principal, "remove", tenant, name)):
            raise NotFound(f"There is no tool server {name!r}.")

    def accept(self, principal: Principal, tenant: str, name: str, digest: str) -> ShownServer:
        """Permit calls of a changed catalogue's tools. Raises :class:`NotFound` and :class:`CatalogueChanged`."""
        shown = self.get(tenant, name)
        if shown.digest != digest:
            raise CatalogueChanged()
        self._tools.servers.accept(tenant, name, digest, self._key, self._entry(principal, "accept", tenant, name))
        return shown

    def changes(self, tenant: str, name: str) -> list[CatalogueChange]:
        """The last changes of a server's catalogue, the newest first. Raises :class:`NotFound`."""
        self.get(tenant, name)
        return [change for change in self._tools.catalogues.history(tenant, MOST_CHANGES) if change.server == name]

    def _entry(self, principal: Principal, change: str, tenant: str, name: str) -> str:
        return self._audit.entry(principal, f"tool_server.{change}", f"tool-server/{name}", owner=tenant)

    def _refuse_file(self, tenant: str, name: str) -> None:
        server = self._tools.servers.get(tenant, name, self._key)
        if server is not None and server.origin == "file":
            raise DeclaredInFile()

    def _catalogue(self, tenant: str, name: str) -> Catalogue | None:
        return next((found for found in self._tools.catalogues.of(tenant) if found.server == name), None)


def _shown(server: ToolServer, catalogue: Catalogue | None) -> ShownServer:
    declaration = server.model_copy(update={"env": dict.fromkeys(server.env, "")})  # values may contain secrets
    if catalogue is None:
        return ShownServer(declaration=declaration, state=None, detail="", tools=0, digest="")
    return ShownServer(
        declaration=declaration,
        state=catalogue.state,
        detail=catalogue.detail,
        tools=len(catalogue.tools),
        digest=catalogue.digest,
    )
