"""What tools work with: the use cases, and of each request its caller."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from orchestrator.identity import Principal
from orchestrator.mcp.budget import Carrier
from orchestrator.mcp.budget.cleaning import Filter
from orchestrator.mcp.budget.personal_data import PersonalDataFilter
from orchestrator.queries.results import Results
from orchestrator.queries.wakeups import Wakeups
from orchestrator.service import Service
from orchestrator.service.operation import Operation
from orchestrator.service.security_reports import SecurityReports
from orchestrator.settings import Settings

T = TypeVar("T")


class Threads(Protocol):
    """Threads for slow work, shared fairly by tenants."""

    async def run(self, tenant: str, call: Callable[[], T]) -> T:
        """Call in a thread, once the tenant has a free one."""


class Streams(Protocol):
    """Bounds how many executions a tenant follows live."""

    def one(self, tenant: str) -> AbstractContextManager[None]:
        """Count one more until the context ends. Raises :class:`orchestrator.errors.TooManyStreams`."""


@dataclass(frozen=True)
class Parts:
    """The use cases, and the API's bounds. ``readings`` are threads for whole outputs, of which few are in memory."""

    service: Service
    results: Results
    operation: Operation
    wakeups: Wakeups
    threads: Threads
    readings: Threads
    followers: Streams
    reports: SecurityReports
    settings: Settings


@dataclass(frozen=True)
class Caller:
    """The caller of one request. ``recheck`` raises :class:`Unauthenticated` once the key is revoked.

    ``carrier`` is the part of a tool's result that the client gives to its model; ``filters`` replaces personal data.
    """

    principal: Principal
    recheck: Callable[[], Any]
    carrier: Carrier = "both"
    filters: bool = False

    def clean(self) -> Filter | None:
        """What keeps personal data from this caller's model, for one answer."""
        return PersonalDataFilter() if self.filters else None

    @property
    def tenant(self) -> str:
        return self.principal.tenant
