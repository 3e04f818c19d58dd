"""From arguments to a request, and from a redirect to the next."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.broker.http import requests
from orchestrator.broker.http.definitions import tools
from orchestrator.broker.http.failures import CallFailed
from orchestrator.broker.http.requests import OWN_HEADERS, Request, redirected
from orchestrator.models.hosts import Origin

HERE = "https://api.example.org/v1/things?page=2"


def post(**changes: Any) -> Request:
    return requests.request("post", {"url": HERE, "body": {"a": "ü"}, **changes})


def sent(request: Request) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in request.sent_headers()}


def refused(tool: str, arguments: dict[str, Any]) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        requests.request(tool, arguments)
    return caught.value


def test_get_is_sent_with_safe_headers() -> None:
    made = requests.request("get", {"url": HERE + "#part", "headers": {"X-Key": "1 ", "Accept": "text/csv"}})
    assert (made.method, made.target, made.body) == ("GET", b"/v1/things?page=2", None)
    assert (made.origin, made.shown) == (Origin("https", "api.example.org", 443), HERE)
    assert sent(made) == {
        "host": "api.example.org",
        "accept": "text/csv",
        "accept-encoding": "gzip, deflate",
        "connection": "close",
        "user-agent": "mayfly",
        "x-key": "1",
    }


def test_post_of_an_object_is_json() -> None:
    made = post()
    assert made.body == '{"a": "ü"}'.encode()
    assert sent(made)["content-type"] == "application/json"
    assert sent(made)["content-length"] == "11"


def test_post_of_a_string_is_the_string() -> None:
    made = post(body="a=1", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (made.body, sent(made)["content-type"]) == (b"a=1", "application/x-www-form-urlencoded")
    assert sent(post(body="a"))["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://EXAMPLE.org", Origin("http", "example.org", 80)),
        ("https://example.org.:8443/", Origin("https", "example.org", 8443)),
        ("https://bücher.example/ü", Origin("https", "xn--bcher-kva.example", 443)),
        ("https://[2001:DB8:0:0::1]/", Origin("https", "2001:db8::1", 443)),
        ("http://example.org\uff0eevil.example/", Origin("http", "example.org.evil.example", 80)),
        ("http://example.org:80/", Origin("http", "example.org", 80)),
    ],
)
def test_origin_has_one_spelling(url: str, origin: Origin) -> None:
    assert requests.request("get", {"url": url}).origin == origin


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "//example.org/", "/path", "file:///etc/passwd", "ftp://example.org/", "gopher://example.org/",
     "unix:///run/x", "http://", "http:///path", "https://user:secret@example.org/", "https://user@example.org/",
     "https://example.org:99999/", "http://example.org:0/", "https://[fe80::1%25eth0]/",
     "https://exa%6dple.org/", "https://exa mple.org/", "https://example.org/\r\nX: y", "https://[::1",
     "https://" + "a" * 9000, 7, None],
)  # fmt: skip
def test_url_that_cannot_be_fetched_is_refused(url: Any) -> None:
    failed = refused("get", {"url": url})
    assert failed.failure.code == "tool_arguments_invalid"
    assert failed.failure.valid_parameters == ("url", "headers")
    assert "secret" not in failed.failure.message


@pytest.mark.parametrize(
    "headers",
    [{name: "1"} for name in sorted(OWN_HEADERS)]
    + [{"Host": "a"}, {"X\r\nY": "1"}, {"X": "1\r\nY: 2"}, {"X": "1\n"}, {"X": "\0"}, {"X": "ł"}, {"": "1"}]
    + [{"X": "1" * 9000}, {f"x{number}": "1" for number in range(33)}, {"X": 1}, ["X"], "X", {"a b": "1"}],
    ids=str,
)
def test_header_that_cannot_be_sent_is_refused(headers: Any) -> None:
    assert refused("get", {"url": HERE, "headers": headers}).failure.code == "tool_arguments_invalid"


@pytest.mark.parametrize("body", [None, 7, True, "\ud800"])
def test_body_that_cannot_be_sent_is_refused(body: Any) -> None:
    assert refused("post", {"url": HERE, "body": body}).failure.code == "tool_arguments_invalid"


def test_unknown_parameter_and_tool_are_refused() -> None:
    assert refused("get", {"url": HERE, "body": "x"}).failure.message == "body is not a parameter of get."
    assert refused("put", {"url": HERE}).failure.code == "tool_unknown"


def test_redirect_within_a_host_keeps_headers() -> None:
    made = requests.request("get", {"url": HERE, "headers": {"Authorization": "secret"}})
    following = redirected(made, 302, "../v2/")
    assert (following.shown, sent(following)["authorization"]) == ("https://api.example.org/v2/", "secret")


@pytest.mark.parametrize(
    "target", ["https://other.example.org/", "https://api.example.org:8443/", "http://api.example.org/", "//a.example/"]
)
def test_redirect_to_another_origin_drops_credentials(target: str) -> None:
    headers = {"Authorization": "s", "Cookie": "s", "X-Api-Key": "s", "Accept": "text/csv", "User-Agent": "me"}
    following = redirected(requests.request("get", {"url": HERE, "headers": headers}), 302, target)
    assert following.headers == {"accept": "text/csv", "user-agent": "me"}


@pytest.mark.parametrize("status", [301, 302, 303])
def test_redirected_post_becomes_a_get(status: int) -> None:
    following = redirected(post(headers={"X-Key": "1"}), status, "/done")
    assert (following.method, following.body, following.headers) == ("GET", None, {"x-key": "1"})


@pytest.mark.parametrize("status", [307, 308])
def test_redirected_post_stays_a_post_within_its_host(status: int) -> None:
    following = redirected(post(), status, "/done")
    assert (following.method, following.body) == ("POST", post().body)
    with pytest.raises(CallFailed, match="not sent to another host"):
        redirected(post(), status, "https://other.example.org/")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "https://user:secret@api.example.org/", "https://[::1"])
def test_redirect_to_a_url_of_another_kind_fails(target: str) -> None:
    with pytest.raises(CallFailed) as caught:
        redirected(requests.request("get", {"url": HERE}), 302, target)
    assert caught.value.failure.code == "tool_failed"
    assert "secret" not in caught.value.failure.message


def test_definitions_name_their_parameters() -> None:
    assert [(tool.full_name, sorted(tool.input_schema["properties"])) for tool in tools("web")] == [
        ("web.get", ["headers", "url"]),
        ("web.post", ["body", "headers", "url"]),
    ]
    assert [(tool.hints.read_only, tool.hints.destructive) for tool in tools("web")] == [(True, False), (False, True)]
