"""Tool servers: operators' declarations, and changes of catalogues. A secret only appears by its name."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from orchestrator.models.frozen import Frozen
from orchestrator.models.hosts import MOST_HOSTS, HostPattern
from orchestrator.models.tools import CALLER, Hints, ServerName, Tool, ToolName

TenantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Origin = Literal["file", "api"]


class DeclaredHints(Frozen):
    """The declaration's hints about one tool, which replace the server's own. None: the server's own hint applies."""

    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None
    open_world: bool | None = None

    def over(self, hints: Hints) -> Hints:
        """The server's hints, with the declaration's hints in place of theirs."""
        return hints.model_copy(update=self.model_dump(exclude_none=True))


class Declaration(Frozen):
    """The declaration of one tool server of one tenant: a URL, an environment of kind ``tool-server``, or
    hosts that the built-in server fetches from.

    ``secret`` names a file of the broker's secrets; only the broker reads it. Times are in seconds.
    """

    url: Annotated[str, StringConstraints(pattern=r"^https?://", max_length=2048)] | None = None
    environment: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="An environment of kind `tool-server`, which a broker starts in a sandbox."
    )
    hosts: Annotated[tuple[HostPattern, ...], Field(max_length=MOST_HOSTS)] | None = Field(
        None, description="Hosts that the built-in server fetches from: `[http://|https://]host[:port]`, `*.host`."
    )
    secret: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] | None = Field(
        None, description="Name of a file of the broker's secrets: headers for a URL, variables for an environment."
    )
    env: dict[str, str] = Field(default_factory=dict, max_length=64)
    network: Literal["none", "host"] = Field("none", description="The network of an environment's sandbox.")
    files: dict[str, str] = Field(
        default_factory=dict,
        max_length=16,
        description="Directories of an environment's sandbox (`/data`, or `/data:rw`), by path on the host.",
    )
    concurrency: int = Field(8, gt=0, le=1000, description="Most calls at the same time.")
    call_seconds: float = Field(30.0, gt=0, le=3600, description="Longest time of a call.")
    connect_seconds: float = Field(10.0, gt=0, le=600, description="Longest time until the server's first answer.")
    destructive: bool = Field(False, description="Whether tools that may destroy data can be called.")
    quarantine: bool = Field(False, description="Whether a changed catalogue must be accepted before it is used.")
    filtered: bool = Field(False, description="Whether labels replace personal data in results.")
    tools: tuple[ToolName, ...] = Field((), max_length=1000, description="The tools that are offered; empty: all.")
    hints: dict[ToolName, DeclaredHints] = Field(default_factory=dict, max_length=1000)
    accepted: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="With quarantine: the digest of the catalogue whose tools can be called."
    )


class ToolServer(Declaration):
    """A declared tool server. Only an operator's file may have ``command``."""

    name: ServerName
    command: tuple[str, ...] = Field((), max_length=64)
    origin: Origin = "api"

    @model_validator(mode="after")
    def _one_way(self) -> ToolServer:
        if sum(map(bool, (self.url, self.command, self.environment, self.hosts is not None))) != 1:
            raise ValueError("a tool server has exactly one of url, command, environment and hosts")
        if self.name == CALLER:
            raise ValueError(f"the name {CALLER!r} is reserved for tools that the client fulfils")
        return self


class CatalogueChange(Frozen):
    """The difference between two catalogues of one server: names of tools, and both definitions of changed tools.

    ``left_out`` is the number of further differing tools, which exceed the size bound.
    """

    server: ServerName
    at: datetime
    before: str
    after: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[tuple[Tool, Tool], ...] = ()
    left_out: int = 0
    quarantined: bool = False
