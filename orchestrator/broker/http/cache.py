"""The cache of answers to GET, for the same tenant and the same request with the same headers.

A private cache as in RFC 9111, without heuristics and without revalidation: the server's headers alone decide how long
an answer is kept. The headers of the request are part of the key, so an answer never serves another credential, and
``Vary`` can be ignored.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from orchestrator.broker.http.exchange import Answer
from orchestrator.broker.http.requests import Request

KEPT_STATUSES = frozenset((200, 203, 204, 300, 301, 302, 307, 308, 404, 410))
ENTRY_BYTES = 1024  # of an entry besides its answer
LARGEST_SHARE = 8  # the largest share of the cache for one answer
LONGEST_SECONDS = 86400.0


@dataclass(frozen=True)
class Key:
    """The request of a cached answer."""

    tenant: str
    url: str
    headers: bytes

    @classmethod
    def of(cls, tenant: str, request: Request) -> Key:
        """The key of a request. Headers may be secrets, so only their digest is kept."""
        digest = hashlib.sha256(repr(sorted(request.headers.items())).encode()).digest()
        return cls(tenant, request.shown, digest)


class AnswerCache:
    """At most ``most_bytes`` of answers, evicted by least recent use. ``clock`` is monotonic, in seconds."""

    def __init__(self, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bound = most_bytes
        self._clock = clock
        self._entries: OrderedDict[Key, tuple[Answer, float]] = OrderedDict()
        self.bytes = 0

    def clear(self) -> None:
        """Forget all answers."""
        self._entries.clear()
        self.bytes = 0

    def find(self, tenant: str, request: Request) -> Answer | None:
        """A fresh answer to a GET."""
        if request.method != "GET" or _directives(request.headers) & {"no-cache", "no-store", "max-age"}:
            return None
        key = Key.of(tenant, request)
        if (entry := self._entries.get(key)) is None:
            return None
        answer, until = entry
        if self._clock() >= until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return answer

    def keep(self, tenant: str, request: Request, answer: Answer) -> None:
        """Cache an answer if its server permits it; after any other method, remove the URL's answers."""
        if request.method != "GET":
            url = request.shown
            for key in [key for key in self._entries if key.tenant == tenant and key.url == url]:
                self._drop(key)
            return
        seconds, size = lifetime(request, answer), answer.size + ENTRY_BYTES
        if seconds <= 0 or size > self._bound // LARGEST_SHARE:
            return
        key = Key.of(tenant, request)
        self._drop(key)
        self._entries[key] = answer, self._clock() + seconds
        self.bytes += size
        while self.bytes > self._bound:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        if entry := self._entries.pop(key, None):
            self.bytes -= entry[0].size + ENTRY_BYTES


def lifetime(request: Request, answer: Answer) -> float:
    """The seconds for which an answer may be reused; 0: never."""
    headers = answer.headers
    control = _values(headers)
    if (
        answer.status not in KEPT_STATUSES
        or control.keys() & {"no-store", "no-cache"}
        or "no-store" in _directives(request.headers)
        or headers.get("vary", "").strip() == "*"
        or "set-cookie" in headers  # two executions would share a session
    ):
        return 0.0
    granted = _seconds(control["max-age"]) if "max-age" in control else _until_expiry(headers)
    return min(granted, LONGEST_SECONDS) - _seconds(headers.get("age", "0"))


def _until_expiry(headers: Mapping[str, str]) -> float:
    try:
        expires = parsedate_to_datetime(headers["expires"])
        return (expires - parsedate_to_datetime(headers["date"])).total_seconds()
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


def _seconds(text: str) -> float:
    text = text.strip('" ')
    return float(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0.0


def _values(headers: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in headers.get("cache-control", "").split(","):
        name, _, value = part.strip().partition("=")
        found.setdefault(name.lower(), value)
    return found


def _directives(headers: Mapping[str, str]) -> set[str]:
    return set(_values(headers))
