"""The calls of own users: their administration, and their log-ins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from mayfly.exchange import API
from mayfly.files import Transfers
from mayfly.results import Document
from mayfly.steps import Send

AUTH = f"{API}/auth"


class Users(Transfers):
    """The calls about own users, which need the scope ``admin``, and log-ins, which need no key."""

    async def create_user(
        self,
        name: str,
        password: str,
        roles: list[str],
        tenant: str | None = None,
        *,
        must_change_password: bool = False,
    ) -> Document:
        """A new user with a password, optionally one that the user must replace at the first log-in.

        Raises :class:`mayfly.Conflict`, ``user_exists``, for a name in use.
        """
        body: dict[str, Any] = {"name": name, "password": password, "roles": roles}
        body |= {"tenant": tenant} if tenant else {}
        body |= {"must_change_password": True} if must_change_password else {}
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
        self,
        id: str,
        *,
        roles: list[str] | None = None,
        disabled: bool | None = None,
        password: str | None = None,
        must_change_password: bool | None = None,
    ) -> Document:
        """Change the given fields, from the user's next request on. A new password and disabling end its sessions."""
        given = {
            "roles": roles,
            "disabled": disabled,
            "password": password,
            "must_change_password": must_change_password,
        }
        body = {name: value for name, value in given.items() if value is not None}
        return await self._exchange.json(Send("PATCH", _user(id), json=body))

    async def delete_user(self, id: str) -> None:
        """Delete a user and its name; its sessions end at once."""
        await self._exchange.answer(Send("DELETE", _user(id)))

    async def user_sessions(self, id: str) -> list[Document]:
        """The sessions of a user that have not ended, the oldest first."""
        found: list[Document] = (await self._exchange.json(Send("GET", f"{_user(id)}/sessions")))["items"]
        return found

    async def end_user_session(self, id: str, session: str) -> None:
        """End a session of a user: its tokens are refused from the next request on."""
        await self._exchange.answer(Send("DELETE", f"{_user(id)}/sessions/{quote(session, safe='')}"))

    async def own_sessions(self, name: str, password: str, end: Sequence[str] = ()) -> list[Document]:
        """End some of one's own sessions, and list the others, the oldest first. Never retries."""
        body = {"name": name, "password": password, "end": list(end)}
        answer = await self._exchange.json(Send("POST", f"{AUTH}/sessions", json=body), retry=False)
        found: list[Document] = answer["items"]
        return found

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
        """The next tokens of a session. A refresh token is for one use: a second use ends the session, except within 30
        seconds, so that a request whose answer was lost can be repeated.
        """
        return await self._exchange.json(Send("POST", f"{AUTH}/refresh", json={"refresh_token": refresh_token}))

    async def log_out(self, refresh_token: str) -> None:
        """End a session."""
        await self._exchange.answer(Send("POST", f"{AUTH}/logout", json={"refresh_token": refresh_token}))


def _user(id: str) -> str:
    return f"{API}/users/{quote(id, safe='')}"
