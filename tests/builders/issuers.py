"""A real OIDC issuer, the provider from npm, and tokens that only a thief of its key could make."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.agents.installed import issuer_program
from tests.harness import Process, eventually, free_port

AUDIENCE = "https://mayfly.example"
CLIENTS: dict[str, dict[str, Any]] = {
    "dev": {"tenant": "t-oidc", "realm": {"roles": ["builders"]}},
    "ops": {"tenant": "t-oidc", "realm": {"roles": ["on-call"]}},
    "none": {"tenant": "t-oidc", "realm": {"roles": ["unknown"]}},
    "homeless": {"realm": {"roles": ["builders"]}},
    "numbered": {"tenant": 7, "realm": {"roles": ["builders"]}},
    "traveller": {"tenant": "../t", "realm": {"roles": ["builders"]}},
    "tangled": {"tenant": "t-oidc", "realm": {"roles": {"builders": True}}},
}
PEOPLE = {"tenant": "t-oidc", "realm": {"roles": ["builders"]}}  # claims of every person


class SigningKey:
    """A private key of an issuer."""

    def __init__(self, kid: str) -> None:
        self.kid, self.private = kid, ec.generate_private_key(ec.SECP256R1())

    def jwk(self, *, private: bool) -> dict[str, Any]:
        key = self.private if private else self.private.public_key()
        made: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)
        return {**made, "kid": self.kid, "use": "sig", "alg": "ES256"}

    def sign(self, claims: dict[str, Any], **headers: Any) -> str:
        named = {"typ": "at+jwt", "kid": self.kid} | headers
        if named["kid"] is None:
            del named["kid"]
        return jwt.encode(claims, self.private, algorithm="ES256", headers=named)


class RealIssuer:
    """The provider as a process; stopped and started again it keeps its address."""

    def __init__(self, directory: Path) -> None:
        self.port, self._log = free_port(), directory / "issuer.log"
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: Process | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Its table in Mayfly's settings."""
        roles = {"builders": "developer", "on-call": "operator"}
        claims = {"tenant_claim": "tenant", "tenants": ["t-oidc"], "roles_claim": "/realm/roles", "roles": roles}
        return {"issuer": self.url, "audience": AUDIENCE, "client_id": "mayfly-cli", **claims}

    def start(self, *keys: SigningKey) -> None:
        given = {
            "port": self.port, "audience": AUDIENCE, "clients": CLIENTS, "people": PEOPLE,
            "keys": [key.jwk(private=True) for key in keys],
        }  # fmt: skip
        self._process = Process([*issuer_program(), json.dumps(given)], {}, self._log)
        eventually(self._answers, "the issuer answers")

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def token(self, client: str, grant: str = "client_credentials", **more: str) -> dict[str, Any]:
        """The issuer's answer to a client."""
        answer = httpx2.post(
            f"{self.url}/token",
            data={"grant_type": grant, **more},
            auth=(client, f"secret-of-{client}"),
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def access_token(self, client: str, **more: str) -> str:
        found: str = self.token(client, **more)["access_token"]
        return found

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Claims like those of the issuer's tokens for `dev`, with some changed; those of ``None`` are left out."""
        now = int(time.time())
        made = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "dev",
            "iat": now,
            "exp": now + 300,
            "jti": "x",
            **CLIENTS["dev"],
        }
        return {name: value for name, value in {**made, **changed}.items() if value is not None}

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/.well-known/openid-configuration").status_code == 200
        except httpx2.TransportError:
            return False
