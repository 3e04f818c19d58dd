"""Reports floods at the front door as security events: at most one for each address, or key, and window.

Each API process counts the refusals that it answers; a served request costs nothing here. When a caller
reaches the threshold within a window, one event is written a little later, with all refusals until then. The number of
events in a window is bounded, for any number of callers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import NamedTuple

from orchestrator.service.security_reports import SecurityReports

WINDOW_SECONDS = 60.0
MANY = 50  # refusals of one caller within a window; ordinary use has none, or a few
REPORT_SECONDS = 2.0  # from the refusal that reaches the threshold to the report
MAX_CALLERS = 20  # counted separately; all further callers of a window count together


class FloodSource(NamedTuple):
    """The source of refused requests: an address or network, or the tenant's key if the request had one."""

    address: str | None = None
    key: str | None = None
    tenant: str | None = None


OTHERS = FloodSource()


class Floods:
    """Counts the refusals of one API process. Used only by the event loop's thread."""

    def __init__(self, reports: SecurityReports) -> None:
        self._reports = reports
        self._counts: dict[FloodSource, Counter[str]] = {}
        self._until = 0.0  # the end of the window, by the loop's clock

    def note(self, source: FloodSource, code: str) -> None:
        """Count one refusal, by its error's code, or one cut connection, by the cause."""
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
        """Count one refusal, in a background task of its answer."""
        self.note(source, code)

    def _report(self, source: FloodSource, counts: Counter[str]) -> None:
        write = partial(self._reports.request_flood, dict(counts), **source._asdict())
        asyncio.get_running_loop().run_in_executor(None, write)
