"""A program's results, as an untrusted stream of frames: checked, bounded, and turned into bundles of MIME types.

The program writes the content, so a program can forge a result; the host treats results as data only. Each
representation either becomes a valid value of its type (UTF-8 text, JSON that can be encoded again, a PNG with a
bounded number of pixels), or is left out with a reason.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from orchestrator.characters import whole_characters
from orchestrator.errors import FrameError
from orchestrator.models.results import OmittedResult, ResultBundle, ResultSource

TEXT, JSON, HTML, PNG = "text/plain", "application/json", "text/html", "image/png"
TYPE_BYTES = {TEXT: 64 * 2**10, JSON: 2**20, HTML: 256 * 2**10, PNG: 4 * 2**20}
MAX_JSON_DEPTH = 64
MAX_PIXELS = 2**26  # of an image, 8,192 by 8,192: a few bytes of PNG can encode far more
LEAST_PIECE = 4096  # bytes of each piece of a representation except the last, as for artifacts
MAX_OMITTED = 2**31
FIELDS = ("source", "media_type")
SOURCES, TYPES = get_args(ResultSource), tuple(TYPE_BYTES)
JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
PNG_START = struct.Struct(">8sI4sII")  # signature, length and type of the first chunk, width, height


@dataclass
class _Result:
    source: ResultSource
    data: dict[str, Any] = field(default_factory=dict)
    omitted: list[OmittedResult] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def bundle(self) -> ResultBundle:
        kept = ", ".join(self.data) or "nothing was kept"
        data = {TEXT: self.data.get(TEXT, f"[{kept}]")} | self.data
        return ResultBundle(source=self.source, data=data, omitted=tuple(self.omitted))


class ResultSink:
    """Receives the results of one attempt, bounded in number and bytes. Used by one thread."""

    def __init__(self, max_bytes: int, max_count: int) -> None:
        self._max_bytes = self._left_bytes = max_bytes
        self._max_count = max_count
        self._results: list[_Result] = []
        self._number = -1  # the last result's; the agent leaves out the numbers of malformed results
        self._type, self._size, self._length, self._pieces = "", 0, 0, 0  # of the representation that is being received
        self._content: bytearray | None = None
        self._omitted: int | None = None

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds for the agent, which sends nothing beyond them."""
        return {"count": self._max_count, "bytes": self._max_bytes, "types": TYPE_BYTES}

    def begin(self, header: dict[str, Any]) -> None:
        """Begin a representation of a result. Raises :class:`FrameError` for a header that an agent never sends."""
        if self._content is not None or self._omitted is not None:
            raise FrameError("a result began before the last one ended")
        if "omitted" in header:
            self._omitted = _number(header, "omitted", MAX_OMITTED)
            return
        number, source, media_type = _number(header, "number", self._max_count - 1), *map(header.get, FIELDS)
        if source not in SOURCES or media_type not in TYPES or number < self._number:
            raise FrameError("a result without an acceptable source and type")
        size = _number(header, "size", 2**63)
        length = _number(header, "length", min(size, TYPE_BYTES[media_type], self._left_bytes))
        if number > self._number:
            self._results.append(_Result(cast(ResultSource, source)))
            self._number = number
        result = self._results[-1]
        if source != result.source or media_type in result.seen or (length not in (0, size) and media_type != TEXT):
            raise FrameError("a result of two kinds")
        result.seen.add(media_type)
        self._left_bytes -= length
        self._type, self._size, self._length, self._pieces = media_type, size, length, 0
        self._content = bytearray()
        self._end_if_complete()

    def data(self, chunk: bytes) -> None:
        """Append bytes to the current representation."""
        if self._content is None or len(self._content) + len(chunk) > self._length:
            raise FrameError("data of a result without a header")
        self._pieces += 1
        if self._pieces > 2 + self._length // LEAST_PIECE:
            raise FrameError("data of a result in pieces smaller than any agent's")
        self._content += chunk
        self._end_if_complete()

    def bundles(self) -> tuple[ResultBundle, ...]:
        """The complete results, in the order in which they were sent."""
        if self._omitted and self._results:
            reason = f"{self._omitted} further results: an execution has at most {self._max_count}."
            self._results[-1].omitted.append(OmittedResult(media_type="*/*", size_bytes=0, reason=reason))
            self._omitted = 0
        return tuple(result.bundle() for result in self._results if result.data or result.omitted)

    def _end_if_complete(self) -> None:
        if self._content is None or len(self._content) < self._length:
            return
        content, self._content = bytes(self._content), None
        result = self._results[-1]
        try:
            if self._length < self._size:
                self._left_out(result, content)
            else:
                result.data[self._type] = _value(self._type, content)
        except ValueError as error:
            result.omitted.append(OmittedResult(media_type=self._type, size_bytes=self._size, reason=str(error)))

    def _left_out(self, result: _Result, beginning: bytes) -> None:
        """Keep the beginning of a text that is too large. Raises ``ValueError`` with the bound."""
        bound = f"the results of an execution may have at most {self._max_bytes} bytes"
        if self._size > TYPE_BYTES[self._type]:
            bound = f"a result may have at most {TYPE_BYTES[self._type]} bytes of {self._type}"
        if beginning:
            cut = whole_characters(beginning)
            result.data[self._type] = _value(self._type, beginning[:cut])
            raise ValueError(f"The end is missing: {bound}. Leave larger results in a file in /output.")
        raise ValueError(f"Too large: {bound}. Leave larger results in a file in /output.")


def _number(header: dict[str, Any], name: str, most: int) -> int:
    value = header.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise FrameError(f"a result with an impossible {name}")
    return value


def _value(media_type: str, content: bytes) -> Any:
    """A representation as it is stored. Raises ``ValueError`` with the reason for content that is not of its type."""
    if media_type == JSON:
        return _json(content)
    if media_type == PNG:
        return _png(content)
    return content.decode(errors="replace")


def _json(content: bytes) -> Any:
    if _depth_exceeds(content, MAX_JSON_DEPTH):
        raise ValueError(f"JSON may be nested at most {MAX_JSON_DEPTH} levels deep.")
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
        # Python parses more than it can encode: numbers too large for a float, halves of surrogate pairs.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError("This is not JSON.") from error
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _depth_exceeds(content: bytes, most: int) -> bool:
    """Whether brackets outside of strings are nested deeper: each round removes the innermost pairs."""
    brackets = JSON_STRING.sub(b"", content).translate(None, NO_BRACKETS)
    for _ in range(most):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return bool(brackets)


def _png(content: bytes) -> str:
    if len(content) < PNG_START.size:
        raise ValueError("This is not a PNG image.")
    signature, length, kind, width, height = PNG_START.unpack_from(content)
    if (signature, length, kind) != (b"\x89PNG\r\n\x1a\n", 13, b"IHDR"):
        raise ValueError("This is not a PNG image.")
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"An image may have at most {MAX_PIXELS} pixels; this has {width} by {height}.")
    return base64.b64encode(content).decode()
