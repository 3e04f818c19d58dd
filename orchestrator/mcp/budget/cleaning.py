"""Text that is safe to show, from a program's bytes: without escape sequences, invisible characters and frames.

Linear in its input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from orchestrator.characters import whole_characters

# Sequences that terminals interpret: CSI, OSC and other strings, two-character escapes.
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
# Control characters but tab and newline, and invisible characters: zero width, overrides of direction, tags,
# surrogates.
INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
FRAME = re.compile(r"<(?=[\s/\\]{0,9}data\b)", re.IGNORECASE)
PROMPTS = re.compile(
    r"<\|[a-z_]{1,32}\|>|\[/?INST\]|</?(?:system|assistant|human|user|function_calls?|tool_call)>"
    r"|^\s{0,9}(?:system|assistant|human)\s?:"
    r"|\b(?:ignore|disregard|forget|override)\s[\w ]{0,40}\b(?:instructions?|prompts?|rules|guidelines)\b"
    r"|\byou (?:are now|must now)\b|\bnew instructions?\b|\bsystem prompt\b",
    re.IGNORECASE | re.MULTILINE,
)
SAMPLE_BYTES = 4096
BINARY_SHARE = 0.25  # of the sample's bytes; Latin-1 text has fewer
TEXT_BYTES = bytes(byte for byte in range(256) if byte >= 0x20 or byte in b"\t\n\r\b\f\x1b\x07")
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"), (b"PK\x03\x04", "application/zip"), (b"\x1f\x8b", "application/gzip"),
    (b"\xfd7zXZ\0", "application/x-xz"), (b"BZh", "application/x-bzip2"), (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\x7fELF", "application/x-elf"), (b"SQLite format 3\0", "application/vnd.sqlite3"),
    (b"PAR1", "application/vnd.apache.parquet"), (b"\x93NUMPY", "application/x-npy"), (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"), (b"fLaC", "audio/flac"), (b"\x80\x04\x95", "application/x-pickle"),
)  # fmt: skip
LONG_LINE = 1000  # characters; longer lines are split
PART = 100

PLAIN = re.compile(rb"[\t\n\x20-;=-~]*+")  # no escape sequence, no control character, no '<'
Filter = Callable[[str], str]


class Line(NamedTuple):
    """A line of a stream, ready to show, and the byte offsets of its begin and end (after the newline).

    A long line is split into parts; the next part continues the line.
    """

    text: str
    begin: int
    end: int
    is_part: bool = False


def is_binary(data: bytes) -> bool:
    """Whether the bytes are binary, by the first 4 KiB."""
    sample = data[: whole_characters(data[:SAMPLE_BYTES])]
    if not sample:
        return False
    if b"\0" in sample or media_type(sample) != "application/octet-stream":
        return True
    odd = len(sample.translate(None, TEXT_BYTES))
    return odd + sample.decode(errors="replace").count("\ufffd") > len(sample) * BINARY_SHARE


def media_type(data: bytes) -> str:
    """The media type by the first bytes; ``application/octet-stream`` if unknown."""
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(data[8:12], "application/octet-stream")
    return next((name for magic, name in MAGIC if data.startswith(magic)), "application/octet-stream")


def visible(text: str) -> str:
    """Text without escape sequences and invisible characters; of an overwritten line, its last state."""
    if "\r" in text:
        text = "\n".join(_overwritten(line) for line in text.split("\n"))
    if "\x1b" in text:
        text = ESCAPES.sub("", text)
    return INVISIBLE.sub("", text)


def as_data(text: str) -> str:
    """Visible text that cannot close or open the frame ``<data from=…>``."""
    return FRAME.sub("&lt;", visible(text))


def has_prompt(text: str) -> bool:
    """Whether text resembles instructions to a model. A hint: only common forms are recognised."""
    return PROMPTS.search(text) is not None


def lines_of(data: bytes, offset: int, most: int, clean: Filter = as_data, from_end: bool = False) -> list[Line]:
    """At most ``most`` lines of bytes that begin at ``offset`` of a stream: the first ones, or the last."""
    pieces = data.rsplit(b"\n", most) if from_end else data.split(b"\n", most)
    skipped = 0
    if len(pieces) > most:
        skipped = len(pieces[0]) + 1 if from_end else 0
        pieces = pieces[1:] if from_end else pieces[:-1]
        ends_open = from_end
    else:
        ends_open = True
    if ends_open and not pieces[-1]:
        pieces.pop()
        ends_open = False
    begin = offset + skipped
    found: list[Line] = []
    if clean is as_data and PLAIN.fullmatch(data):  # most output; cleaning each line takes ten times as long
        clean = str
    for number, piece in enumerate(pieces):
        end = begin + len(piece) + (0 if ends_open and number == len(pieces) - 1 else 1)
        text = piece.decode(errors="replace")
        line = Line(clean(text), begin, end)
        found += [line] if len(line.text) <= LONG_LINE else _parts(line, line.text == text)
        begin = end
    return found


def joined(lines: Iterable[Line]) -> str:
    """The text of lines, without a newline at the end."""
    return "".join(line.text if line.is_part else f"{line.text}\n" for line in lines).removesuffix("\n")


def _parts(line: Line, unchanged: bool) -> Iterator[Line]:
    """A long line in parts. Offsets are exact for bytes that are shown unchanged; else those of the line's begin."""
    begin = line.begin
    for at in range(0, len(line.text), PART):
        text = line.text[at : at + PART]
        is_last = at + PART >= len(line.text)
        end = line.end if is_last else begin + (len(text.encode()) if unchanged else 0)
        yield Line(text, begin, end, not is_last)
        begin = end


def shortened(text: str, width: int) -> str:
    """A line of at most about ``width`` characters: the middle of a longer line is omitted, and counted."""
    if len(text) <= width:
        return text
    head = width * 2 // 3
    tail = width - head
    return f"{text[:head]}… [{len(text) - head - tail:,} characters] …{text[-tail:]}"


def _overwritten(line: str) -> str:
    """A line with carriage returns as a terminal shows it: the last non-empty part."""
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")
