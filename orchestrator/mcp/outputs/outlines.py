"""Outlines of large JSON documents, made by a helper process, so that other requests need not wait.

Theory of operation. There is one helper, started for the first document, and used by one thread at a time; the threads
are the few that read whole outputs. There is no outline, and a prefix of the document is summarised, if the document
waits longer than :data:`TURN_SECONDS` for another, exceeds the helper's bounds on time or memory, or is not JSON.
A helper that ended or was too slow is replaced.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.host.helper import start_helper
from orchestrator.mcp.budget.material import Outline, SampledList, SampledObject
from orchestrator.mcp.outputs import outline_helper
from orchestrator.mcp.outputs.outline_helper import HEADER

MOST_BYTES = 64 * 2**20
MOST_COMMAS = 1_000_000  # beyond it, counting so many small elements takes too long
MOST_ANSWER_BYTES = 4 * 2**20
TURN_SECONDS = 0.5
SECONDS = 3.0  # of one document, on a busy host
BOOT = "import sys; sys.path.extend(sys.argv[1:]); from outline_helper import main; main()"
LONG = "…" * 10_000  # in place of a string that is too long to show


class Outlines:
    """Makes outlines. Thread-safe."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def of(self, data: bytes) -> Outline | None:
        """The outline of a JSON document or of JSON lines; ``None`` without an outline."""
        start = data[:256].lstrip()[:1]
        if start not in (b"{", b"[") or len(data) > MOST_BYTES or outline_helper.has_too_many(data):
            return None
        if data.count(b",") > MOST_COMMAS:
            return None
        if not self._turn.acquire(timeout=TURN_SECONDS):
            return None
        try:
            return built(json.loads(self._asked(data, time.monotonic() + SECONDS).decode(errors="replace")))
        except (OSError, ValueError, TypeError, RecursionError):
            self._end()
            return None
        finally:
            self._turn.release()

    def stop(self) -> None:
        """End the helper. Idempotent."""
        with self._turn:
            self._end()

    def _asked(self, data: bytes, deadline: float) -> bytes:
        if self._process is None or self._process.poll() is not None or self._socket is None:
            self._end()
            folders = (Path(outline_helper.__file__).parent, Path(msgspec.__file__).parents[1])
            self._process, self._socket = start_helper(BOOT, *map(str, folders))
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        self._socket.sendall(HEADER.pack(len(data)))
        self._socket.sendall(data)
        (size,) = HEADER.unpack(_exactly(self._socket, HEADER.size, deadline))
        if size > MOST_ANSWER_BYTES:
            raise ValueError("the outline is too long")
        return _exactly(self._socket, size, deadline)

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def built(answer: Any) -> Outline | None:
    """The outline in a helper's answer. Raises ``ValueError`` or ``TypeError`` for an invalid answer."""
    if answer is None:
        return None
    kind, top = answer
    return Outline(str(kind), _value(top))


def _value(node: Any) -> Any:
    match node:
        case ["exact", value]:
            return value
        case ["long", int()]:
            return LONG
        case ["list", int(total), list(positions), list(nodes)] if len(positions) == len(nodes):
            return SampledList(map(_value, nodes), total, [int(position) for position in positions])
        case ["object", int(total), list(keys), list(nodes)]:
            return SampledObject(dict(zip(map(str, keys), map(_value, nodes), strict=True)), total)
    raise ValueError("invalid node of an outline")


def _exactly(source: socket.socket, size: int, deadline: float) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        source.settimeout(max(0.001, deadline - time.monotonic()))
        part = source.recv(size - len(parts))
        if not part:
            raise ConnectionError("the helper has ended")
        parts += part
    return bytes(parts)


OUTLINES = Outlines()
