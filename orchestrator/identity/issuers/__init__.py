"""Access tokens of OIDC issuers: Mayfly is a resource server (RFC 6750, RFC 9068), and makes no tokens of theirs.

A request with a token is decided without a look-up outside this process: the issuer's keys are in memory. Only a token
with an unknown ``kid`` waits for the issuer, together with all others of that issuer, at most once a minute
(:mod:`.key_sets`). Whatever is wrong with a token, the answer is one and the same 401 (:mod:`.tokens`).
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from orchestrator.errors import Unauthenticated
from orchestrator.identity import REFUSAL, Principal
from orchestrator.identity.issuers.key_sets import KeySet
from orchestrator.identity.issuers.tokens import InvalidToken, Unverified, principal_of, read, verified
from orchestrator.models.issuers import Issuer

log = structlog.get_logger()


class Issuers:
    """The issuers of one API process. Used in its event loop, but for :meth:`recheck`."""

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        self._issuers = {issuer.issuer: (issuer, KeySet(issuer.issuer)) for issuer in issuers}

    def takes(self, token: str) -> bool:
        """Whether a token is for an issuer to judge, rather than an API key."""
        return bool(self._issuers) and token.count(".") == 2

    async def authenticate(self, token: str) -> Principal:
        """The principal of an access token. Raises :class:`Unauthenticated`, for every reason with the same words."""
        try:
            unverified = read(token)
            _, keys = self._issuer(unverified)
            if keys.find(unverified.kid) is None or keys.is_old:
                await keys.refresh(unverified.kid)
            return self._verified(unverified)
        except InvalidToken as error:
            raise self._refused(error) from error

    def creates(self, principal: Principal) -> bool:
        """Whether a principal's issuer may name a tenant that does not exist: one that is configured, or any."""
        issuer, _ = self._issuers[principal.id.removeprefix("oidc:").partition("#")[0]]
        return issuer.create_tenants or principal.tenant == issuer.tenant or principal.tenant in issuer.tenants

    def recheck(self, token: str) -> Principal:
        """The same for a token that was valid, by the keys that are known. Thread-safe."""
        try:
            return self._verified(read(token))
        except InvalidToken as error:
            raise self._refused(error) from error

    def _verified(self, unverified: Unverified) -> Principal:
        issuer, keys = self._issuer(unverified)
        key = keys.find(unverified.kid)
        if key is None:
            raise InvalidToken("unknown_key")
        return principal_of(verified(unverified, key, issuer), issuer)

    def _issuer(self, unverified: Unverified) -> tuple[Issuer, KeySet]:
        found = self._issuers.get(unverified.issuer)
        if found is None:
            raise InvalidToken("unknown_issuer")
        return found

    def _refused(self, error: InvalidToken) -> Unauthenticated:
        log.info("token.refused", reason=str(error))
        return Unauthenticated(REFUSAL, wrong_key=True)
