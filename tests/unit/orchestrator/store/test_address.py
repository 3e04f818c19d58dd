"""URLs of Sentinels."""

from __future__ import annotations

import pytest

from orchestrator.store.address import Sentinels, pool_of, sentinels_of


def test_a_url_of_redis_names_no_sentinels() -> None:
    for url in ("redis://host:6379/0", "rediss://:word@host", "unix:///run/redis.sock"):
        assert sentinels_of(url) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+sentinel://host/main", Sentinels((("host", 26379),), "main", {}, {})),
        (
            "redis+sentinel://ann:a%2Fword@one:1,[::1]:2,three/main/7?sentinel_password=other&client_name=x",
            Sentinels(
                (("one", 1), ("::1", 2), ("three", 26379)),
                "main",
                {"password": "other"},
                {"username": "ann", "password": "a/word", "db": 7, "client_name": "x"},
            ),
        ),
        (
            "rediss+sentinel://:word@one,two/main?ssl_ca_certs=/ca.pem",
            Sentinels(
                (("one", 26379), ("two", 26379)),
                "main",
                {"ssl": True, "ssl_ca_certs": "/ca.pem"},
                {"password": "word", "ssl": True, "ssl_ca_certs": "/ca.pem"},
            ),
        ),
    ],
)
def test_a_url_of_sentinels(url: str, expected: Sentinels) -> None:
    assert sentinels_of(url) == expected


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("redis+sentinel://host:26379", "name"),
        ("redis+sentinel://host:26379/", "name"),
        ("redis+sentinel://host/main/first", "number"),
        ("redis+sentinel://one,,three/main", "no host"),
        ("redis+sentinel://one:port/main", "port"),
    ],
)
def test_invalid_redis_url_is_explained(url: str, printed: str) -> None:
    with pytest.raises(ValueError, match=printed):
        pool_of(url, socket_connect_timeout=1)


def test_sentinels_together_are_waited_for_as_long_as_redis() -> None:
    pool = pool_of("rediss+sentinel://one,two/main", socket_timeout=6, socket_connect_timeout=6)
    for one in pool.sentinel_manager.sentinels:  # type: ignore[attr-defined]
        options = one.connection_pool.connection_kwargs
        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (3, 3)
