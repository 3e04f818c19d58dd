"""The answers that the cache keeps, their times, and the requests that get them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orchestrator.broker.http import requests
from orchestrator.broker.http.cache import ENTRY_BYTES, AnswerCache
from orchestrator.broker.http.exchange import Answer
from orchestrator.broker.http.requests import Request

DAY = "Sun, 29 Nov 2026 {}:00:00 GMT"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def get(path: str = "/", **headers: str) -> Request:
    return requests.request("get", {"url": f"https://example.org{path}", "headers": headers})


def granted(status: int = 200, body: bytes = b"x", headers: Mapping[str, str] | None = None) -> Answer:
    named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
    return Answer(status, named or {"cache-control": "max-age=60"}, body)


def is_kept(answer: Answer, seconds: float = 0.0, request: Request | None = None) -> bool:
    clock = Clock()
    cache = AnswerCache(2**20, clock)
    cache.keep("one", request or get(), answer)
    clock.now += seconds
    return cache.find("one", request or get()) is not None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"cache_control": "max-age=60"}, 60),
        ({"cache_control": 'public, Max-Age="60", foo'}, 60),
        ({"cache_control": "private, max-age=60"}, 60),
        ({"cache_control": "max-age=60", "age": "20"}, 40),
        ({"cache_control": "max-age=60", "expires": DAY.format("18"), "date": DAY.format("17")}, 60),
        ({"expires": DAY.format("18"), "date": DAY.format("17")}, 3600),
        ({"cache_control": "max-age=60", "vary": "Accept"}, 60),
        ({"cache_control": "max-age=99999999999"}, 86400),
    ],
)
def test_answer_is_kept_as_long_as_its_server_grants(headers: dict[str, str], seconds: int) -> None:
    answer = granted(headers=headers)
    assert is_kept(answer, seconds - 0.5)
    assert not is_kept(answer, seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {"etag": "x"},
        {"cache_control": "no-store, max-age=60"},
        {"cache_control": "no-cache, max-age=60"},
        {"cache_control": "max-age=0"},
        {"cache_control": "max-age=-1"},
        {"cache_control": "max-age=9e9"},
        {"cache_control": "s-maxage=60"},
        {"cache_control": "max-age=60", "age": "60"},
        {"cache_control": "max-age=60", "vary": "*"},
        {"cache_control": "max-age=60", "set_cookie": "session=1"},
        {"expires": "0", "date": DAY.format("17")},
        {"expires": DAY.format("18")},
        {"expires": DAY.format("17"), "date": DAY.format("18")},
    ],
)
def test_answer_without_a_grant_is_not_kept(headers: dict[str, str]) -> None:
    assert not is_kept(granted(headers=headers))


@pytest.mark.parametrize(("status", "kept"), [(200, True), (301, True), (404, True), (206, False), (500, False)])
def test_answer_is_kept_by_its_status(status: int, kept: bool) -> None:
    assert is_kept(granted(status)) is kept


def test_request_without_store_is_not_kept() -> None:
    assert not is_kept(granted(), request=get(**{"Cache-Control": "no-store"}))


@pytest.mark.parametrize("directive", ["no-cache", "max-age=0"])
def test_request_can_ask_for_a_fresh_answer(directive: str) -> None:
    cache = AnswerCache(2**20, Clock())
    request = get(**{"Cache-Control": directive})
    cache.keep("one", request, granted())
    assert cache.find("one", request) is None


def test_answer_serves_neither_another_tenant_nor_another_credential() -> None:
    cache = AnswerCache(2**20, Clock())
    cache.keep("one", get(Authorization="a"), granted())
    assert cache.find("one", get(Authorization="a")) is not None
    assert cache.find("one", get(authorization="a")) is not None
    assert cache.find("two", get(Authorization="a")) is None
    assert cache.find("one", get(Authorization="b")) is None
    assert cache.find("one", get()) is None
    assert cache.find("one", get("/other", Authorization="a")) is None


def test_post_forgets_the_urls_answers_of_its_tenant() -> None:
    cache = AnswerCache(2**20, Clock())
    for tenant in ("one", "two"):
        cache.keep(tenant, get(), granted())
        cache.keep(tenant, get("/other"), granted())
    post = requests.request("post", {"url": "https://example.org/", "body": ""})
    assert cache.find("one", post) is None
    cache.keep("one", post, granted())
    kept = {(tenant, path) for tenant in ("one", "two") for path in ("/", "/other") if cache.find(tenant, get(path))}
    assert kept == {("one", "/other"), ("two", "/"), ("two", "/other")}


def test_cache_is_bounded_and_drops_the_longest_unused() -> None:
    cache = AnswerCache(16 * (ENTRY_BYTES + 1100), Clock())
    for number in range(16):
        cache.keep("one", get(f"/{number}"), granted(body=bytes(1000)))
        cache.find("one", get("/0"))
    assert cache.bytes <= 16 * (ENTRY_BYTES + 1100)
    for number in range(16, 24):
        cache.keep("one", get(f"/{number}"), granted(body=bytes(1000)))
    kept = [number for number in range(24) if cache.find("one", get(f"/{number}"))]
    assert 0 in kept
    assert kept[1:] == list(range(24 - len(kept) + 1, 24))
    assert cache.bytes <= 16 * (ENTRY_BYTES + 1100)


def test_large_answer_does_not_empty_the_cache() -> None:
    cache = AnswerCache(8 * 10_000, Clock())
    cache.keep("one", get(), granted())
    cache.keep("one", get("/large"), granted(body=bytes(10_000)))
    assert cache.find("one", get()) is not None
    assert cache.find("one", get("/large")) is None


def test_cache_of_no_bytes_keeps_nothing() -> None:
    cache = AnswerCache(0, Clock())
    cache.keep("one", get(), granted())
    assert cache.find("one", get()) is None


def test_expired_answers_free_their_room() -> None:
    clock = Clock()
    cache = AnswerCache(2**20, clock)
    cache.keep("one", get(), granted())
    cache.keep("one", get(), granted())
    assert cache.bytes == granted().size + ENTRY_BYTES
    clock.now += 61
    assert cache.find("one", get()) is None
    assert cache.bytes == 0
