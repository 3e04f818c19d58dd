"""The rate limit of a principal, counted over the connections that the store has anyway."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from orchestrator.errors import RateLimited
from orchestrator.identity import Principal
from orchestrator.identity.rate_limits import RateLimiter
from orchestrator.store import Store

MOST = 3


def principal(id: str) -> Principal:
    return Principal(id=id, tenant="t", scopes=frozenset())


def test_requests_are_counted_over_the_connection_of_their_thread(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    limiter, headers = RateLimiter(store, f"{MOST}/day"), dict[str, str]()
    assert store.redis.get("nothing") is None  # opens the connection
    monkeypatch.setattr(redis.ConnectionPool, "get_connection", lambda self, *given, **named: opened.append(self))
    left = []
    for _ in range(MOST):
        limiter.take(principal("key:a"), headers)
        left.append(headers["RateLimit"].partition(";t=")[0])
    assert left == [f'"default";r={number}' for number in (2, 1, 0)]
    with pytest.raises(RateLimited):
        limiter.take(principal("key:a"), headers)
    limiter.take(principal("key:b"), headers)
    assert not opened
