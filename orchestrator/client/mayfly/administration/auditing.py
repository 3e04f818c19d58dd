"""The calls of the audit log."""

from __future__ import annotations

from mayfly.exchange import API
from mayfly.files import Transfers
from mayfly.results import Document
from mayfly.steps import Send


class Auditing(Transfers):
    """The calls that read the audit log and its seals."""

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
