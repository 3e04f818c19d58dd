r"""The form of API keys: ``mfk_``, 43 random characters, and a checksum of 6, by which scanners of secrets recognise
keys.

``\bmfk_[0-9A-Za-z]{49}\b`` finds them; the checksum is the CRC-32 of what precedes it, in base 62 with leading zeros.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib

PREFIX = "mfk_"
DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_LENGTH, CHECKSUM_LENGTH = 43, 6  # 62**43 > 2**256, 62**6 > 2**32
PATTERN = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM_LENGTH + CHECKSUM_LENGTH}}}")


def new_secret(number: int | None = None) -> str:
    """A new key from 256 random bits, or from the given 256 bits."""
    start = PREFIX + _digits(secrets.randbits(256) if number is None else number, RANDOM_LENGTH)
    return start + _checksum(start)


def is_mistyped(secret: str) -> bool:
    """Whether a text has the form of a key with a wrong checksum; such a key was never issued."""
    return PATTERN.fullmatch(secret) is not None and secret[-CHECKSUM_LENGTH:] != _checksum(secret[:-CHECKSUM_LENGTH])


def _checksum(text: str) -> str:
    return _digits(zlib.crc32(text.encode()), CHECKSUM_LENGTH)


def _digits(number: int, length: int) -> str:
    found = ""
    for _ in range(length):
        number, digit = divmod(number, len(DIGITS))
        found = DIGITS[digit] + found
    return found
