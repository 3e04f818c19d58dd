"""The catalogues of 20 public MCP servers, as these list them over stdio: 358 tools.

``catalogues.json.xz`` was made on 2026-11-29 by installing the packages, starting each without network and with
credentials that are none, and calling ``tools/list``. For each server it has the package's registry, version, licence
and the hash of its distribution, and the SHA-256 of the list's canonical JSON, which is compared on loading.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.models.tools import Catalogue, Hints, Tool

DATA = Path(__file__).with_name("catalogues.json.xz")
LISTED = datetime(2026, 11, 29, tzinfo=UTC)


class Listed(NamedTuple):
    """One server's answer to ``tools/list``, and where the server comes from."""

    server: str
    registry: str
    package: str
    version: str
    integrity: str
    license: str
    sha256: str
    tools: list[dict[str, Any]]

    def catalogue(self) -> Catalogue:
        """The catalogue as a broker would keep it."""
        tools = tuple(tool(self.server, definition) for definition in self.tools)
        return Catalogue(server=self.server, state="ready", tools=tools, digest=self.sha256, since=LISTED)


@cache
def listed() -> tuple[Listed, ...]:
    """All servers."""
    found = tuple(Listed(**row) for row in json.loads(lzma.decompress(DATA.read_bytes())))
    for server in found:
        if hashlib.sha256(canonical(server.tools).encode()).hexdigest() != server.sha256:
            raise ValueError(f"The catalogue of {server.server} is not the one that was listed.")
    return found


def catalogues() -> tuple[Catalogue, ...]:
    """All catalogues as brokers would keep them."""
    return tuple(server.catalogue() for server in listed())


def tool(server: str, definition: dict[str, Any]) -> Tool:
    """A tool of Mayfly from a definition of MCP."""
    hints = definition.get("annotations", {})
    return Tool(
        server=server,
        name=definition["name"],
        title=definition.get("title", ""),
        description=definition.get("description", ""),
        input_schema=definition["inputSchema"],
        output_schema=definition.get("outputSchema"),
        hints=Hints(
            read_only=hints.get("readOnlyHint", False),
            destructive=hints.get("destructiveHint", True),
            idempotent=hints.get("idempotentHint", False),
            open_world=hints.get("openWorldHint", True),
        ),
    )


def canonical(value: object) -> str:
    """JSON that is equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
