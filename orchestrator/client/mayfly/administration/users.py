"""The calls of own users: their administration, and their log-ins."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from mayfly.exchange import API
from mayfly.files import Transfers
from mayfly.results import Document
from mayfly.steps import Send

AUTH = f"{API}/auth"


class Users(Transfers):
    """The calls about own users, which need the scope ``admin``, and log-ins, which need no key."""

    async def create_user(self, name: str, password: str, roles: list[str], tenant: str | None = None) -> Document:
        """A new user with a password. Raises :class:`mayfly.Conflict`, ``user_exists``, for a name in use."""
        body = {"name": name, "password": password, "roles": roles, **({"tenant": tenant} if tenant else {})}
        headers = {"Idempotency-Key": os.urandom(16).hex()}
        return await self._exchange.json(Send("POST", f"{API}/users", json=body, headers=headers))

    async def users(self) -> list[Document]:
        """Every user, oldest first."""
        found: list[Document] = []
        params: dict[str, Any] = {"limit": 200}
        while True:
            page = await self._exchange.json(Send("GET", f"{API}/users", params))
            found += page["items"]
            if not page.get("next_cursor"):
                return found
            params["cursor"] = page["next_cursor"]

    async def user(self, id: str) -> Document:
        """One user."""
        return await self._exchange.json(Send("GET", _user(id)))

    async def change_user(
        self, id: str, *, roles: list[str] | None = None, disabled: bool | None = None, password: str | None = None
    ) -> Document:
        """Change what is given, in force with the user's next request. Another password ends all its sessions."""
        given = {"roles": roles, "disabled": disabled, "password": password}
        body = {name: value for name, value in given.items() if value is not None}
        return await self._exchange.json(Send("PATCH", _user(id), json=body))

    async def delete_user(self, id: str) -> None:
        """Delete a user and its name; its sessions end at once."""
        await self._exchange.answer(Send("DELETE", _user(id)))

    async def log_in(self, name: str, password: str) -> Document:
        """Open a session: ``access_token``, ``expires_in`` seconds, and ``refresh_token``. Never retries.

        Raises :class:`mayfly.Unauthenticated` and :class:`mayfly.RateLimited`, ``login_slowed``.
        """
        request = Send("POST", f"{AUTH}/login", json={"name": name, "password": password})
        return await self._exchange.json(request, retry=False)

    async def change_password(self, name: str, password: str, new_password: str) -> Document:
        """Replace one's own password, which ends all sessions; the tokens of a new session. Never retries."""
        body = {"name": name, "password": password, "new_password": new_password}
        return await self._exchange.json(Send("POST", f"{AUTH}/password", json=body), retry=False)

    async def refresh_login(self, refresh_token: str) -> Document:
        """The next tokens of a session. A refresh token is for one use: its second ends the session. Never retries."""
        request = Send("POST", f"{AUTH}/refresh", json={"refresh_token": refresh_token})
        return await self._exchange.json(request, retry=False)

    async def log_out(self, refresh_token: str) -> None:
        """End a session."""
        await self._exchange.answer(Send("POST", f"{AUTH}/logout", json={"refresh_token": refresh_token}))


def _user(id: str) -> str:
    return f"{API}/users/{quote(id, safe='')}"
