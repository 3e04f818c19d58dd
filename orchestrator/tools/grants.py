"""The tools that an execution may call: patterns of the submission against the full name of a tool.

A pattern is ``server.tool``, ``server.*`` or ``*``. Server names have no dot, so the first dot of a full name ends the
server. No pattern grants a tool of the caller (server ``caller``): the submission defines these tools, which is their
grant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.models.tools import CALLER, CallerTool, Catalogue, Tool

ALL = "*"
Grant = str | CallerTool


def allowed(grants: Collection[Grant], tool: Tool | str) -> bool:
    """Whether grants cover a tool, given with its full name ``server.tool`` or as its definition."""
    full_name = tool if isinstance(tool, str) else tool.full_name
    server, _, name = full_name.partition(".")
    if not server or not name:
        return False
    if server == CALLER:
        return any(grant.name == name for grant in grants if isinstance(grant, CallerTool))
    return not {ALL, f"{server}.*", full_name}.isdisjoint(grant for grant in grants if isinstance(grant, str))


def covers(pattern: str, name: str) -> bool:
    """Whether a pattern covers a name, or every name that another pattern covers."""
    return pattern in (ALL, name) or (pattern.endswith(".*") and name.startswith(pattern[:-1]))


def usable(
    catalogues: Iterable[Catalogue], grants: Collection[Grant], destructive: Collection[str] | None = None
) -> tuple[Tool, ...]:
    """The tools that grants cover, sorted by full name; none of a quarantined catalogue.

    ``destructive`` names the servers whose policy lets programs call destructive tools; None ignores policy. Tools of a
    server that is down are included: the server may be back when the program calls.
    """
    found = [
        tool
        for catalogue in catalogues
        if catalogue.state != "quarantined"
        for tool in catalogue.tools
        if allowed(grants, tool)
        and (destructive is None or catalogue.server in destructive or not is_destructive(tool))
    ]
    return tuple(sorted(found, key=lambda tool: tool.full_name))


def is_destructive(tool: Tool) -> bool:
    """Whether a call needs the policy ``destructive`` of its server: the tool may delete or replace data."""
    return tool.hints.destructive and not tool.hints.read_only
