"""Tokens that an attacker forges, or makes with a stolen key of the issuer for what it is not for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import serialization

from tests.builders.issuers import SigningKey


def part(value: Any) -> str:
    """A value as a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def changed(token: str, claims: dict[str, Any]) -> str:
    """A token with other claims under its signature."""
    header, _, signature = token.split(".")
    return f"{header}.{part(claims)}.{signature}"


def unsigned(claims: dict[str, Any], kid: str, algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'typ': 'at+jwt', 'kid': kid})}.{part(claims)}."


def hmac_signed(claims: dict[str, Any], kid: str, secret: bytes) -> str:
    signed = f"{part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': kid})}.{part(claims)}"
    mac = hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def pem(key: SigningKey) -> bytes:
    return key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def forged(key: SigningKey, claims: Callable[..., dict[str, Any]]) -> dict[str, str]:
    """Wrong tokens by what is wrong; ``claims`` makes good claims of the issuer with some changed or left out."""
    stranger, url, now = SigningKey(key.kid), claims()["iss"], int(time.time())
    return {
        "alg none": unsigned(claims(), key.kid, "none"),
        "alg None": unsigned(claims(), key.kid, "None"),
        "no signature": unsigned(claims(), key.kid, "ES256"),
        "HS256 with the public key": hmac_signed(claims(), key.kid, pem(key)),
        "HS256 with the key's JWK": hmac_signed(claims(), key.kid, json.dumps(key.jwk(private=False)).encode()),
        "another key of that kid": stranger.sign(claims()),
        "kid is a path": stranger.sign(claims(), kid="../../../../dev/null"),
        "kid is SQL": stranger.sign(claims(), kid="x' UNION SELECT 'key'--"),
        "kid is unknown": key.sign(claims(), kid="k9"),
        "no kid": key.sign(claims(), kid=None),
        "jku": key.sign(claims(), jku=f"{url}/jwks"),
        "x5u": key.sign(claims(), x5u="https://attacker.example/chain.pem"),
        "embedded key": stranger.sign(claims(), jwk=stranger.jwk(private=False)),
        "embedded certificate": stranger.sign(claims(), x5c=["MIIB"]),
        "critical extension": key.sign(claims(), crit=["exp"], exp=1),
        "expired": key.sign(claims(exp=now - 60)),
        "made in the future": key.sign(claims(iat=now + 3600)),
        "not valid yet": key.sign(claims(nbf=now + 3600)),
        "no exp": key.sign(claims(exp=None)),
        "no iat": key.sign(claims(iat=None)),
        "no sub": key.sign(claims(sub=None)),
        "no aud": key.sign(claims(aud=None)),
        "wrong audience": key.sign(claims(aud="https://other.example")),
        "wrong issuer": key.sign(claims(iss="https://attacker.example")),
        "issuer with a slash": key.sign(claims(iss=f"{url}/")),
        "ID token for this audience": key.sign(claims(nonce="n"), typ="JWT"),
        "refresh token": key.sign(claims(typ="Refresh"), typ="JWT"),
        "logout token": key.sign(claims(), typ="logout+jwt"),
        "no type": key.sign(claims(), typ=None),
        "exp is text": key.sign(claims(exp="never")),
        "valid for two days": key.sign(claims(exp=now + 2 * 86400)),
        "exp is huge": key.sign(claims(exp=10**400)),
        "sub is a number": key.sign(claims(sub=5)),
        "no JSON": "a.b.c",
        "deep JSON": f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.e30.x",
        "huge": key.sign(claims(more="x" * 20_000)),
    }
