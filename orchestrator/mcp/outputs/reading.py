"""``read_output``: a piece of an output or artifact within a number of tokens. The pieces together equal the whole.

A piece is exact: text if its bytes are UTF-8, else base64. A piece begins at the requested offset, and ends between
characters.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mcp_types import CallToolResult, ContentBlock, TextContent

from orchestrator.characters import whole_characters
from orchestrator.errors import ValidationFailed
from orchestrator.mcp.arguments import ReadOutput
from orchestrator.mcp.budget import Carrier, count
from orchestrator.mcp.budget.personal_data import PersonalDataFilter
from orchestrator.mcp.outputs import images, searching
from orchestrator.mcp.outputs.sources import Source, artifact_of, offset_of_line, stream_of
from orchestrator.mcp.parts import Caller, Parts

FEWEST_TOKENS = 100
NOTE_TOKENS = 60  # of the text around a piece, about
TOKEN_BYTES = 16  # text with more bytes in each token is cut by its bytes
BINARY_SHARE = 3  # bytes of a piece in base64, for each token
MOST_MATCHES = 1000
CONTEXT_BYTES = 16 * 1024  # before and after a piece, to find values that cross its ends


@dataclass(frozen=True)
class Piece:
    """Bytes of a source from ``offset`` to ``next_offset``, as text."""

    content: str
    offset: int
    next_offset: int
    total_bytes: int
    encoding: str = "utf-8"

    @property
    def is_last(self) -> bool:
        return self.next_offset >= self.total_bytes


async def read_output(parts: Parts, caller: Caller, arguments: ReadOutput) -> CallToolResult:
    """A piece of an output or of an artifact, or lines that match, or an image."""
    if arguments.stream is not None and arguments.artifact is not None:
        raise ValidationFailed([("artifact", "excludes stream; send one of them")], "conflicting_fields")
    if arguments.offset is not None and arguments.line is not None:
        raise ValidationFailed([("line", "excludes offset; send one of them")], "conflicting_fields")
    expression = searching.compiled(arguments.grep) if arguments.grep is not None else None
    id, whole = arguments.execution_id, arguments.offset is None and arguments.line is None and expression is None
    if arguments.artifact is not None:
        find = partial(artifact_of, parts, caller, id, arguments.artifact)
        artifact, source = await parts.threads.run(caller.tenant, find)
        if whole and artifact.media_type in images.MEDIA_TYPES:
            return await images.image_result(parts, caller, artifact, source)
        opened: Callable[[], Source] = lambda: source  # noqa: E731 - a file, which takes no memory
    else:
        opened = partial(stream_of, parts, caller, id, arguments.stream or "stdout")
    settings = parts.settings
    limit = max(FEWEST_TOKENS, arguments.limit_tokens or settings.mcp_output_tokens)
    limit = min(limit, settings.mcp_most_output_tokens)
    compose = partial(_composed, opened, arguments, expression, caller, limit)
    return await parts.readings.run(caller.tenant, compose)


def _composed(
    opened: Callable[[], Source], arguments: ReadOutput, expression: Any, caller: Caller, limit: int
) -> CallToolResult:
    source, offset = opened(), arguments.offset or 0
    if arguments.line is not None:
        offset = offset_of_line(source, arguments.line)
    if offset > source.size:
        message = f"is beyond the end: there are {source.size} bytes"
        raise ValidationFailed([("offset", message)], "range_not_satisfiable")

    def find(tokens: int) -> Piece:
        clean = caller.clean()  # a new filter numbers its labels from 1
        if expression is not None:
            return matching(expression, clean, source, offset, tokens)
        piece = piece_of(source, offset, tokens)
        return piece if clean is None else cleaned(piece, source, clean)

    return within(limit, caller.carrier, find)


def within(limit: int, carrier: Carrier, find: Callable[[int], Piece]) -> CallToolResult:
    """The largest piece whose result costs at most ``limit`` tokens, or a little less."""
    copies = 2 if carrier == "both" else 1
    room = max(1, (limit - NOTE_TOKENS) // copies)
    while True:
        piece = find(room)
        text, structured = _parts_of(piece, carrier)
        spent = sum(map(count, text)) + count(json.dumps(structured, ensure_ascii=False, separators=(",", ":")))
        if spent <= limit or room == 1:
            content: list[ContentBlock] = [TextContent(type="text", text=part) for part in text]
            return CallToolResult(content=content, structured_content=structured)
        room = max(1, min(room - 1, room * limit // spent))


def piece_of(source: Source, offset: int, tokens: int) -> Piece:
    """A piece of at most about ``tokens`` tokens, at least one character or byte."""
    data = source.read(offset, tokens * TOKEN_BYTES + 4)
    if offset + len(data) < source.size:
        data = data[: whole_characters(data)] or data
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.start == 0 or _is_mostly_binary(data):
            data = data[: max(1, tokens * BINARY_SHARE)]
            shown = base64.b64encode(data).decode()
            return Piece(shown, offset, offset + len(data), source.size, "base64")
        text = data[: error.start].decode()
    kept = _first_tokens(text, tokens)
    return Piece(kept, offset, offset + len(kept.encode()), source.size)


def cleaned(piece: Piece, source: Source, clean: PersonalDataFilter) -> Piece:
    """A piece without personal data, including values that cross its ends. Binary data with any becomes text."""
    encoding = "utf-8" if piece.encoding == "utf-8" else "latin-1"  # of which each byte is a character
    begin = max(0, piece.offset - CONTEXT_BYTES)
    before = source.read(begin, piece.offset - begin).decode(encoding, errors="replace")
    data = source.read(piece.offset, piece.next_offset - piece.offset)
    text = before + data.decode(encoding, errors="replace")
    end = len(text)
    text += source.read(piece.next_offset, CONTEXT_BYTES).decode(encoding, errors="replace")
    shown, cut = clean.cut(text, len(before), end)
    if encoding != "utf-8" and shown == text[len(before) : end]:
        return piece
    next_offset = piece.offset + len(text[len(before) : cut].encode(encoding))
    return replace(piece, content=shown, next_offset=min(next_offset, piece.total_bytes), encoding="utf-8")


def _first_tokens(text: str, tokens: int) -> str:
    """The beginning of a text within a number of tokens, up to a line's end if one is near."""
    low, high = 0, len(text)
    if count(text) > tokens:
        while high - low > max(8, low // 50):
            middle = (low + high) // 2
            low, high = (middle, high) if count(text[:middle]) <= tokens else (low, middle)
        newline = text.rfind("\n", low // 2, low)
        return text[: newline + 1] if newline > 0 else text[: max(1, low)]
    return text


def _is_mostly_binary(data: bytes) -> bool:
    return data.count(b"\0") > 0


def matching(expression: Any, clean: PersonalDataFilter | None, source: Source, offset: int, tokens: int) -> Piece:
    """The lines that match, each with its number: at least one, within a number of tokens and :data:`MOST_MATCHES`."""
    lines: list[str] = []
    spent, end = 0, offset
    for match in searching.matches(source, expression, offset, clean):
        line = f"{match.line}:{match.text}"
        cost = count(line) + 1
        if lines and (spent + cost > tokens or len(lines) >= MOST_MATCHES):
            return Piece("\n".join(lines), offset, end, source.size)
        lines.append(line)
        spent, end = spent + cost, match.next_offset
    return Piece("\n".join(lines), offset, source.size, source.size)


def _parts_of(piece: Piece, carrier: Carrier) -> tuple[list[str], dict[str, Any]]:
    """The texts and the structured content of a piece."""
    structured: dict[str, Any] = {"total_bytes": piece.total_bytes, "end": piece.is_last, "offset": piece.offset}
    if not piece.is_last:
        structured["next_offset"] = piece.next_offset
    if piece.encoding != "utf-8":
        structured["encoding"] = piece.encoding
    span = f"[bytes {piece.offset} to {piece.next_offset} of {piece.total_bytes}"
    notes = span + (", base64" if piece.encoding != "utf-8" else "")
    notes += "; end]" if piece.is_last else f"; next_offset={piece.next_offset}]"
    if carrier != "text":
        structured["content"] = piece.content
    return ([notes] if carrier == "structured" else [piece.content, notes]), structured
