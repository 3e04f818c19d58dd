"""The hosts that a tenant's programs may reach: patterns, and their matches. Pure.

A pattern is ``[scheme://]host[:port]``. The default scheme is ``https``, the default port is the scheme's, and the port
``*`` is any. The host is a name, ``*.name`` (every name below it, not the name itself), an address, or ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from ipaddress import IPv6Address, ip_address
from typing import Annotated, NamedTuple

import idna
from pydantic import AfterValidator, Field

from orchestrator.models.frozen import Frozen

PORTS = {"https": 443, "http": 80}
MOST_HOSTS = 1000
LONGEST_NAME = 253  # characters, the bound of DNS
PATTERN = re.compile(r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9a-fA-F:.]+\]|[^\s\[\]:/@?#%]+)(?::(?P<port>\d+|\*))?")
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class Origin(NamedTuple):
    """Scheme, host (lower case, ASCII, an IPv6 address without brackets) and port of a URL."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """The origin as it is written in a URL; the scheme's own port is left out."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of the header ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


class HostRule(NamedTuple):
    """One pattern, parsed. ``port`` None: any."""

    scheme: str
    host: str
    port: int | None

    def matches(self, origin: Origin) -> bool:
        """Whether the pattern covers an origin."""
        if origin.scheme != self.scheme or (self.port is not None and origin.port != self.port):
            return False
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return origin.host.endswith(self.host[1:]) and len(origin.host) >= len(self.host)
        return origin.host == self.host


def parse(pattern: str) -> HostRule:
    """The rule of a pattern. Raises ``ValueError`` with the pattern and the fault."""
    found = PATTERN.fullmatch(pattern)
    if found is None:
        raise ValueError(f"{pattern!r} is no host pattern: [http://|https://]host[:port], such as *.example.org:8443")
    scheme, port = found["scheme"] or "https", found["port"]
    if port not in (None, "*") and not 0 < int(port) < 65536:
        raise ValueError(f"{pattern!r}: port {port} is not between 1 and 65535")
    written = found["host"].lower()
    wild, name = ("*.", written[2:]) if written.startswith("*.") else ("", written)
    name = name.removesuffix(".")
    host = name if name == "*" and not wild else wild + ascii_host(name, pattern)
    return HostRule(scheme, host, None if port == "*" else int(port or PORTS[scheme]))


def ascii_host(name: str, pattern: str) -> str:
    """A name in DNS form, or an address without brackets. Raises ``ValueError`` that names ``pattern``."""
    if name.startswith("["):
        return str(IPv6Address(name.strip("[]")))
    try:
        host = name if name.isascii() else idna.encode(name).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"{pattern!r} has no valid host name: {error}") from error
    if len(host) > LONGEST_NAME or not all(LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError(f"{pattern!r} has no valid host name; `*` stands only for whole names below another: *.name")
    return host


def canonical(host: str) -> str:
    """A host in canonical form: a compressed address, or a name without a trailing dot."""
    try:
        return str(ip_address(host))
    except ValueError:
        return host.removesuffix(".")


def rules(patterns: Iterable[str]) -> tuple[HostRule, ...]:
    """The rules of patterns. Raises ``ValueError`` for the first invalid pattern."""
    return tuple(parse(pattern) for pattern in patterns)


def _checked(pattern: str) -> str:
    parse(pattern)
    return pattern


HostPattern = Annotated[str, AfterValidator(_checked)]


class HttpPolicy(Frozen):
    """The hosts from which a tenant's programs may fetch; no host without ``hosts``."""

    hosts: Annotated[tuple[HostPattern, ...], Field(max_length=MOST_HOSTS)] = ()

    @cached_property
    def _rules(self) -> tuple[HostRule, ...]:
        return rules(self.hosts)

    def allows(self, origin: Origin) -> bool:
        """Whether the tenant's list covers an origin."""
        return any(rule.matches(origin) for rule in self._rules)
