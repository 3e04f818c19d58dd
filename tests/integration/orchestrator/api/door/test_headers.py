"""The bounds on a request's headers: size, number and time; requests within them are answered."""

from __future__ import annotations

import http.client
import select
import time
from collections.abc import Callable

import pytest

from orchestrator.api.door.connections import (
    HEADER_SECONDS,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    MAX_URL_BYTES,
)
from orchestrator.api.door.pieces import FREE_PIECES, LEAST_BYTES
from tests.builders.processes.sockets import MIB, answer_of, connect, exchange, resident_bytes
from tests.harness import Stack

LINE = b"GET /livez HTTP/1.1\r\n"
TINY = b"".join(b"X-%d: 1\r\n" % number for number in range(MAX_HEADERS + 1))
UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
POST_UPGRADE = b"POST /livez HTTP/1.1\r\n" + UPGRADE
TOO_MUCH = {
    "more headers than there may be": (LINE + TINY + b"\r\n", 431, "headers_too_large", f"{MAX_HEADERS} headers"),
    "a long value": (LINE + b"X: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n", 431, "headers_too_large", "65536 bytes"),
    "a long name": (LINE + b"a" * MAX_HEADER_BYTES + b": 1\r\n\r\n", 431, "headers_too_large", "65536 bytes"),
    "a value without an end": (LINE + b"X: " + b"a" * MIB, 431, "headers_too_large", "65536 bytes"),
    "several long ones": (LINE + b"".join(b"X%d: %s\r\n" % (n, b"a" * 8000) for n in range(9)) + b"\r\n", 431,
                          "headers_too_large", "65536 bytes"),
    "a long URL": (b"GET /livez?" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long", "16384 bytes"),
    "a URL without an end": (b"GET /" + b"a" * MIB, 414, "uri_too_long", "16384 bytes"),
    "no request": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed_request", "an HTTP/1.1 request"),
    "no method": (b"NOTHING / HTTP/1.1\r\n\r\n", 400, "malformed_request", "an HTTP/1.1 request"),
    "a header that is none": (LINE + b"no colon\r\n\r\n", 400, "malformed_request", "an HTTP/1.1 request"),
    "two hosts": (LINE + b"Host: a\r\nhost: b\r\n\r\n", 400, "malformed_request", "one Host header"),
    "a length with many zeros": (b"POST /livez HTTP/1.1\r\nContent-Length: " + b"0" * 5000 + b"1\r\n\r\nx", 413,
                                 "payload_too_large", f"{32 * MIB} bytes"),
    "an upgrade and a body": (POST_UPGRADE + b"Content-Length: 9\r\n\r\n" + LINE + b"\r\n", 400,
                              "malformed_request", "has no body"),
    "an upgrade and chunks": (POST_UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
                              "malformed_request", "has no body"),
    "an URL that is none": (b"GET http://[ HTTP/1.1\r\n\r\n", 400, "malformed_request", "an HTTP/1.1 request"),
}  # fmt: skip


@pytest.mark.parametrize(("request_bytes", "status", "code", "words"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_oversized_headers_are_refused_with_their_bound(
    api: Stack, request_bytes: bytes, status: int, code: str, words: str
) -> None:
    answer = exchange(api.port, request_bytes)
    assert (answer.status, answer.problem["code"]) == (status, code)
    assert words in answer.problem["detail"]
    bound, _, unit = words.partition(" ")
    assert answer.problem.get("bound") == (int(bound) if unit in ("headers", "bytes") else None)
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"] == answer.problem["request_id"]


ENOUGH = {
    "one host": LINE + b"Host: a\r\n\r\n",
    "as many headers as there may be": LINE + TINY.partition(b"\r\n")[2] + b"\r\n",
    "a value within the bound": LINE + b"X: " + b"a" * (MAX_HEADER_BYTES - 1) + b"\r\n\r\n",
    "an URL within the bound": b"GET /livez?" + b"a" * (MAX_URL_BYTES - 7) + b" HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", ENOUGH.values(), ids=ENOUGH)
@pytest.mark.parametrize("pieces", [1, 50])
def test_headers_within_bounds_are_answered(api: Stack, request_bytes: bytes, pieces: int) -> None:
    size = len(request_bytes) // pieces + 1
    with connect(api.port) as connection:
        for begin in range(0, len(request_bytes), size):
            connection.sendall(request_bytes[begin : begin + size])
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')


def tiny_headers() -> bytes:
    return b"".join(b"X-%d: 1\r\n" % number for number in range(100_000))


@pytest.mark.parametrize(
    "endless",
    [
        lambda: LINE + tiny_headers() * 100,
        lambda: LINE + b"X: " + b"a" * 100 * MIB,
        lambda: b"GET /" + b"a" * 100 * MIB,
    ],
    ids=["tiny headers", "one long value", "a long URL"],
)
def test_a_head_of_100_mib_takes_no_memory(api: Stack, endless: Callable[[], bytes]) -> None:
    assert api.api is not None
    before = resident_bytes(api.api.pid)
    with connect(api.port) as connection:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(endless())
        assert resident_bytes(api.api.pid) - before < 8 * MIB


def test_trailers_are_bounded_and_are_no_headers(api: Stack) -> None:
    head = b"POST /api/v1/executions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n"
    body = b"\r\n2\r\n{}\r\n0\r\n"
    key = f"Authorization: Bearer {api.key}\r\n".encode()
    good = exchange(api.port, head + key + b"Connection: close\r\n" + body + b"X-Sum: 1\r\n\r\n")
    assert (good.status, good.problem["code"]) == (422, "validation_failed")
    smuggled = exchange(api.port, head + b"Connection: close\r\n" + body + key + b"\r\n")
    assert (smuggled.status, smuggled.problem["code"]) == (401, "unauthenticated")
    endless = exchange(api.port, head + key + body + b"X: " + b"a" * MIB)
    assert (endless.status, endless.problem["code"]) == (400, "malformed_request")


def tiny_chunks(size: int) -> bytes:
    return (b"%x\r\n" % size + b"x" * size + b"\r\n") * (2**18 // (size + 6))


@pytest.mark.parametrize("key", [True, False], ids=["with a key", "without a key"])
def test_body_in_tiny_chunks_is_refused(api: Stack, key: bool) -> None:
    """Each chunk costs the event loop as much as one of any size, while all others wait."""
    credential = f"Authorization: Bearer {api.key}\r\n" if key else ""
    head = f"PUT /api/v1/blobs HTTP/1.1\r\nConnection: close\r\n{credential}Transfer-Encoding: chunked\r\n\r\n".encode()
    tiny = exchange(api.port, head + tiny_chunks(1))
    if key or tiny.status == 400:  # without a key, the refusal for want of one may come first
        assert (tiny.status, tiny.problem["code"], tiny.problem["bound"]) == (400, "malformed_request", LEAST_BYTES)
    with connect(api.port) as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        connection.sendall(head + tiny_chunks(1) * 100)
    within = exchange(api.port, head + b"1\r\nx\r\n" * FREE_PIECES + tiny_chunks(LEAST_BYTES) + b"0\r\n\r\n")
    assert within.status == (201 if key else 401)


def test_missing_headers_time_out(api: Stack) -> None:
    """On a new connection, for a second request, and with a byte now and then."""
    assert HEADER_SECONDS == 10
    began = time.monotonic()
    with connect(api.port) as silent, connect(api.port) as half, connect(api.port) as second, connect(api.port) as drip:
        half.sendall(LINE + b"X: ")
        second.sendall(LINE + b"\r\n")
        assert second.recv(65536).startswith(b"HTTP/1.1 200")
        second.sendall(LINE)
        while not select.select([drip], [], [], 1)[0]:
            drip.sendall(b"\r\n" if time.monotonic() - began < 3 else b"G")
        for slow in (half, second, drip):
            answer = answer_of(slow)
            assert answer.status in (400, 408)
            assert answer.problem["code"] in ("request_timeout", "malformed_request")
        assert silent.recv(1) == b""
    assert time.monotonic() - began > HEADER_SECONDS / 2


def test_requests_for_an_upgrade_and_their_followers_are_served(api: Stack) -> None:
    last = LINE + b"Connection: close\r\n\r\n"
    first = exchange(api.port, (LINE + UPGRADE + b"\r\n") * 2 + LINE + UPGRADE + b"Content-Length: 0\r\n\r\n" + last)
    assert first.status == 200
    assert first.body.count(b"HTTP/1.1 200") == 3


def test_body_of_a_request_for_an_upgrade_is_no_request(api: Stack) -> None:
    """A parser that expects another protocol reads no body; behind a proxy it would be another client's request."""
    with connect(api.port) as connection:
        connection.sendall(POST_UPGRADE + b"Content-Length: %d\r\n\r\n" % len(LINE + b"\r\n"))
        assert select.select([connection], [], [], 60)[0], "it is refused before its body comes"
        connection.sendall(LINE + b"\r\n")
        refused = answer_of(connection)
    assert refused.problem["code"] == "malformed_request"


def test_more_pipelined_requests_than_may_wait_end_the_connection(api: Stack) -> None:
    last = LINE + b"Connection: close\r\n\r\n"
    few = exchange(api.port, (LINE + b"\r\n") * MAX_PIPELINED + last)
    assert few.body.count(b'{"status":"ok"}') == MAX_PIPELINED + 1
    with connect(api.port) as connection:
        connection.sendall((LINE + b"\r\n") * 5000)
        found = b""
        while more := connection.recv(65536):
            found += more
    assert found.count(b'{"status":"ok"}') <= MAX_PIPELINED
