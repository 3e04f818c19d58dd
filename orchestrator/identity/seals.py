"""Seals of API keys, users and passwords' hashes in Redis, so that write access to Redis makes no administrator.

A record stands behind an HMAC-SHA256 over its place and itself, with a key that Redis does not have. A record that
another client of Redis wrote, changed, or copied to another place counts as no record.
"""

from __future__ import annotations

import hashlib
import hmac

from orchestrator.store.malformed import report_malformed


class Seals:
    """Seals records, and opens them. Thread-safe."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"mayfly record of a principal", hashlib.sha256)

    def seal(self, place: str, text: str) -> str:
        """The stored form of a text. ``place``: its kind, and an id where the text does not have it."""
        return f"{self._mac(place, text.encode())} {text}"

    def opened(self, place: str, stored: bytes | None) -> bytes | None:
        """The text; ``None`` for no record, and for one that is not sealed for this place, which is reported."""
        if not stored:
            return None
        mac, _, text = stored.partition(b" ")
        if hmac.compare_digest(mac, self._mac(place, text).encode()):
            return text
        report_malformed("seals", place)
        return None

    def _mac(self, place: str, text: bytes) -> str:
        return hmac.digest(self._key, f"{place}\0".encode(errors="replace") + text, hashlib.sha256).hex()
