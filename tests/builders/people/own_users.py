"""Own users of an API, and their sessions."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import httpx2

from orchestrator.host.token_keys import TokenKeys, rotate
from tests.harness import Stack, bearer

USERS = "/api/v1/users"
LOGIN, REFRESH, LOGOUT, PASSWORD, SESSIONS = (
    f"/api/v1/auth/{name}" for name in ("login", "refresh", "logout", "password", "sessions")
)


class OwnUser(NamedTuple):
    """A user with its password."""

    id: str
    name: str
    password: str


class OwnUsers:
    """The own users of an API with keys for access tokens."""

    def __init__(self, api: Stack) -> None:
        self.api, self.key_file = api, api.directory / "state" / "token-keys"
        if not self.key_file.exists():
            rotate(self.key_file)

    @property
    def keys(self) -> TokenKeys:
        """The keys as a thief of the file has them."""
        return TokenKeys(self.key_file)

    def create(self, *roles: str, tenant: str = "default", **headers: str) -> OwnUser:
        name, password = f"u-{secrets.token_hex(6)}", secrets.token_urlsafe(18)
        body = {"name": name, "password": password, "tenant": tenant, "roles": roles or ("developer",)}
        answer = self.api.client.post(USERS, json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return OwnUser(answer.json()["id"], name, password)

    def send(self, path: str, **body: Any) -> httpx2.Response:
        """A request without a credential."""
        return self.api.client.post(path, json=body, headers={"Authorization": ""})

    def log_in(self, user: OwnUser, **changed: str) -> httpx2.Response:
        return self.send(LOGIN, **({"name": user.name, "password": user.password} | changed))

    def session(self, user: OwnUser) -> dict[str, Any]:
        """The tokens of a new session."""
        answer = self.log_in(user)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def status(self, token: str, path: str = "/api/v1/executions") -> int:
        """How a request with an access token is answered."""
        return self.api.client.get(path, headers=bearer(token)).status_code
