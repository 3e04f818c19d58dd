"""Accepts base64 with line breaks and without padding, and reports other mistakes by position."""

from __future__ import annotations

import binascii
import re

import pybase64

PIECE_CHARACTERS = 2**16  # whole groups, whose bytes take no new memory of the system
STRANGE = re.compile(r"[^A-Za-z0-9+/=]")
BLANKS = str.maketrans("", "", " \t\r\n")


def canonical_base64(text: str) -> str:
    """The same bytes as base64 without blanks and with padding.

    Raises :class:`ValueError` whose message names the character's position in ``text``, counted from 1, and the cause.
    """
    if len(text) % 4 or text.find("=", 0, -2) >= 0:  # the library accepts some of these texts
        return _repaired(text)
    try:
        for start in range(0, len(text), PIECE_CHARACTERS):
            pybase64.b64decode(text[start : start + PIECE_CHARACTERS], validate=True)
    except (binascii.Error, ValueError):
        return _repaired(text)
    return text


def _repaired(text: str) -> str:
    digits = text.translate(BLANKS)
    if strange := STRANGE.search(digits):
        character = strange[0]
        hint = " (of the URL-safe alphabet; write '+' for '-' and '/' for '_')" if character in "-_" else ""
        raise ValueError(f"is not base64: {character!r} at character {text.index(character) + 1}{hint}")
    body = digits.rstrip("=")
    if "=" in body:
        at = text.index("=") + 1
        raise ValueError(f"is not base64: '=' at character {at} ends it, but more follows")
    if len(body) % 4 == 1 or (digits and not body):
        at = len(text.rstrip(" \t\r\n=")) + 1
        raise ValueError(f"is not base64: it ends at character {at} with one digit too few: groups have two to four")
    if len(digits) - len(body) > -len(body) % 4:
        at = text.index("=") + 1 + -len(body) % 4
        raise ValueError(f"is not base64: more '=' than the last group needs, from about character {at}")
    return body + "=" * (-len(body) % 4)
