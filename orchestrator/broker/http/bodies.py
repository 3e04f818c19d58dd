"""Bodies of answers: decompressed within a bound, and shown as text or base64. Pure.

``zlib`` gets the rest of the bound as its limit, so a small body that unpacks to gigabytes takes no more memory than
the bound.
"""

from __future__ import annotations

import base64
import codecs
import re
import zlib
from collections.abc import Mapping
from encodings.aliases import aliases

from orchestrator.broker.http.failures import CallFailed

DETECT = zlib.MAX_WBITS | 32  # gzip's or zlib's header
GZIP = b"\x1f\x8b"
RAW = -zlib.MAX_WBITS  # some servers send `deflate` without a header
TEXT_TYPES = frozenset(
    f"application/{name}"
    for name in (
        *("json", "javascript", "xml", "x-www-form-urlencoded", "yaml", "toml", "sql", "graphql", "x-ndjson"),
        *("ecmascript", "x-yaml", "jsonl", "x-sh"),
    )
)
TEXT_ENDINGS = ("+json", "+xml", "+yaml")
# Python's decoders of these are linear in time; those of `charset=idna` and others are not.
_CODECS = frozenset(
    codecs.lookup(name).name
    for name in (
        *("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "ascii", "koi8-r", "koi8-u", "shift_jis", "cp932"),
        *("euc-jp", "iso-2022-jp", "euc-kr", "cp949", "gbk", "gb2312", "gb18030", "big5", "mac-roman", "cp866"),
        *(f"iso8859-{part}" for part in (*range(1, 12), *range(13, 17))),
        *(f"cp125{page}" for page in range(9)),
    )
)


def _decodes(alias: str, codec: str) -> bool:
    try:
        return codecs.lookup(alias).name == codec
    except LookupError:  # known, but of another system
        return False


_PUNCTUATION = re.compile("[^a-z0-9]")
# Not `codecs.lookup` with a server's text: the module `encodings` caches every unknown name.
CHARSETS = {
    _PUNCTUATION.sub("", name): codec
    for codec in _CODECS
    for name in (codec, codec.replace("iso8859", "iso-8859"), *(alias for alias in aliases if _decodes(alias, codec)))
}


class Unpacker:
    """Collects a body of at most ``most_bytes``, before and after decompression alike."""

    def __init__(self, headers: Mapping[str, str], most_bytes: int) -> None:
        coding = headers.get("content-encoding", "").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise CallFailed("tool_failed", f"The answer has coding {coding[:40]!r}, against the request's headers.")
        self._packed = coding not in ("", "identity")
        self._bound = most_bytes
        self._received = 0
        self._first = b""  # until there are two bytes, which show the kind of compression
        self._window = DETECT
        self._inflater = zlib.decompressobj(DETECT)
        self._body = bytearray()

    def add(self, piece: bytes) -> None:
        """Take one received piece. Raises :class:`CallFailed` beyond the bound."""
        self._received += len(piece)
        if self._received > self._bound:
            raise self._too_large()
        if not self._packed:
            self._body += piece
            return
        if self._received - len(piece) < 2:
            piece = self._first + piece
            self._first = piece
            if len(piece) < 2:
                return
            if not (piece.startswith(GZIP) or (piece[0] & 15 == 8 and int.from_bytes(piece[:2], "big") % 31 == 0)):
                self._window = RAW
                self._inflater = zlib.decompressobj(RAW)
        try:
            self._inflate(piece)
        except zlib.error as error:
            raise CallFailed("tool_failed", "The answer is not compressed as its headers say.") from error

    def _inflate(self, piece: bytes) -> None:
        while piece:
            if self._inflater.eof:  # gzip files may follow each other
                self._inflater = zlib.decompressobj(self._window)
            # One byte above the bound shows that the body is too long; 0 would mean no bound.
            self._body += self._inflater.decompress(piece, self._bound - len(self._body) + 1)
            if len(self._body) > self._bound:
                raise self._too_large()
            piece = self._inflater.unconsumed_tail or self._inflater.unused_data

    def finish(self) -> bytes:
        """The complete body."""
        if self._packed and self._received and not self._inflater.eof:
            raise CallFailed("tool_failed", "The answer ends before its compressed data does.")
        return bytes(self._body)

    def _too_large(self) -> CallFailed:
        return CallFailed(
            "tool_result_too_large",
            f"The answer has more than {self._bound} bytes. Ask for less, by a query or the header Range.",
        )


def rendered(body: bytes, content_type: str) -> tuple[str | None, str | None]:
    """A body as (text, None), or (None, base64)."""
    kind, _, parameters = content_type.lower().partition(";")
    kind = kind.strip()
    if not kind:
        try:
            return body.decode("utf-8"), None
        except UnicodeDecodeError:
            return None, base64.b64encode(body).decode("ascii")
    if kind.startswith("text/") or kind in TEXT_TYPES or kind.endswith(TEXT_ENDINGS):
        return body.decode(_charset(body, parameters), "replace").removeprefix("\ufeff"), None
    return None, base64.b64encode(body).decode("ascii")


def _charset(body: bytes, parameters: str) -> str:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and (found := CHARSETS.get(_PUNCTUATION.sub("", value))):
            return found
    return "utf-16" if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
