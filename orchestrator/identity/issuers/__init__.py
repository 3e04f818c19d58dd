"""Access tokens, of OIDC issuers and of own users: Mayfly is a resource server (RFC 6750, RFC 9068) of both.

A token of an issuer in the settings is decided within this process: the issuer's keys are in memory. Only requests with
an unknown ``kid`` wait for the issuer, all for the same fetch, at most once a minute (:mod:`.key_sets`). Issuers that
administrators have declared are looked up in Redis (:mod:`.declared`), as are tokens of own users, which have sessions
(:mod:`orchestrator.identity.users.sessions`). Every invalid token gets the same 401 (:mod:`.tokens`).
"""

from __future__ import annotations

from typing import Protocol

import structlog
from anyio import to_thread

from orchestrator.errors import Unauthenticated
from orchestrator.identity import REFUSAL, Principal
from orchestrator.identity.issuers.key_sets import KeySet
from orchestrator.identity.issuers.tokens import (
    OWN_ISSUER,
    Accepted,
    InvalidToken,
    Unverified,
    principal_of,
    read,
    verified,
)
from orchestrator.models.issuers import Issuer

log = structlog.get_logger()


class OwnTokens(Protocol):
    """Access tokens of own users."""

    def principal(self, unverified: Unverified, /) -> Principal:
        """The user of a token. Raises :class:`InvalidToken` and :class:`TenantDisabled`. Thread-safe."""
        ...


class KnownIssuers(Protocol):
    """The configured issuers. Thread-safe."""

    def find(self, url: str, /) -> Issuer | None:
        """The issuer with that URL, by a look-up in Redis unless the settings have it."""
        ...

    def in_settings(self, url: str, /) -> bool:
        """Whether the settings have the issuer."""
        ...


class Issuers:
    """The issuers of one API process, including Mayfly itself if it has own users.

    All methods but :meth:`principal` run in the event loop.
    """

    def __init__(self, known: KnownIssuers, own: OwnTokens | None = None) -> None:
        self._known, self._own = known, own
        self._key_sets: dict[str, KeySet] = {}

    def takes(self, token: str) -> bool:
        """Whether a token is an access token, not an API key."""
        return token.count(".") == 2

    async def prepare(self, token: str) -> None:
        """Fetch the keys of a token's issuer if the token's key is unknown, or if they are old.

        Raises :class:`Unauthenticated`.
        """
        try:
            unverified = read(token)
            if self._own is not None and unverified.issuer == OWN_ISSUER:
                return
            keys = self._key_sets.get(unverified.issuer)
            if keys is not None and keys.find(unverified.kid) is not None and not keys.is_old:
                return
            if self._known.in_settings(unverified.issuer):
                self._issuer(unverified)
            else:
                await to_thread.run_sync(self._issuer, unverified)
            await self._key_sets.setdefault(unverified.issuer, KeySet(unverified.issuer)).refresh(unverified.kid)
        except InvalidToken as error:
            raise self._refused(error) from error

    def names_tenant(self, principal: Principal) -> bool:
        """Whether a claim names the principal's tenant, whose record is still to be read."""
        return principal.id.startswith("oidc:")

    def principal(self, token: str) -> Principal:
        """The principal of an access token, by the known keys. Thread-safe.

        Raises :class:`Unauthenticated`, with one message for every reason, and :class:`TenantDisabled` (own users).
        """
        try:
            unverified = read(token)
            own = self._own if unverified.issuer == OWN_ISSUER else None
            return self._verified(unverified) if own is None else own.principal(unverified)
        except InvalidToken as error:
            raise self._refused(error) from error

    def _verified(self, unverified: Unverified) -> Principal:
        issuer, keys = self._issuer(unverified), self._key_sets.get(unverified.issuer)
        if keys is None or (key := keys.find(unverified.kid)) is None:
            raise InvalidToken("unknown_key")
        return principal_of(verified(unverified, key, Accepted.of(issuer)), issuer)

    def _issuer(self, unverified: Unverified) -> Issuer:
        found = self._known.find(unverified.issuer)
        if found is None:
            raise InvalidToken("unknown_issuer")
        return found

    def _refused(self, error: InvalidToken) -> Unauthenticated:
        log.info("token.refused", reason=str(error))
        return Unauthenticated(REFUSAL, wrong_key=True)
