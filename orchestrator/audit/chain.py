"""The chain over the audit log, and its proof. Pure.

The head after an entry is the SHA-256 of the head before it, the entry's position and its stored bytes. A seal is a
signed head. To change, remove or insert an entry before a seal, an attacker would need another head with a valid
signature (Ed25519, with a key that is derived from the installation's secret and is not in Redis).

Entries beyond the log's age are removed up to a seal, which is then signed again as the base, the new beginning of the
chain. No other entries may be missing before the first seal.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestrator.audit import canonical
from orchestrator.models import Frozen
from orchestrator.models.stream import START, order

EMPTY_HEAD = "0" * 64


class Link(NamedTuple):
    """A stored entry: its position in the log, and its bytes."""

    position: str
    stored: bytes


class Seal(Frozen):
    """A signed head of the chain.

    ``position`` and ``head`` are those of the last entry, ``previous`` is the head before the first entry of this seal,
    ``entries`` counts from the beginning of the log. ``foreign`` are positions of entries and earlier seals that Mayfly
    did not write.
    """

    kind: Literal["seal", "base"] = "seal"
    position: str = START
    head: str = EMPTY_HEAD
    previous: str = EMPTY_HEAD
    entries: int = 0
    sealed_at: float = 0.0
    foreign: tuple[str, ...] = ()
    signature: str = ""


class Verdict(NamedTuple):
    """The result of a verification. ``sealed`` is the last valid seal, ``unsealed`` the number of entries after it."""

    sealed: Seal
    entries: int
    unsealed: int
    faults: tuple[str, ...]


class Signer:
    """Signs heads."""

    def __init__(self, secret: bytes) -> None:
        seed = hmac.digest(secret, b"mayfly audit seal", hashlib.sha256)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public_key(self) -> str:
        """The public key, 32 bytes in base64."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, seal: Seal) -> Seal:
        """The seal with a valid signature."""
        return seal.model_copy(update={"signature": base64.b64encode(self._key.sign(_signed(seal))).decode()})


def is_signed(seal: Seal, public_key: str) -> bool:
    """Whether a seal's signature is valid."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key))
        key.verify(base64.b64decode(seal.signature), _signed(seal))
    except (InvalidSignature, ValueError):
        return False
    return True


def extend(head: str, links: Iterable[Link]) -> str:
    """The head after further entries."""
    for link in links:
        head = hashlib.sha256(f"{head} {link.position} ".encode() + link.stored).hexdigest()
    return head


def verify(
    base: Seal | None,
    seals: Iterable[Seal],
    links: Iterable[Link],
    public_key: str,
    known: Seal | None = None,
) -> Verdict:
    """Compare all entries with all seals, both in order.

    ``known`` is a head from outside of Redis, such as a log line or a backup: without it, the removal of the last
    entries together with their seals leaves no trace.
    """
    faults: list[str] = []
    if base is not None and not (base.kind == "base" and is_signed(base, public_key)):
        faults.append("The signature of the base is invalid.")
    last = base or Seal()
    seen = known is None or known.position == START
    seen = seen or (known is not None and (known.position, known.head) == (last.position, last.head))
    rest, written = _Rest(links), _Written()
    entries = 0
    for seal in seals:
        if seal.kind != "seal" or not is_signed(seal, public_key):
            faults.append(f"The signature of the seal at {seal.position} is invalid.")
            continue
        if seal.previous != last.head:
            faults.append(f"Seals between {last.position} and {seal.position} are missing.")
        found = list(rest.until(seal.position))
        if len(found) != seal.entries - last.entries or extend(seal.previous, found) != seal.head:
            faults.append(
                f"Entries after {last.position} up to {seal.position} were changed, removed or inserted: "
                f"{seal.entries - last.entries} were sealed, {len(found)} are there."
            )
        faults += [f"The entry or seal at {position} was not written by Mayfly." for position in seal.foreign]
        faults += written.repeated(found)
        seen = seen or (known is not None and (known.position, known.head) == (seal.position, seal.head))
        entries += len(found)
        last = seal
    if known is not None and not seen:
        faults.append(f"The head from outside of Redis, at {known.position}, is in no seal.")
    unsealed = list(rest.until(None))
    faults += written.repeated(unsealed)
    return Verdict(last, entries + len(unsealed), len(unsealed), tuple(faults))


class _Written:
    """The entries so far: each has a random id, so a repetition of the same bytes does not come from Mayfly."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def repeated(self, links: Iterable[Link]) -> list[str]:
        """The faults of entries that repeat earlier entries."""
        faults = []
        for link in links:
            digest = hashlib.sha256(link.stored).digest()[:16]
            if digest in self._digests:
                faults.append(f"The entry at {link.position} repeats an earlier entry.")
            self._digests.add(digest)
        return faults


class _Rest:
    """The entries that no seal covers yet."""

    def __init__(self, links: Iterable[Link]) -> None:
        self._links = iter(links)
        self._next: Link | None = next(self._links, None)

    def until(self, position: str | None) -> Iterator[Link]:
        """Take the entries up to a position; ``None``: all."""
        while self._next is not None and (position is None or order(self._next.position) <= order(position)):
            yield self._next
            self._next = next(self._links, None)


def _signed(seal: Seal) -> bytes:
    return canonical(seal.model_dump(exclude={"signature"})).encode()
