"""The log-ins of this user, by URL of the API: a file with mode 600, and tokens that are refreshed before they expire.

A refresh token is for one use. Commands that run at the same time take turns by a lock; a command that has waited reads
the file again before it refreshes.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mayfly import Client, Unauthenticated
from mayfly.exchange import Token
from orchestrator.cli.console import CommandFailed
from orchestrator.cli.oauth import Refused, ask
from orchestrator.cli.verdict import MISTAKE

ENDED = ("invalid_grant", "unauthenticated")  # the refresh token is permanently invalid
EARLY_SECONDS = 30.0  # before its expiry a token is refreshed


class Login(NamedTuple):
    """One log-in. For an own user the last four are empty. ``user`` is a name for people to read."""

    user: str
    access_token: str
    refresh_token: str
    expires_at: float
    issuer: str = ""
    client_id: str = ""
    audience: str = ""
    token_endpoint: str = ""

    @classmethod
    def of(cls, answer: Mapping[str, Any], user: str, **issuer: str) -> Login:
        """The log-in from an answer with tokens."""
        ends = time.time() + float(answer.get("expires_in") or 300)
        return cls(user, str(answer["access_token"]), str(answer.get("refresh_token") or ""), ends, **issuer)

    def renewed(self, answer: Mapping[str, Any]) -> Login:
        """This log-in with the tokens of an answer; an issuer may keep the refresh token."""
        fresh = Login.of({"refresh_token": self.refresh_token, **answer}, self.user)
        return self._replace(
            access_token=fresh.access_token, refresh_token=fresh.refresh_token, expires_at=fresh.expires_at
        )


class Logins:
    """The file of log-ins."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, url: str) -> Login | None:
        """The log-in at an API."""
        found = self._read().get(_key(url))
        return None if found is None else Login(**found)

    def put(self, url: str, login: Login) -> None:
        """Remember a log-in."""
        with self._locked():
            self._write({**self._read(), _key(url): login._asdict()})

    def remove(self, url: str) -> None:
        """Forget a log-in."""
        with self._locked():
            self._write({name: login for name, login in self._read().items() if name != _key(url)})

    def token_of(self, url: str) -> Token | None:
        """A function that gives a valid access token of the log-in at an API; ``None`` without one."""
        login = self.get(url)
        if login is None:
            return None
        known = login

        def token() -> str:
            nonlocal known
            if known.expires_at - EARLY_SECONDS <= time.time():
                known = self._renewed(url)
            return known.access_token

        return token

    def _renewed(self, url: str) -> Login:
        with self._locked():
            login = self.get(url)
            if login is None:
                raise CommandFailed(f"The log-in at {url} is gone. Type: mayfly login", MISTAKE)
            if login.expires_at - EARLY_SECONDS > time.time():
                return login
            try:
                fresh = login.renewed(_refresh(url, login))
            except (Refused, Unauthenticated) as error:
                if error.code not in ENDED:
                    raise CommandFailed(f"The log-in at {url} could not be refreshed: {error}") from error
                self._write({name: other for name, other in self._read().items() if name != _key(url)})
                raise CommandFailed(f"The log-in at {url} has ended. Type: mayfly login", MISTAKE) from error
            self._write({**self._read(), _key(url): fresh._asdict()})
            return fresh

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w", encoding="ascii") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found: dict[str, dict[str, Any]] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise CommandFailed(f"{self._path} is not JSON. Remove the file, and type: mayfly login") from error
        return found

    def _write(self, logins: Mapping[str, Any]) -> None:
        fresh = self._path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(logins, file)
        fresh.replace(self._path)


def _refresh(url: str, login: Login) -> Mapping[str, Any]:
    """The answer with the next tokens. Raises :class:`Refused`, :class:`Unauthenticated` and :class:`CommandFailed`."""
    if not login.refresh_token:
        raise Refused("invalid_grant", "there is no refresh token")
    if not login.issuer:
        with Client(url, "") as client:
            return client.refresh_login(login.refresh_token)
    resource = {"resource": login.audience} if login.audience else {}
    form = {"grant_type": "refresh_token", "client_id": login.client_id, "refresh_token": login.refresh_token}
    return ask(login.token_endpoint, form | resource)


def _key(url: str) -> str:
    return url.rstrip("/")
