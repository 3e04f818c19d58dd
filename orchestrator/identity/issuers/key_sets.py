"""The public keys of an issuer: found by discovery, kept in memory, fetched again at an unknown ``kid``.

Theory of operation. All requests of the event loop share the keys. Requests with known keys never wait. The first
request that needs a fetch starts a task, and others await the same task; unknown ``kid`` start at most one fetch a
minute. While the issuer is down, the known keys stay valid. Every ten minutes a task fetches the keys in the
background, so that a key that the issuer revoked becomes invalid.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx2
import jwt
import structlog

from orchestrator.identity.issuers.tokens import ALGORITHMS, MOST_KID, Key

PAUSE_SECONDS = 60.0  # between fetches because of an unknown key
KEPT_SECONDS = 600.0  # until keys are fetched again
TIMEOUT_SECONDS = 5.0
MOST_BYTES, MOST_KEYS, LEAST_RSA_BITS = 2**20, 100, 2048
DISCOVERY = "/.well-known/openid-configuration"
log = structlog.get_logger()


class KeySet:
    """The keys of one issuer."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._keys: dict[str, Key] = {}
        self._tried_at, self._fetched_at = float("-inf"), float("-inf")
        self._task: asyncio.Task[None] | None = None

    def find(self, kid: str) -> Key | None:
        """A key by its id."""
        return self._keys.get(kid)

    @property
    def is_old(self) -> bool:
        """Whether the keys are due for another fetch."""
        return time.monotonic() - self._fetched_at > KEPT_SECONDS

    async def refresh(self, kid: str) -> None:
        """Fetch the keys, at most once a minute. Waits only for an unknown ``kid``."""
        if self._task is None and time.monotonic() - self._tried_at >= PAUSE_SECONDS:
            self._tried_at = time.monotonic()
            self._task = asyncio.create_task(self._fetch())
        if self._task is not None and kid not in self._keys:
            await asyncio.shield(self._task)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                self._keys = await fetched(self._issuer)
                self._fetched_at = time.monotonic()
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError, RecursionError) as error:
            log.warning("issuer.unavailable", issuer=self._issuer, error=f"{type(error).__name__}: {error}"[:300])
        finally:
            self._task = None


async def fetched(issuer: str) -> dict[str, Key]:
    """The usable keys of an issuer, by discovery. Raises ``httpx2.HTTPError`` and ``ValueError``."""
    async with httpx2.AsyncClient(follow_redirects=False, timeout=TIMEOUT_SECONDS) as client:
        document = await _document(client, issuer.rstrip("/") + DISCOVERY)
        if document.get("issuer") != issuer:
            raise ValueError("The discovered document is another issuer's.")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or not (address.startswith("https://") or issuer.startswith("http://")):
            raise ValueError("jwks_uri is not an https URL.")
        return keys_of(await _document(client, address))


def keys_of(document: dict[str, Any]) -> dict[str, Key]:
    """The usable public keys of a JWK Set (RFC 7517), without all others. Raises ``ValueError``."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("The key set has no keys.")
    found = {}
    for jwk in listed[:MOST_KEYS]:
        if isinstance(jwk, dict) and (key := _key(jwk)) is not None:
            found[jwk["kid"]] = key
    return found


def _key(jwk: dict[str, Any]) -> Key | None:
    kid, kind = jwk.get("kid"), jwk.get("kty")
    if not isinstance(kid, str) or not 0 < len(kid) <= MOST_KID or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    usable = ALGORITHMS.get((str(kind), None if kind == "RSA" else str(jwk.get("crv"))), ())
    algorithms = tuple(algorithm for algorithm in usable if jwk.get("alg", algorithm) == algorithm)
    if not algorithms:
        return None
    try:
        key = jwt.PyJWK(jwk, algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return None if kind == "RSA" and key.key_size < LEAST_RSA_BITS else Key(algorithms, key)


async def _document(client: httpx2.AsyncClient, address: str) -> dict[str, Any]:
    async with client.stream("GET", address, headers={"Accept": "application/json"}) as answer:
        answer.raise_for_status()
        body = b""
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise ValueError(f"{address} answers with more than {MOST_BYTES} bytes.")
    if answer.status_code != 200:
        raise ValueError(f"{address} answers with {answer.status_code}.")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError(f"{address} has no JSON object.")
    return found
