"""The tool server ``http``: fetches URLs for programs that have no network.

Theory of operation. The server runs inside the broker's event loop. A call is a chain of requests, each of which passes
the same steps: the tenant's list of hosts, the cache, one lookup of the host's addresses, the check of all of them, a
connection to a checked address, an answer within bounds. A redirect begins the next request of the chain, which passes
all steps again. One deadline bounds the whole chain.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpcore2

from orchestrator.broker.http import requests
from orchestrator.broker.http.addresses import AddressRules, networks
from orchestrator.broker.http.bodies import rendered
from orchestrator.broker.http.cache import AnswerCache
from orchestrator.broker.http.exchange import Answer, exchange
from orchestrator.broker.http.failures import CallFailed
from orchestrator.broker.http.requests import REDIRECTS, Request
from orchestrator.broker.http.resolving import Destinations, Resolver, SystemResolver
from orchestrator.models import hosts
from orchestrator.models.hosts import HttpPolicy
from orchestrator.settings import Settings


@dataclass(frozen=True)
class HttpBounds:
    """Bounds of the server, the same for all tenants; ``Settings`` describes them under ``tool_http_*``."""

    seconds: float = 20.0
    response_bytes: int = 5 * 2**20
    redirects: int = 5
    cache_bytes: int = 64 * 2**20
    private_hosts: tuple[str, ...] = ()
    forbidden_networks: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> HttpBounds:
        """The bounds of an installation."""
        return cls(
            settings.tool_http_seconds,
            settings.tool_http_response_bytes,
            settings.tool_http_redirects,
            settings.tool_http_cache_bytes,
            tuple(settings.tool_http_private_hosts),
            tuple(settings.tool_http_forbidden_networks),
        )


class HttpTools:
    """The tools ``http.get`` and ``http.post``, for concurrent calls in one event loop."""

    def __init__(
        self,
        bounds: HttpBounds,
        resolver: Resolver | None = None,
        address_rules: AddressRules | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Raises ``ValueError`` for a malformed host or network in ``bounds``."""
        self._bounds = bounds
        self._tls = tls or httpcore2.default_ssl_context()
        self._cache, self._uses_cache = AnswerCache(bounds.cache_bytes), True
        self._destinations = Destinations(
            resolver or SystemResolver(),
            address_rules or AddressRules(forbidden=networks(*bounds.forbidden_networks)),
            hosts.rules(bounds.private_hosts),
        )

    def use_cache(self, wanted: bool) -> None:
        """Cache answers from now on, or forget those that are cached and cache no more."""
        self._uses_cache = wanted
        if not wanted:
            self._cache.clear()

    async def fetch(
        self, tenant: str, policy: HttpPolicy, name: str, arguments: Mapping[str, Any], seconds: float | None = None
    ) -> dict[str, Any]:
        """The result of one call, in the form of the output schema. Raises :class:`CallFailed`, within ``seconds``."""
        most = min(self._bounds.seconds, self._bounds.seconds if seconds is None else seconds)
        try:
            async with asyncio.timeout(most):
                return await self._follow(tenant, policy, requests.request(name, arguments))
        except TimeoutError as error:
            raise CallFailed("tool_timed_out", f"The answer was not complete after {most:.3g} s.") from error

    async def _follow(self, tenant: str, policy: HttpPolicy, request: Request) -> dict[str, Any]:
        for _ in range(self._bounds.redirects + 1):
            answer, cached = await self._answer(tenant, policy, request)
            target = answer.headers.get("location")
            if answer.status not in REDIRECTS or target is None:
                return _result(request, answer, cached)
            request = requests.redirected(request, answer.status, target)
        raise CallFailed("tool_failed", f"There were more than {self._bounds.redirects} redirects.")

    async def _answer(self, tenant: str, policy: HttpPolicy, request: Request) -> tuple[Answer, bool]:
        origin = request.origin
        if not policy.allows(origin):
            raise CallFailed(
                "tool_denied",
                f"The tenant's programs may not reach {origin}; an operator can add it to the server's `hosts`.",
            )
        if self._uses_cache and (cached := self._cache.find(tenant, request)):
            return cached, True
        addresses = await self._destinations.addresses(origin)
        answer = await exchange(request, addresses, self._tls, self._bounds.response_bytes)
        if self._uses_cache:
            self._cache.keep(tenant, request, answer)
        return answer, False


def _result(request: Request, answer: Answer, cached: bool) -> dict[str, Any]:
    text, base64 = rendered(answer.body, answer.headers.get("content-type", ""))
    return {
        "status": answer.status,
        "url": request.shown,
        "headers": dict(answer.headers),
        "text": text,
        "base64": base64,
        "from_cache": cached,
    }
