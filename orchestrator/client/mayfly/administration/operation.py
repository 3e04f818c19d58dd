"""The calls of operators: the audit log, workers, and feature switches."""

from __future__ import annotations

from urllib.parse import quote

from mayfly.exchange import API
from mayfly.files import Transfers
from mayfly.results import Document
from mayfly.steps import Send


class Operation(Transfers):
    """The calls that read the audit log and its seals, drain workers, and switch features off and on."""

    async def audit(
        self,
        *,
        action: str | None = None,
        principal: str | None = None,
        since: str | None = None,
        cursor: str | None = None,
        limit: int = 1000,
    ) -> Document:
        """One page of the audit log as JSON, oldest first; ``next_cursor`` leads on.

        ``since`` is a time such as ``2026-01-31T12:00:00Z``. A page may be empty although more entries follow.
        """
        given = {"action": action, "principal": principal, "since": since, "cursor": cursor, "limit": limit}
        params = {name: value for name, value in given.items() if value is not None}
        return await self._exchange.json(Send("GET", f"{API}/audit", params=params))

    async def audit_seals(self, *, cursor: str | None = None, limit: int = 1000) -> Document:
        """One page of the audit log's seals as JSON, with the base of the chain and the public key."""
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        return await self._exchange.json(Send("GET", f"{API}/audit/seals", params=params))

    async def workers(self) -> list[Document]:
        """Every live worker, as JSON. Needs the scope ``fleet:read``."""
        found: list[Document] = (await self._exchange.json(Send("GET", f"{API}/workers")))["items"]
        return found

    async def drain_worker(self, id: str, *, undo: bool = False) -> Document:
        """Drain a worker, or end its drain. Needs the scope ``fleet:write``.

        A draining worker finishes its executions, takes no more, and removes its warm containers.
        """
        return await self._exchange.json(
            Send("DELETE" if undo else "POST", f"{API}/workers/{quote(id, safe='')}/drain")
        )

    async def switches(self) -> list[Document]:
        """Every feature switch, as JSON. Needs the scope ``fleet:read``."""
        found: list[Document] = (await self._exchange.json(Send("GET", f"{API}/switches")))["items"]
        return found

    async def set_switch(self, feature: str, *, enabled: bool, reason: str | None = None) -> Document:
        """Switch a feature on or off, with a reason that refused callers see. Needs the scope ``fleet:write``."""
        body = {"enabled": enabled, "reason": reason}
        return await self._exchange.json(Send("PUT", f"{API}/switches/{quote(feature, safe='')}", json=body))
