"""Calls of tools on a real store."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import Catalogue, Hints, Tool, ToolCall
from orchestrator.store import Store
from orchestrator.store.tools.calls import TakenCall, Upstream
from tests.builders.records import KEY, claimed, now
from tests.builders.records import submit as submit_execution

SERVER = Upstream("t", "files")


def tool_call(reply_to: str = "me", seconds: float = 30.0, **fields: Any) -> ToolCall:
    """A direct call of ``files.read`` by tenant ``t``."""
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    wanted = {"tenant": "t", "server": "files", "tool": "read", "arguments": "{}", **fields}
    return ToolCall(id=secrets.token_hex(16), reply_to=reply_to, expires_at=deadline, **wanted)


def submitted(store: Store, **fields: Any) -> str:
    """Submit such a call; returns its id."""
    call = tool_call(**fields)
    store.tools.calls.submit(call, KEY)
    return call.id


def declare(store: Store, *names: str, tenant: str = "t") -> None:
    for name in names:
        store.tools.servers.put(tenant, ToolServer(name=name, url="http://127.0.0.1:1/mcp"), KEY)


def serving(store: Store, broker: str = "b", *names: str) -> None:
    """Declare servers (``files``) and let a broker serve its share of them, for longer than a test lasts."""
    declare(store, *(names or ("files",)))
    store.tools.brokers.heartbeat(broker, lease_seconds=600)


def taken(store: Store, broker: str = "b", upstream: Upstream = SERVER, room: int = 100) -> list[TakenCall]:
    found = store.tools.calls.take(broker, {upstream: room})
    assert found is not None
    return list(found.calls)


def running(store: Store) -> tuple[str, int]:
    """An execution of tenant ``t`` that runs, and its attempt."""
    claim = claimed(store, submit_execution(store))
    store.records.start(claim, now())
    return claim.id, claim.attempt


def catalogue(*names: str, server: str = "files", idempotent: bool = False, **fields: Any) -> Catalogue:
    """A ready catalogue with tools of these names."""
    tools = tuple(
        Tool(server=server, name=name, input_schema={"type": "object"}, hints=Hints(idempotent=idempotent))
        for name in names
    )
    return Catalogue(server=server, **{"state": "ready", "tools": tools, "since": datetime.now(UTC), **fields})
