"""Tool servers declared in files: one TOML file each, named like the server, in a directory of the operator's.

Every broker of an installation has the same directory. A file has the fields of a declaration, and ``tenants``, the
tenants that have the server (by default ``["default"]``).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, NamedTuple

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from orchestrator.errors import TooManyToolServers
from orchestrator.logs import printable
from orchestrator.models.tool_servers import TenantName, ToolServer
from orchestrator.store.tools import Tools
from orchestrator.store.tools.calls import Upstream

TENANTS: TypeAdapter[tuple[str, ...]] = TypeAdapter(Annotated[tuple[TenantName, ...], Field(min_length=1)])
MOST_BYTES = 2**20
log = structlog.get_logger()
State = frozenset[tuple[str, int, int]]


class Declared(NamedTuple):
    """The declarations of a directory, and its unusable files, each with the reason."""

    servers: dict[Upstream, ToolServer]
    mistakes: dict[str, str]


def state(directory: Path) -> State:
    """Changes when a file of the directory does."""
    found = []
    for path in directory.glob("*.toml") if directory.is_dir() else ():
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((path.name, status.st_mtime_ns, status.st_size))
    return frozenset(found)


def read(directory: Path) -> Declared:
    """Everything that the directory declares."""
    declared = Declared({}, {})
    for path in sorted(directory.glob("*.toml")) if directory.is_dir() else ():
        try:
            with path.open("rb") as file:
                fields = tomllib.loads(file.read(MOST_BYTES).decode())
            tenants = TENANTS.validate_python(fields.pop("tenants", ["default"]))
            server = ToolServer.model_validate({"name": path.stem, **fields, "origin": "file"})
            if server.name != path.stem:
                raise ValueError(f"the file of server {server.name!r} must have the name {server.name}.toml")
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            declared.mistakes[path.name] = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        except (OSError, ValueError, RecursionError) as error:
            declared.mistakes[path.name] = str(error)
        else:
            declared.servers.update({Upstream(tenant, server.name): server for tenant in tenants})
    return declared


def publish(declared: Declared, tools: Tools, key: bytes) -> None:
    """Write the declarations to Redis, for brokers and the API, and remove those whose file was deleted.

    Declarations beyond a tenant's bound are reported as mistakes; all other servers work.
    """
    for upstream in tools.servers.upstreams() - declared.servers.keys():
        found = tools.servers.get(upstream.tenant, upstream.server, key)
        if found is None or found.origin == "file":
            tools.servers.remove(*upstream)
            log.info("tools.declaration_removed", tenant=upstream.tenant, server=upstream.server)
    mistakes = dict(declared.mistakes)
    for upstream, server in declared.servers.items():
        try:
            tools.servers.put(upstream.tenant, server, key)
        except TooManyToolServers as error:
            mistakes[f"{upstream.server}.toml"] = f"tenant {upstream.tenant}: {error.message}"
    for name, mistake in mistakes.items():
        log.error("tools.declaration_unusable", file=printable(name, 100), detail=printable(mistake, 500))
