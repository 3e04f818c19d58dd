"""The audit log in Redis: a stream of entries, and a stream of seals whose ids are the sealed positions.

XADD gives each entry an id from Redis, so a new entry always follows the entries that were already read. Only
:meth:`AuditLog.trim` removes entries, up to a seal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError

from orchestrator import metrics
from orchestrator.audit import AuditEntry, Writer
from orchestrator.audit.chain import Link, Seal, Signer, extend, is_signed
from orchestrator.models.security import SecurityEvent
from orchestrator.models.stream import START, order
from orchestrator.store import Store, keys, scripts
from orchestrator.store.malformed import report_malformed
from orchestrator.store.security import LogBounds

PAGE = 1000
SCANNED_PAGES = 10
SHOWN = 10  # positions of seals, in an event and in the next seal
log = structlog.get_logger()


class AuditRecord(NamedTuple):
    """An entry, its position, which begins with the time in milliseconds since the epoch, and its stored bytes."""

    position: str
    entry: AuditEntry
    stored: bytes


class AuditPage(NamedTuple):
    """A page of entries. ``position``: of the last examined entry; ``more``: whether further entries follow."""

    items: list[AuditRecord]
    position: str
    more: bool


class AuditLog:
    """Appends, reads and seals. Thread-safe, except that one thread at a time seals."""

    def __init__(self, store: Store, secret: bytes, bounds: LogBounds) -> None:
        self._store, self._bounds = store, bounds
        self._redis: Any = store.redis
        self.writer, self._signer = Writer(secret), Signer(secret)
        self._append = store.redis.script(scripts.APPEND_AUDIT)
        self._seal = store.redis.script(scripts.SEAL_AUDIT)
        self._trim = store.redis.script(scripts.TRIM_AUDIT)
        self._known: Seal | None = None  # the last valid seal that this process knows
        self._invalid: tuple[str, ...] = ()  # invalid seals, of which there is an event

    @property
    def public_key(self) -> str:
        """The public key that verifies seals, in base64."""
        return self._signer.public_key

    def append(self, entry: str) -> None:
        """Append an entry without a change, such as a refusal. Raises :class:`StoreUnavailable`."""
        self._append(args=[entry])

    def read(
        self, wanted: Callable[[AuditEntry], bool], after: str = START, count: int = 50, *, scanned: int = SCANNED_PAGES
    ) -> AuditPage:
        """Up to ``count`` wanted entries after a position, oldest first.

        A call reads a bounded number of entries, so a page may be empty although more entries follow.
        """
        found: list[AuditRecord] = []
        position = after
        for _ in range(scanned):
            links = self.links(position, PAGE)
            for link in links:
                if len(found) == count:
                    return AuditPage(found, position, True)
                position = link.position
                entry = _entry(link)
                if entry is not None and wanted(entry):
                    found.append(AuditRecord(position, entry, link.stored))
            if len(links) < PAGE:
                return AuditPage(found, position, False)
        return AuditPage(found, position, True)

    def links(self, after: str, count: int = PAGE) -> list[Link]:
        """Up to ``count`` stored entries after a position."""
        rows = self._redis.xrange(keys.AUDIT, f"({after}", "+", count)
        return [Link(row[0].decode(), row[1].get(b"d", b"")) for row in rows]

    def seals(self, after: str = START, count: int = PAGE) -> list[Seal]:
        """Up to ``count`` seals after a position; malformed seals are reported and omitted."""
        rows = self._redis.xrange(keys.AUDIT_SEALS, f"({after}", "+", count)
        return list(_readable(rows))

    def base(self) -> Seal | None:
        """The base of the chain, after the removal of older entries."""
        stored = self._redis.hget(keys.AUDIT_BASE, "s")
        return next(_readable([(b"base", {b"s": stored})]), None) if stored else None

    def last_seal(self) -> Seal:
        """The last valid seal; the base, or an empty seal, if there is none."""
        return self._last()[0]

    def seal(self) -> Seal | None:
        """Seal the entries since the last seal; ``None`` without new entries.

        Reported as ``queue_tampering`` are seals of this process that Redis has lost, and seals that Mayfly did not
        make. The next seal names the latter, and covers all entries after the last valid seal. Raises
        :class:`StoreUnavailable`.
        """
        last, top, invalid = self._last()
        if self._known is not None and order(last.position) < order(self._known.position):
            self._report(
                f"The audit log has lost its entries after {last.position}; {self._known.position} was sealed."
            )
        self._known = last
        if invalid and invalid != self._invalid:
            self._report(f"The seals at {', '.join(invalid[:SHOWN])} of the audit log were not made by Mayfly.")
        self._invalid = invalid
        if not self._is_behind(top):
            return None
        made = last
        foreign: list[str] = []
        while order(made.position) <= order(top):
            links = self.links(made.position)
            foreign += [link.position for link in links if not self.writer.wrote(link.stored)]
            made = Seal(position=links[-1].position, head=extend(made.head, links), entries=made.entries + len(links))
        found = {"previous": last.head, "sealed_at": time.time(), "foreign": (*invalid[:SHOWN], *foreign)}
        made = self._signer.sign(made.model_copy(update=found))
        if not self._seal(args=[top, made.position, made.model_dump_json()]):
            return None  # another process has sealed these entries
        self._known = made
        metrics.audit_entries.inc(made.entries - last.entries)
        log.info("audit.sealed", position=made.position, head=made.head, entries=made.entries)
        for position in foreign:
            self._report(f"The entry at {position} of the audit log was not written by Mayfly.")
        return made

    def trim(self, now: float) -> Seal | None:
        """Remove entries beyond the bounds, up to a seal, which becomes the base. ``now``: seconds since the epoch."""
        beyond = self._redis.xlen(keys.AUDIT) - self._bounds.entries
        first = self._last_before(now - self._bounds.seconds, beyond)
        if first is None:
            return None
        base = self._signer.sign(first.model_copy(update={"kind": "base", "sealed_at": now}))
        milliseconds, number = order(base.position)
        self._trim(args=[base.position, base.model_dump_json(), f"{milliseconds}-{number + 1}"])
        log.info("audit.trimmed", position=base.position, head=base.head)
        return base

    def _last_before(self, oldest: float, beyond: int) -> Seal | None:
        """The last seal whose entries are too old, or too many."""
        base = self.base()
        start = removed = base.entries if base else 0
        found, position = None, START
        while seals := self.seals(position):
            for seal in seals:
                if order(seal.position)[0] >= oldest * 1000 and removed - start >= beyond:
                    return found
                removed = seal.entries
                found, position = seal, seal.position
        return found

    def _is_behind(self, position: str) -> bool:
        """Whether there are entries after a position; usually there are none."""
        newest = self._redis.xrevrange(keys.AUDIT, "+", "-", 1)
        return bool(newest) and order(newest[0][0].decode()) > order(position)

    def _last(self) -> tuple[Seal, str, tuple[str, ...]]:
        """The last valid seal, the position of the last of all seals, and the invalid seals after the valid one."""
        top: str | None = None
        invalid: list[str] = []
        end = "+"
        while rows := self._redis.xrevrange(keys.AUDIT_SEALS, end, "-", 1 if top is None else PAGE):
            for row in rows:
                position = row[0].decode()
                top = top or position
                seal = next(_readable([row]), None)
                if seal is not None and (seal == self._known or is_signed(seal, self.public_key)):
                    return seal, top, tuple(invalid)
                invalid.append(position)
            end = f"({position}"
        base = self.base() or Seal()
        return base, top or base.position, tuple(invalid)

    def _report(self, detail: str) -> None:
        self._store.security.add(SecurityEvent("queue_tampering", detail), tenant=None, source="janitor")


def _entry(link: Link) -> AuditEntry | None:
    try:
        return AuditEntry.model_validate_json(link.stored.partition(b" ")[2])
    except ValidationError as error:
        report_malformed("audit log", f"{link.position}: {type(error).__name__}")
        return None


def _readable(rows: list[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[Seal]:
    for position, fields in rows:
        try:
            yield Seal.model_validate_json(fields.get(b"s", b""))
        except ValidationError as error:
            report_malformed("audit seals", f"{position!r}: {type(error).__name__}")
