"""Floods at the front door become security events: at most one for each address, or key, and window of time.

Only refusals are counted, in this process, as they are answered; a request that is served costs nothing here. When a
caller has been refused often enough within a window, one event is written a little later, with what there was until
then. However many callers there are, a window has a bounded number of events.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

import structlog

from orchestrator.errors import StoreUnavailable
from orchestrator.models.security import RefusedRequests, SecurityEvent
from orchestrator.store.security import SecurityLog

WINDOW_SECONDS = 60.0
MANY = 50  # refusals of one caller within a window; ordinary use has none, or a few
REPORT_SECONDS = 2.0  # behind the refusal that made them many
MAX_CALLERS = 20  # counted each by itself; all others of a window together
log = structlog.get_logger()


class FloodSource(NamedTuple):
    """Where refused requests come from: an address or network, or a tenant's key where one was sent."""

    address: str | None = None
    key: str | None = None
    tenant: str | None = None


OTHERS = FloodSource()


class Floods:
    """Counts the refusals of one API process. For the event loop's thread alone."""

    def __init__(self, security: SecurityLog) -> None:
        self._security = security
        self._counts: dict[FloodSource, Counter[str]] = {}
        self._until = 0.0  # by the loop's clock: the window's end

    def note(self, source: FloodSource, code: str) -> None:
        """Count one refusal, by its error's code, or one connection that was cut, by the cause."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._until:
            self._counts, self._until = {}, loop.time() + WINDOW_SECONDS
        if source not in self._counts and len(self._counts) >= MAX_CALLERS:
            source = OTHERS
        counts = self._counts.setdefault(source, Counter())
        counts[code] += 1
        if counts.total() == MANY:
            loop.call_later(REPORT_SECONDS, self._report, source, counts)

    async def note_soon(self, source: FloodSource, code: str) -> None:
        """The same, for a background task."""
        self.note(source, code)

    def _report(self, source: FloodSource, counts: Counter[str]) -> None:
        asyncio.get_running_loop().run_in_executor(None, self._write, source, dict(counts))

    def _write(self, source: FloodSource, counts: dict[str, int]) -> None:
        named = {name: value for name, value in source._asdict().items() if value is not None and name != "tenant"}
        where = " of ".join(f"{name} {value}" for name, value in named.items()) or "many different callers"
        total, codes = sum(counts.values()), ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
        detail = (
            f"{total} requests or connections of {where} were refused or cut off within a minute: {codes}. "
            "Unless it is a client of yours that is broken, block it."
        )
        try:
            evidence = RefusedRequests(counts, address=source.address, key=source.key)
            event = SecurityEvent("request_flood", detail, evidence=evidence, count=total)
            self._security.add(event, tenant=source.tenant, source="api")
        except StoreUnavailable:  # its log line is written
            log.info("flood.not_stored")
