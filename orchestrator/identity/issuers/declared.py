"""The issuers that administrators declare while Mayfly runs, sealed in Redis beside those of the settings.

A token of a declared issuer costs one look-up, so a changed or removed issuer counts with the next request of every API
process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from pydantic import Field, ValidationError

from orchestrator.errors import IssuerInSettings, NotFound, TooManyRecords
from orchestrator.identity.seals import Seals
from orchestrator.models.issuers import Issuer
from orchestrator.queries import cursors
from orchestrator.store import Store, keys, scripts
from orchestrator.store.malformed import report_malformed

MOST_ISSUERS = 100
LIST_ID = cursors.list_id("issuers")


class ShownIssuer(Issuer):
    """An issuer with its id."""

    id: str = Field(description="The first 16 hexadecimal digits of the SHA-256 of `issuer`.")
    in_settings: bool = Field(description="Whether the settings of the API have the issuer, and alone change it.")


class DeclaredIssuers:
    """The issuers of the settings and of Redis. Thread-safe."""

    def __init__(self, store: Store, secret: bytes, of_settings: Iterable[Issuer]) -> None:
        self._redis: Any = store.redis
        self._seals = Seals(secret)
        self._put = store.redis.script(scripts.PUT_ISSUER)
        self._of_settings = {id_of(one.issuer): one for one in of_settings}

    def find(self, url: str) -> Issuer | None:
        """The issuer with that URL."""
        return self._found(id_of(url))

    def in_settings(self, url: str) -> bool:
        """Whether the settings have the issuer, so that :meth:`find` has it without a look-up."""
        return id_of(url) in self._of_settings

    def exist(self) -> bool:
        """Whether any issuer is configured."""
        return bool(self._of_settings) or bool(self._redis.hlen(keys.ISSUERS))

    def all(self) -> list[ShownIssuer]:
        """Every issuer, by its URL."""
        stored = ((id.decode(errors="replace"), raw) for id, raw in self._redis.hgetall(keys.ISSUERS).items())
        found = {id: one for id, raw in stored if (one := self._opened(id, raw)) is not None} | self._of_settings
        return sorted((self._shown(one) for one in found.values()), key=lambda one: one.issuer)

    def page(self, limit: int, cursor: str | None) -> tuple[list[ShownIssuer], str | None]:
        """Issuers by their URLs, and the cursor of the next. Raises :class:`ValidationFailed`."""
        after = "" if cursor is None else cursors.opened(cursor, LIST_ID, str)
        rest = [one for one in self.all() if one.issuer > after]
        return rest[:limit], cursors.closed(LIST_ID, rest[limit - 1].issuer) if len(rest) > limit else None

    def get(self, id: str) -> ShownIssuer:
        """One issuer. Raises :class:`NotFound`."""
        found = self._found(id)
        if found is None:
            raise _unknown(id)
        return self._shown(found)

    def put(self, issuer: Issuer, entry: str) -> ShownIssuer:
        """Declare an issuer, or replace its declaration; ``entry``: of the audit log, unless nothing changes.

        Raises :class:`IssuerInSettings` and :class:`TooManyRecords`.
        """
        id = self._changeable(id_of(issuer.issuer))
        stored = self._seals.seal(f"issuer {id}", issuer.model_dump_json())
        if self._put(args=[id, stored, MOST_ISSUERS, entry]) == b"full":
            raise TooManyRecords(bound=MOST_ISSUERS)
        return self._shown(issuer)

    def remove(self, id: str, entry: str) -> None:
        """Remove an issuer. Raises :class:`NotFound` and :class:`IssuerInSettings`."""
        if self._put(args=[self._changeable(id), "", MOST_ISSUERS, entry]) == b"unknown":
            raise _unknown(id)

    def _found(self, id: str) -> Issuer | None:
        return self._of_settings.get(id) or self._opened(id, self._redis.hget(keys.ISSUERS, id))

    def _changeable(self, id: str) -> str:
        if id in self._of_settings:
            raise IssuerInSettings
        return id

    def _shown(self, issuer: Issuer) -> ShownIssuer:
        id = id_of(issuer.issuer)
        return ShownIssuer(**issuer.model_dump(), id=id, in_settings=id in self._of_settings)

    def _opened(self, id: str, stored: bytes | None) -> Issuer | None:
        """An issuer from Redis, if Mayfly stored it under that id."""
        text = self._seals.opened(f"issuer {id}", stored)
        if text is None:
            return None
        try:
            return Issuer.model_validate_json(text)
        except ValidationError as error:
            report_malformed("issuers", type(error).__name__)
            return None


def id_of(url: str) -> str:
    """The id of an issuer."""
    return hashlib.sha256(url.encode(errors="replace")).hexdigest()[:16]


def _unknown(id: str) -> NotFound:
    return NotFound(f"There is no issuer {id!r}.")
