"""Validation of tokens, and the principal of each. Pure but for the clock.

PyJWT verifies signatures. This module chooses its arguments: one list of algorithms, one key from the issuer's own key
set by ``kid``, and the required claims. A token with its own key or a key's address (``jwk``, ``jku``, ``x5c``,
``x5u``) is refused. So is a token that is not an access token: RFC 9068 marks access tokens by the type ``at+jwt``; for
issuers that are configured with another mark, the marks of ID, refresh and logout tokens are refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NamedTuple

import jwt

from orchestrator.identity import SCOPES, Principal
from orchestrator.identity.authorization import WORKER, scopes_of
from orchestrator.models.issuers import Issuer, value_of

# By kind and curve of the key, so that a token cannot choose another algorithm than its key's.
ALGORITHMS = {
    ("RSA", None): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ALL_ALGORITHMS = frozenset(algorithm for many in ALGORITHMS.values() for algorithm in many)
TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
REQUIRED = ("exp", "iat", "iss", "aud", "sub")
ACCESS_TYPES = ("at+jwt", "application/at+jwt")
PLAIN_TYPES = ("jwt", "")
OTHER_KINDS = ("id", "refresh", "offline", "logout")  # in the claim `typ`, as Keycloak marks its tokens
ID_MARKS = ("nonce", "at_hash", "c_hash", "s_hash", "events")
KEY_HEADERS = ("jwk", "jku", "x5c", "x5u", "crit", "b64")
SCOPE_CLAIMS = ("scope", "scp")  # RFC 8693, and the name that Entra and Okta use
LEEWAY_SECONDS = 30
OWN_ISSUER = "urn:mayfly:users"  # of own users' tokens; not a URL, so different from all issuers
MOST_SECONDS = 86400  # from `iat` to `exp`: issuers revoke a token only by its expiry
MOST_BYTES, MOST_KID, MOST_SUBJECT, MOST_VALUES = 16 * 1024, 256, 255, 1000


class InvalidToken(Exception):
    """A token is not valid here. The text is for the log, not for the caller."""


class Unverified(NamedTuple):
    """The parts of a token that choose its key, before the signature is checked."""

    token: str
    algorithm: str
    type: str
    kid: str
    issuer: str


class Accepted(NamedTuple):
    """Claims that an access token must have."""

    issuer: str
    audience: str
    plain_tokens: bool = False
    required: tuple[str, ...] = REQUIRED
    most_seconds: int = MOST_SECONDS

    @classmethod
    def of(cls, issuer: Issuer) -> Accepted:
        """The claims that tokens of an OIDC issuer must have."""
        return cls(issuer.issuer, issuer.audience, issuer.plain_tokens)


class Key(NamedTuple):
    """A public key of an issuer, and its algorithms."""

    algorithms: tuple[str, ...]
    key: Any


def read(token: str) -> Unverified:
    """Read the parts that choose the key. Raises :class:`InvalidToken`."""
    if len(token) > MOST_BYTES:
        raise InvalidToken("too_long")
    parts = token.split(".")
    header, payload = _json(parts[0]), _json(parts[1])
    kid, algorithm, kind = header.get("kid"), header.get("alg"), header.get("typ", "")
    if not isinstance(algorithm, str) or algorithm not in ALL_ALGORITHMS:
        raise InvalidToken("algorithm")
    if not isinstance(kid, str) or not 0 < len(kid) <= MOST_KID:
        raise InvalidToken("no_kid")
    if found := [name for name in KEY_HEADERS if name in header]:
        raise InvalidToken(f"header_{found[0]}")
    issuer = payload.get("iss")
    if not isinstance(kind, str) or not isinstance(issuer, str):
        raise InvalidToken("malformed")
    return Unverified(token, algorithm, kind.lower(), kid, issuer)


def verified(unverified: Unverified, key: Key, accepted: Accepted) -> dict[str, Any]:
    """The claims of a valid access token. Raises :class:`InvalidToken`."""
    if unverified.algorithm not in key.algorithms:
        raise InvalidToken("algorithm_of_another_key")
    if unverified.type not in ACCESS_TYPES and not (accepted.plain_tokens and unverified.type in PLAIN_TYPES):
        raise InvalidToken("type")
    try:
        claims: dict[str, Any] = jwt.decode(
            unverified.token,
            key.key,
            algorithms=[unverified.algorithm],
            audience=accepted.audience,
            issuer=accepted.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": list(accepted.required)},
        )
        if int(claims["exp"]) - int(claims["iat"]) > accepted.most_seconds:
            raise InvalidToken("lifetime")
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise InvalidToken(type(error).__name__) from error
    if unverified.type not in ACCESS_TYPES and (
        str(claims.get("typ", "")).lower() in OTHER_KINDS or any(name in claims for name in ID_MARKS)
    ):
        raise InvalidToken("not_an_access_token")
    if "cnf" in claims:  # whose proof of possession (RFC 7800) is not checked here, so a thief could send it
        raise InvalidToken("bound_to_a_key")
    return claims


def principal_of(claims: dict[str, Any], issuer: Issuer) -> Principal:
    """The principal of claims, with its tenant and roles. Raises :class:`InvalidToken`."""
    subject, tenant = claims["sub"], issuer.tenant
    if not isinstance(subject, str) or not 0 < len(subject) <= MOST_SUBJECT or not subject.isprintable():
        raise InvalidToken("subject")
    if issuer.tenant_claim is not None:
        tenant = value_of(claims, issuer.tenant_claim)
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            raise InvalidToken("tenant")
        if issuer.tenants and tenant not in issuer.tenants:
            raise InvalidToken("tenant_not_of_issuer")
    mapped = ((issuer.roles_claim, issuer.roles), (issuer.groups_claim, issuer.groups))
    roles = frozenset(table[name] for claim, table in mapped for name in _names(claims, claim, table) if name in table)
    return Principal(
        id=f"oidc:{issuer.issuer}#{subject}",
        tenant=str(tenant),
        roles=roles,
        scopes=_delegated(claims, scopes_of(roles)),
        may_create_tenant=issuer.create_tenants or tenant == issuer.tenant or tenant in issuer.tenants,
    )


def _delegated(claims: dict[str, Any], scopes: frozenset[str]) -> frozenset[str]:
    """The scopes of the roles that a token was made for: those that it names, all if it names none of Mayfly's.

    No role has the scope of workers, not even ``admin``, so no token has it.
    """
    named = [claims[claim] for claim in SCOPE_CLAIMS if claim in claims]
    words = [word for value in named for word in (value.split() if isinstance(value, str) else _texts(value, "scope"))]
    wanted = frozenset(words) & frozenset(SCOPES)
    if not wanted:
        return scopes
    return wanted - {WORKER} if "admin" in scopes else wanted & scopes


def _names(claims: dict[str, Any], claim: str, table: dict[str, Any]) -> list[str]:
    """The values of a claim, which is a text or a list of texts; empty for a claim without configured roles."""
    value = value_of(claims, claim) if table else None
    return [] if value is None else [value] if isinstance(value, str) else _texts(value, "roles")


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or len(value) > MOST_VALUES or not all(isinstance(text, str) for text in value):
        raise InvalidToken(name)
    return value


def _json(part: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidToken("malformed") from error
    if not isinstance(found, dict):
        raise InvalidToken("malformed")
    return found
