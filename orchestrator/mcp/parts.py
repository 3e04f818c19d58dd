"""The parts that tools work with: the use cases, and the caller of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from orchestrator.identity import Principal
from orchestrator.mcp.budget import Carrier
from orchestrator.mcp.budget.personal_data import PersonalDataFilter
from orchestrator.service.composition import UseCases
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


@dataclass(frozen=True, kw_only=True)
class Parts(UseCases):
    """The use cases, and the API's bounds. ``readings`` are threads for whole outputs, of which few are in memory."""

    threads: Threads
    readings: Threads
    followers: Streams
    settings: Settings


class Afterwards:
    """Work of a request that waits until the answer was sent.

    A thread that works beside the event loop takes the interpreter's lock at each of its turns, and the answer would
    wait for that.
    """

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []

    def add(self, call: Callable[[], object]) -> None:
        """Call later, in order, in a thread. What is called handles its errors."""
        self._calls.append(call)

    def begin(self) -> None:
        """Do the work, in a thread that nothing waits for."""
        if self._calls:
            asyncio.get_running_loop().run_in_executor(None, self._work)

    def _work(self) -> None:
        for call in self._calls:
            call()


@dataclass(frozen=True)
class Caller:
    """The caller of one request. ``recheck`` raises :class:`Unauthenticated` once the key is revoked.

    ``carrier`` is the part of a tool's result that the client gives to its model; ``filters`` replaces personal data.
    ``call`` names the call for a later cancellation; ``None`` where the client has no session.
    """

    principal: Principal
    recheck: Callable[[], Any]
    carrier: Carrier = "both"
    filters: bool = False
    call: str | None = None
    afterwards: Afterwards = field(default_factory=Afterwards)

    def clean(self) -> PersonalDataFilter | None:
        """The filter of personal data for this caller's model, for one answer."""
        return PersonalDataFilter() if self.filters else None

    @property
    def tenant(self) -> str:
        return self.principal.tenant
