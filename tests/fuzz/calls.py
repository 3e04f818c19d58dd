"""The fuzz target of a program's calls of tools."""

from __future__ import annotations

from worker.agent import call_stream
from worker.agent.call_stream import CallStream, Malformed, Request

BODY_BYTES = 200


def fuzz_calls(data: bytes) -> None:
    """The same calls come out however the bytes are cut, and no more than one message is kept."""
    step, data = (data[0] or 1, data[1:]) if data else (1, data)
    whole, whole_failed, _ = _calls([data])
    cut, cut_failed, kept = _calls([data[at : at + step] for at in range(0, len(data), step)])
    assert (whole, whole_failed) == (cut, cut_failed)
    for request in whole:
        assert (request.body is None) == (request.size > BODY_BYTES)
        assert request.body is None or len(request.body) == request.size
        assert request.name.isascii() and request.name.isprintable()
    if not cut_failed:
        assert kept <= call_stream.LENGTHS.size + call_stream.MAX_HEADER_BYTES + BODY_BYTES + step


def _calls(chunks: list[bytes]) -> tuple[list[Request], bool, int]:
    """The calls, whether the line failed, and the most bytes that were kept after a piece."""
    stream, found, most = CallStream(BODY_BYTES), list[Request](), 0
    try:
        for chunk in chunks:
            stream.feed(chunk)
            while request := stream.next():
                found.append(request)
            most = max(most, len(stream._buffer))
    except Malformed:
        return found, True, most
    return found, False, most
