"""Patterns of hosts, and the origins that they cover."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from orchestrator.models.hosts import MOST_HOSTS, HttpPolicy, Origin


def covered(pattern: str, origin: Origin) -> bool:
    return HttpPolicy(hosts=(pattern,)).allows(origin)


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("example.org", Origin("https", "example.org", 443)),
        ("Example.ORG.", Origin("https", "example.org", 443)),
        ("https://example.org", Origin("https", "example.org", 443)),
        ("http://example.org", Origin("http", "example.org", 80)),
        ("example.org:8443", Origin("https", "example.org", 8443)),
        ("example.org:*", Origin("https", "example.org", 7)),
        ("*.example.org", Origin("https", "a.example.org", 443)),
        ("*.example.org", Origin("https", "a.b.example.org", 443)),
        ("bücher.example", Origin("https", "xn--bcher-kva.example", 443)),
        ("*.bücher.example", Origin("https", "a.xn--bcher-kva.example", 443)),
        ("192.0.2.1", Origin("https", "192.0.2.1", 443)),
        ("[2001:DB8:0::1]:444", Origin("https", "2001:db8::1", 444)),
        ("*", Origin("https", "anything.example", 443)),
    ],
)
def test_pattern_covers_the_origin(pattern: str, origin: Origin) -> None:
    assert covered(pattern, origin)


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("example.org", Origin("http", "example.org", 80)),
        ("example.org", Origin("http", "example.org", 443)),
        ("example.org", Origin("https", "example.org", 8443)),
        ("example.org", Origin("https", "a.example.org", 443)),
        ("example.org", Origin("https", "example.org.evil.example", 443)),
        ("http://example.org", Origin("https", "example.org", 443)),
        ("*.example.org", Origin("https", "example.org", 443)),
        ("*.example.org", Origin("https", ".example.org", 443)),
        ("*.example.org", Origin("https", "evilexample.org", 443)),
        ("*.example.org:*", Origin("http", "a.example.org", 80)),
        ("*", Origin("http", "example.org", 80)),
        ("*", Origin("https", "example.org", 8443)),
    ],
)
def test_pattern_does_not_cover_the_origin(pattern: str, origin: Origin) -> None:
    assert not covered(pattern, origin)


def test_policy_without_hosts_covers_nothing() -> None:
    assert not HttpPolicy().allows(Origin("https", "example.org", 443))


@pytest.mark.parametrize(
    "pattern",
    ["", "ftp://example.org", "example.org/path", "user@example.org", "example.org:0", "example.org:65536", "a b",
     "example.org:http", "*example.org", "a.*.org", "**.org", "*.", "*.*", "[::1", "[zz]", "::1", "-a.org", "a..b",
     "x" * 64 + ".org", ".".join(["a" * 60] * 5), "https://", "exa\nmple.org"],
)  # fmt: skip
def test_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HttpPolicy(hosts=("example.org", pattern))
    assert caught.value.errors()[0]["loc"] == ("hosts", 1)


def test_number_of_patterns_is_bounded() -> None:
    names = tuple(f"h{number}.example" for number in range(MOST_HOSTS + 1))
    assert HttpPolicy(hosts=names[1:]).allows(Origin("https", "h7.example", 443))
    with pytest.raises(ValidationError, match="at most 1000"):
        HttpPolicy(hosts=names)


@pytest.mark.parametrize(
    ("origin", "written"),
    [
        (Origin("https", "example.org", 443), "https://example.org"),
        (Origin("http", "example.org", 443), "http://example.org:443"),
        (Origin("http", "2001:db8::1", 80), "http://[2001:db8::1]"),
        (Origin("https", "2001:db8::1", 8443), "https://[2001:db8::1]:8443"),
    ],
)
def test_origin_is_written_as_in_a_url(origin: Origin, written: str) -> None:
    assert str(origin) == written
