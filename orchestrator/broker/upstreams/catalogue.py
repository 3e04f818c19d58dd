"""Catalogues: the permitted tools of a server, and the changes between two lists. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from orchestrator.broker.links.definitions import MOST_TOOLS
from orchestrator.models.tool_servers import CatalogueChange, DeclaredHints, ToolServer
from orchestrator.models.tools import Catalogue, Tool

MOST_CATALOGUE = 2 * 2**20  # bytes
MOST_CHANGE = 64 * 1024  # bytes of names and definitions in one change; the history has many
Item = TypeVar("Item")


def selected(server: ToolServer, tools: Iterable[Tool]) -> tuple[Tool, ...]:
    """The tools that the declaration permits, by name, with the hints of the declaration."""
    chosen: dict[str, Tool] = {}
    left = MOST_CATALOGUE
    for one in tools:
        if (server.tools and one.name not in server.tools) or one.name in chosen:
            continue
        left -= len(one.model_dump_json())
        if left < 0 or len(chosen) >= MOST_TOOLS:
            break
        hints = server.hints.get(one.name, DeclaredHints()).over(one.hints)
        chosen[one.name] = one.model_copy(update={"hints": hints})
    return tuple(chosen[name] for name in sorted(chosen))


def surplus(server: ToolServer, listed: Iterable[Tool], taken: tuple[Tool, ...]) -> int:
    """The number of permitted tools beyond the bounds of a catalogue."""
    wanted = {one.name for one in listed if not server.tools or one.name in server.tools}
    return len(wanted) - len(taken)


def digest(tools: Iterable[Tool]) -> str:
    """SHA-256 of the tools' canonical JSON."""
    text = json.dumps([one.model_dump(mode="json") for one in tools], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def difference(before: Catalogue | None, after: Catalogue) -> CatalogueChange | None:
    """The change between two catalogues of one server; None for equal ones, and for the first.

    Names and definitions beyond ``MOST_CHANGE`` bytes are only counted.
    """
    if before is None or not before.digest or before.digest == after.digest:
        return None
    old, new = ({one.name: one for one in catalogue.tools} for catalogue in (before, after))
    names = [(name, len(name)) for name in (*(n for n in new if n not in old), *(n for n in old if n not in new))]
    pairs = [((old[name], new[name]), _size(old[name]) + _size(new[name])) for name in new if name in old]
    changed = [(pair, size) for pair, size in pairs if pair[0] != pair[1]]
    kept_names = _fitting(names, MOST_CHANGE)
    kept = _fitting(changed, MOST_CHANGE - sum(map(len, kept_names)))
    return CatalogueChange(
        server=after.server,
        at=after.since,
        before=before.digest,
        after=after.digest,
        added=tuple(name for name in kept_names if name in new),
        removed=tuple(name for name in kept_names if name in old),
        changed=tuple(kept),
        left_out=len(names) - len(kept_names) + len(changed) - len(kept),
        quarantined=after.state == "quarantined",
    )


def _size(tool: Tool) -> int:
    return len(tool.model_dump_json())


def _fitting(items: Iterable[tuple[Item, int]], most_bytes: int) -> list[Item]:
    """The items that fit, by their sizes."""
    found = []
    for item, size in items:
        if size <= most_bytes:
            found.append(item)
            most_bytes -= size
    return found


def is_accepted(server: ToolServer, found: str, before: Catalogue | None, history: Iterable[CatalogueChange]) -> bool:
    """Whether tools with the digest ``found`` may be called: always, unless the declaration has ``quarantine``.

    Then only the accepted digest may be called; before the first acceptance, the server's first digest. A server that
    returns to its earlier catalogue is accepted again.
    """
    if not server.quarantine:
        return True
    if server.accepted is not None:
        return found == server.accepted
    if before is None or not before.digest:
        return True
    if before.state != "quarantined":
        return found == before.digest
    accepted = next((change.before for change in _of(server.name, history) if change.quarantined), None)
    return found == accepted


def _of(server: str, history: Iterable[CatalogueChange]) -> Iterable[CatalogueChange]:
    """The changes since the last accepted catalogue, the oldest first."""
    since = []
    for change in history:
        if change.server == server:
            if not change.quarantined:
                break
            since.append(change)
    return reversed(since)


def catalogue(
    server: ToolServer,
    tools: tuple[Tool, ...],
    sha256: str,
    left_out: int,
    accepted: bool,
    now: datetime,
    warning: str = "",
    surplus: int = 0,
) -> Catalogue:
    """A server's catalogue; ``sha256`` is the digest of its tools.

    ``left_out`` is the number of unusable definitions, ``surplus`` the number of tools beyond the bounds.
    """
    details = [warning] if warning else []
    if left_out:
        details.append(
            f"{left_out} definition(s) left out: their names or schemas cannot be used, or they are too large"
        )
    if surplus:
        details.append(
            f"at least {surplus} more tools than the {MOST_TOOLS}, or {MOST_CATALOGUE // 2**20} MiB, of a catalogue; "
            "name those that are needed in the declaration's `tools`"
        )
    if not accepted:
        details.append("the tools changed; accept the catalogue, or declare another, before they can be called")
    return Catalogue(
        server=server.name,
        state="ready" if accepted else "quarantined",
        tools=tools,
        digest=sha256,
        detail="; ".join(details),
        since=now,
    )
