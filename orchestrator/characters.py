"""Cuts UTF-8 between characters, never inside one. Invalid UTF-8 may be cut anywhere. Pure."""

from __future__ import annotations

import codecs

MAX_CHARACTER_BYTES = 4


def character_at(data: bytes, position: int) -> tuple[int, int]:
    """The begin and end of the character that a cut at ``position`` would split; the position twice if none."""
    for begin in range(position - 1, max(-1, position - MAX_CHARACTER_BYTES), -1):
        lead = data[begin]
        if lead & 0xC0 == 0x80:
            continue
        end = begin + (1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4)
        if end <= position:
            break
        try:
            data[begin:end].decode()
        except UnicodeDecodeError:
            break
        return begin, end
    return position, position


def whole_characters(data: bytes) -> int:
    """The number of bytes before an incomplete character at the end; all bytes without such a character."""
    for back in range(1, min(MAX_CHARACTER_BYTES, len(data) + 1)):
        decoder = codecs.getincrementaldecoder("utf-8")()
        lead = data[-back]
        if lead & 0xC0 == 0x80:
            continue
        if lead < 0x80:
            return len(data)
        try:
            return len(data) - back if decoder.decode(data[-back:]) == "" else len(data)
        except UnicodeDecodeError:
            return len(data)
    return len(data)
