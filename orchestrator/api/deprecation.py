"""Deprecated parts of the API: the table, and the headers of their answers.

``Deprecation`` (RFC 9745) has the time since which a part is deprecated, ``Sunset`` (RFC 8594) the time after which it
may be gone, ``Link`` the document that names the replacement.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple

LEAST = timedelta(days=180)  # from deprecation to sunset
PREFIX_PARTS = 3  # of a version's paths: '', 'api', 'v1'


class Deprecation(NamedTuple):
    """When a part was deprecated and may be gone, in UTC, and the URL of a document about it."""

    since: datetime
    sunset: datetime
    link: str

    def headers(self) -> dict[str, str]:
        """The headers of every answer of that part, refusals included."""
        return {
            "Deprecation": f"@{int(self.since.timestamp())}",
            "Sunset": format_datetime(self.sunset.astimezone(UTC), usegmt=True),
            "Link": f'<{self.link}>; rel="deprecation"',
        }


# By version (`/api/v1`), route (`GET /api/v1/…`), or field of a route's body (`POST /api/v1/…#field`).
DEPRECATED: dict[str, Deprecation] = {}


def headers_of(method: str, path: str, fields: Iterable[str] = ()) -> dict[str, str]:
    """The headers for a request with these fields to a route; the earliest sunset counts. Empty for current parts."""
    if not DEPRECATED:
        return {}
    route = f"{method} {path}"
    names = ("/".join(path.split("/")[:PREFIX_PARTS]), route, *(f"{route}#{field}" for field in fields))
    found = [DEPRECATED[name] for name in names if name in DEPRECATED]
    return min(found, key=lambda one: one.sunset).headers() if found else {}
