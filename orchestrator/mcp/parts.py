"""The context of tools: the use cases, and the caller of each request."""

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
        """Call in a thread, when the tenant's share has a free thread."""


class Streams(Protocol):
    """Bounds the number of executions that a tenant follows live."""

    def counted(self, tenant: str) -> AbstractContextManager[None]:
        """Count a live stream until the context ends. Raises :class:`orchestrator.errors.TooManyStreams`."""


@dataclass(frozen=True, kw_only=True)
class Parts(UseCases):
    """The use cases, and the API's bounds.

    ``readings`` are the few threads that read whole outputs into memory, ``images`` those that have images scaled. A
    call that waits for one of them keeps no output in memory: a tenant may have hundreds of calls.
    """

    threads: Threads
    readings: Threads
    images: Threads
    followers: Streams
    settings: Settings


class Afterwards:
    """Work of a request that begins after the answer.

    A thread that works beside the event loop takes the interpreter's lock repeatedly, which would delay the answer.
    """

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []

    def add(self, call: Callable[[], object]) -> None:
        """Call later, in order, in a thread. ``call`` handles its own errors."""
        self._calls.append(call)

    def begin(self) -> None:
        """Do the work in a background thread."""
        if self._calls:
            asyncio.get_running_loop().run_in_executor(None, self._work)

    def _work(self) -> None:
        for call in self._calls:
            call()


@dataclass(frozen=True)
class Caller:
    """The caller of one request. ``recheck`` raises :class:`Unauthenticated` once the key is revoked, and
    :class:`Forbidden` once its roles have changed.

    ``carrier`` is the part of a tool's result that the client gives to its model; ``filters`` replaces personal data.
    ``call`` names the call for a later cancellation; ``None`` without a session.
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
