"""The keys that sign access tokens of own users: a file beside the other secrets, read by every API process.

A key signs from its ``signs_from`` until the next key's ``signs_from``. The key verifies tokens until the last of its
tokens has expired, and the API publishes the key until then. A rotation adds a key and drops keys whose tokens have all
expired.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ALGORITHM = "ES256"
LEEWAY_SECONDS = 30  # permitted difference between the clocks of two hosts
ACCESS_SECONDS = 15 * 60 - LEEWAY_SECONDS  # so that a token is accepted for at most 15 minutes
KEPT_SECONDS = ACCESS_SECONDS + LEEWAY_SECONDS
LOOK_SECONDS = 1.0  # between checks of the file


class TokenKey(NamedTuple):
    """A private key and its id. ``signs_from``, ``counts_until``: seconds since the epoch."""

    kid: str
    signs_from: float
    private: ec.EllipticCurvePrivateKey
    counts_until: float

    def jwk(self) -> dict[str, str]:
        """The public key as a JWK (RFC 7517)."""
        from jwt.algorithms import ECAlgorithm  # imported here: `mayfly up` makes a file without

        made: dict[str, Any] = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**made, "kid": self.kid, "use": "sig", "alg": ALGORITHM}


class TokenKeys:
    """The keys of a file, read again after each change of it. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_at, self._stamp = float("-inf"), (0, 0)
        self._keys: tuple[TokenKey, ...] = ()

    def current(self) -> TokenKey | None:
        """The key that signs now; ``None`` without a file."""
        now = time.time()
        return next((key for key in reversed(self._read()) if key.signs_from <= now < key.counts_until), None)

    def find(self, kid: str) -> TokenKey | None:
        """The key with that id, while its tokens are accepted."""
        return next((key for key in self.counting() if key.kid == kid), None)

    def counting(self) -> list[TokenKey]:
        """The keys whose tokens are accepted now or later."""
        now = time.time()
        return [key for key in self._read() if now < key.counts_until]

    def _read(self) -> tuple[TokenKey, ...]:
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = time.monotonic()
            try:
                found = self._path.stat()
            except FileNotFoundError:
                self._keys, self._stamp = (), (0, 0)
                return ()
            if (stamp := (found.st_mtime_ns, found.st_ino)) != self._stamp:
                self._keys = read(self._path)
                self._stamp = stamp
        return self._keys


def read(path: Path) -> tuple[TokenKey, ...]:
    """The keys of a file, the oldest first. Raises ``OSError``, and ``ValueError`` for a file without keys."""
    try:
        listed = json.loads(path.read_text(encoding="ascii"))
        rows = [(str(row["kid"]), float(row["signs_from"]), _private(row["pem"])) for row in listed]
        if not rows:
            raise ValueError("no keys")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no keys of access tokens; `mayfly admin rotate-keys` writes it anew.") from error
    rows.sort(key=lambda row: row[1])
    ends = [row[1] + KEPT_SECONDS for row in rows[1:]]
    return tuple(TokenKey(*row, counts_until) for row, counts_until in zip(rows, [*ends, float("inf")], strict=True))


def create(path: Path) -> None:
    """Make the file with its first key, unless the file exists."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        rotate(path)


def rotate(path: Path, *, after_seconds: float = 0.0, forget: bool = False) -> str:
    """Add a key that signs after so many seconds, and return its id. The file has mode 600 and keeps its owner.

    With ``forget`` the tokens of all other keys are refused at once.
    """
    now = time.time()
    kept = [key for key in read(path) if now < key.counts_until] if path.exists() and not forget else []
    made = TokenKey(secrets.token_hex(8), now + after_seconds, ec.generate_private_key(ec.SECP256R1()), float("inf"))
    rows = [{"kid": key.kid, "signs_from": key.signs_from, "pem": _pem(key.private)} for key in (*kept, made)]
    fresh = path.with_name(f".{path.name}.{made.kid}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        json.dump(rows, file)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        owner = path.stat()
        os.chown(fresh, owner.st_uid, owner.st_gid)
    fresh.replace(path)
    return made.kid


def _private(pem: str) -> ec.EllipticCurvePrivateKey:
    found = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(found, ec.EllipticCurvePrivateKey) or not isinstance(found.curve, ec.SECP256R1):
        raise ValueError("no key of P-256")
    return found


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*kinds).decode()
