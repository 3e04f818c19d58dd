"""A program's calls of tools as bytes: any bytes, in any pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.agent.call_stream import LENGTHS, MAX_HEADER_BYTES, CallStream, Malformed, Request, answer

BOUND = 1000


def call(seq: int = 1, server: str = "s", tool: str = "t", body: bytes = b"{}") -> bytes:
    header = json.dumps({"seq": seq, "server": server, "tool": tool}).encode()
    return LENGTHS.pack(len(header), len(body)) + header + body


def taken(data: bytes, step: int) -> list[Request]:
    """The calls of all bytes, fed in pieces of that size."""
    stream = CallStream(BOUND)
    found: list[Request] = []
    for start in range(0, len(data), step):
        stream.feed(data[start : start + step])
        found += iter(stream.next, None)
    return found


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_calls_in_any_pieces_are_parsed(step: int) -> None:
    found = taken(call(1, "git", "a/b", b'{"x": 1}') + call(2, body=b""), step)
    assert found == [Request(1, "git", "a/b", b'{"x": 1}', 8), Request(2, "s", "t", b"", 0)]


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_a_body_beyond_its_bound_is_skipped_and_the_next_call_found(step: int) -> None:
    found = taken(call(1, body=b"x" * (BOUND + 1)) + call(2, body=b"x" * BOUND), step)
    assert found == [Request(1, "s", "t", None, BOUND + 1), Request(2, "s", "t", b"x" * BOUND, BOUND)]


def test_a_skipped_body_takes_no_memory() -> None:
    stream = CallStream(BOUND)
    header = call(body=b"")[LENGTHS.size :]
    stream.feed(LENGTHS.pack(len(header), 2**32 - 1) + header)
    for _ in range(100):
        stream.feed(b"x" * 10**6)
        assert stream.next() is None
        assert len(stream._buffer) == 0
    assert stream.wanted_bytes == stream.consumed_bytes + BOUND


@pytest.mark.parametrize(
    "data",
    [
        LENGTHS.pack(0, 0),
        LENGTHS.pack(MAX_HEADER_BYTES + 1, 0),
        LENGTHS.pack(2, 0) + b"[]",
        LENGTHS.pack(2, 0) + b"{}",
        LENGTHS.pack(3, 0) + b"\xff\xff\xff",
        LENGTHS.pack(1000, 0) + b"[" * 1000,
        call(-1),
        call(2**60),
        call(True),
        LENGTHS.pack(38, 0) + b'{"seq": 1, "server": "s", "tool": [1]}',
        LENGTHS.pack(37, 0) + b'{"seq": 1.5, "server": "s", "tool":1}',
    ],
)
def test_malformed_call_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        taken(data, 4096)


@pytest.mark.parametrize(
    ("server", "tool", "valid"),
    [
        ("git-hub", "a/b.C_1", True),
        ("Git", "t", False),
        ("", "t", False),
        ("s", "", False),
        ("s", "a b", False),
        ("s", "t\n", False),
        ("s", "x" * 129, False),
        ("\ud800", "t", False),
    ],
)
def test_names_that_no_tool_has_are_recognised_and_shown_in_ascii(server: str, tool: str, valid: bool) -> None:
    [request] = taken(call(1, server, tool), 4096)
    assert request.has_valid_names is valid
    assert request.name.isascii()
    assert request.name.isprintable()
    assert len(request.name) <= 192


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_refused_or_bounded(data: bytes, step: int) -> None:
    stream = CallStream(BOUND)
    try:
        for start in range(0, len(data), step):
            stream.feed(data[start : start + step])
            while request := stream.next():
                assert request.body is None or len(request.body) == request.size <= BOUND
    except Malformed:
        return
    assert stream.consumed_bytes <= len(data) <= max(stream.wanted_bytes, stream.consumed_bytes + len(stream._buffer))


def test_an_answer_is_framed_as_a_call_is() -> None:
    data = answer(7, False, b'{"code": "x"}')
    head, body = LENGTHS.unpack_from(data)
    assert json.loads(data[8 : 8 + head]) == {"seq": 7, "ok": False}
    assert (data[8 + head :], body) == (b'{"code": "x"}', 13)
