"""The use cases of own users: their records, and their log-ins."""

from __future__ import annotations

from functools import partial
from typing import Any

from anyio import to_thread

from orchestrator.audit import Outcome, Writer
from orchestrator.errors import LocalLoginOff, LoginRefused, NotFound, PasswordChangeRequired, ValidationFailed
from orchestrator.host.token_keys import TokenKey
from orchestrator.identity import Principal
from orchestrator.identity.users import NewUser, Session, User, UserChange, UserRecord
from orchestrator.identity.users.passwords import Passwords
from orchestrator.identity.users.records import UserRequest, Users
from orchestrator.identity.users.sessions import Attempt, Grant, Sessions
from orchestrator.service.administration.tenants import TenantCases

CHANGED = {"must_change_password": False}


class UserCases:
    """Changes of users by administrators. Used in the event loop."""

    def __init__(
        self, users: Users, sessions: Sessions, passwords: Passwords, tenants: TenantCases, audit: Writer
    ) -> None:
        self._users, self._sessions, self._passwords = users, sessions, passwords
        self._tenants, self._audit = tenants, audit

    async def create(self, caller: Principal, wanted: NewUser, request: UserRequest | None) -> User:
        """A new user, and its tenant if absent.

        Raises :class:`ValidationFailed` for its password, and as :meth:`Users.create` does.
        """
        hash = await self._passwords.hash(wanted.password, wanted.name, wanted.tenant)
        await to_thread.run_sync(self._tenants.ensure, caller, wanted.tenant)
        audit = partial(self._entry, caller, "create", owner=wanted.tenant)
        return await to_thread.run_sync(self._users.create, wanted, hash, caller.id, request, audit)

    async def page(self, limit: int, cursor: str | None) -> tuple[list[User], str | None]:
        """A page of users, oldest first, and the cursor of the next."""
        return await to_thread.run_sync(self._users.page, limit, cursor)

    async def get(self, id: str) -> User:
        """One user. Raises :class:`NotFound`."""
        return await to_thread.run_sync(self._users.get, id)

    async def change(self, caller: Principal, id: str, change: UserChange) -> User:
        """Change a user, from its next request on. Raises :class:`NotFound` and :class:`ValidationFailed`."""
        user = await self.get(id)
        changes: dict[str, Any] = change.model_dump(exclude={"password"}, exclude_none=True)
        hash = None if change.password is None else await self._passwords.hash(change.password, user.name, user.tenant)
        entry = self._entry(caller, "change" if hash is None else "password", id, owner=user.tenant)
        await to_thread.run_sync(self._users.change, id, changes, hash, entry)
        return await self.get(id)

    async def delete(self, caller: Principal, id: str) -> None:
        """Delete a user; its sessions end with it. Raises :class:`NotFound`."""
        user = await self.get(id)
        await to_thread.run_sync(self._users.delete, id, self._entry(caller, "delete", id, owner=user.tenant))

    async def sessions(self, id: str) -> list[Session]:
        """The sessions of a user, the oldest first. Raises :class:`NotFound`."""
        await self.get(id)
        return await to_thread.run_sync(self._sessions.of, id)

    async def end_session(self, caller: Principal, id: str, session: str) -> None:
        """End a session of a user. Raises :class:`NotFound`."""
        user = await self.get(id)
        entry = self._audit.entry(caller, "session.end", f"session/{session}", owner=user.tenant)
        if not await to_thread.run_sync(self._sessions.close, id, session, entry):
            raise NotFound(f"There is no session {session!r} of user {id!r}.")

    def _entry(self, caller: Principal, change: str, id: str, *, owner: str) -> str:
        return self._audit.entry(caller, f"user.{change}", f"user/{id}", owner=owner)


class Logins:
    """Log-ins of own users, which need no other credential. Used in the event loop."""

    def __init__(self, users: Users, sessions: Sessions | None, passwords: Passwords, audit: Writer) -> None:
        """``sessions``: ``None`` where own users are switched off."""
        self._users, self._sessions, self._passwords, self._audit = users, sessions, passwords, audit

    async def log_in(self, name: str, password: str, address: str) -> Grant:
        """Open a session.

        Raises :class:`LoginRefused`, :class:`LoginSlowed`, :class:`PasswordChangeRequired` and :class:`LocalLoginOff`.
        """
        sessions, key = self._working()
        attempt = await self._checked(sessions, name, password, address)
        if attempt.user is not None and attempt.user.must_change_password:
            raise PasswordChangeRequired()
        return await self._open(sessions, attempt, attempt.user, key)

    async def change_password(self, name: str, password: str, new: str, address: str) -> Grant:
        """Replace one's own password, which ends all sessions, and open another.

        Raises as :meth:`log_in` does, and :class:`ValidationFailed` for the new password.
        """
        sessions, key = self._working()
        attempt = await self._checked(sessions, name, password, address)
        assert attempt.user is not None  # noqa: S101 - else it was refused
        if new == password:
            refusal = ("new_password", "is the old password; choose another")
            raise ValidationFailed([refusal], "password_unchanged")
        user = attempt.user
        hash = await self._passwords.hash(new, user.name, user.tenant)
        entry = self._audit.entry(user.principal(), "user.password", f"user/{user.id}", owner=user.tenant)
        changed = await to_thread.run_sync(self._users.change, user.id, CHANGED, hash, entry, user.generation)
        return await self._open(sessions, attempt, changed, key)

    async def sessions(self, name: str, password: str, end: tuple[str, ...], address: str) -> list[Session]:
        """End some of one's own sessions, and list the others. Raises as :meth:`log_in` does."""
        sessions, _ = self._working()
        attempt = await self._checked(sessions, name, password, address)
        assert attempt.user is not None  # noqa: S101 - else it was refused
        for session in end:
            entry = self._session_entry("end", attempt.user.principal(), session)
            await to_thread.run_sync(sessions.close, attempt.user.id, session, entry)
        return await to_thread.run_sync(sessions.of, attempt.user.id, attempt)

    async def refresh(self, token: str) -> Grant:
        """The next tokens of a session. Raises :class:`Unauthenticated` and :class:`LocalLoginOff`."""
        sessions, key = self._working()
        return await to_thread.run_sync(sessions.refresh, token, key, self._session_entry)

    async def log_out(self, token: str) -> None:
        """End the session of a refresh token. Raises :class:`Unauthenticated` and :class:`LocalLoginOff`."""
        sessions, _ = self._working()
        await to_thread.run_sync(sessions.end, token, partial(self._session_entry, "end"))

    def key_set(self) -> dict[str, Any]:
        """The public keys of access tokens that count, as a JWK Set."""
        keys = [] if self._sessions is None else self._sessions.keys.counting()
        return {"keys": [key.jwk() for key in keys]}

    def _working(self) -> tuple[Sessions, TokenKey]:
        if self._sessions is None:
            raise LocalLoginOff()
        if (key := self._sessions.keys.current()) is None:
            raise LocalLoginOff("There are no keys for access tokens here; `mayfly admin rotate-keys` makes them.")
        return self._sessions, key

    async def _checked(self, sessions: Sessions, name: str, password: str, address: str) -> Attempt:
        attempt = await to_thread.run_sync(sessions.begin, name, address)
        matches = await self._passwords.matches(attempt.hash, password)
        if not matches or attempt.user is None or attempt.user.disabled:
            raise _refused(attempt)
        return attempt

    async def _open(self, sessions: Sessions, attempt: Attempt, user: UserRecord | None, key: TokenKey) -> Grant:
        if user is not None:
            audit = partial(self._session_entry, "create", user.principal())
            ended = self._audit.entry(
                user.principal(), "session.end", f"user/{user.id}", owner=user.tenant, code="too_many_sessions"
            )
            grant = await to_thread.run_sync(sessions.open, attempt, user, key, audit, ended)
            if grant is not None:
                return grant
        raise _refused(attempt)  # the user was disabled, deleted or given another password meanwhile

    def _session_entry(self, change: str, user: Principal, session: str) -> str:
        outcome: Outcome = "refused" if change == "reuse" else "done"
        return self._audit.entry(user, f"session.{change}", f"session/{session}", owner=user.tenant, outcome=outcome)


def _refused(attempt: Attempt) -> LoginRefused:
    return LoginRefused(attempt.user.id if attempt.user else None, attempt.failed, attempt.pause_seconds)
