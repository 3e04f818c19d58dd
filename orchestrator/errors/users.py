"""Refusals of own users: their log-ins, and names in use."""

from __future__ import annotations

from orchestrator.errors.requests import RateLimited, RequestError, Unauthenticated


class LocalLoginOff(RequestError):
    """This installation has no users of its own: sign in at its issuer, or send an API key."""

    code = "local_login_off"
    status = 403


class LoginRefused(Unauthenticated):
    """The name or the password is wrong, or the user is disabled."""

    code = "login_refused"

    def __init__(self, user: str | None, failed: int, pause_seconds: float) -> None:
        """``user``: the id of an existing user; ``failed``: its failures, with the pause after them. For logs only."""
        self.user, self.failed, self.pause_seconds = user, failed, pause_seconds
        super().__init__((type(self).__doc__ or "").strip(), wrong_key=True)


class PasswordChangeRequired(RequestError):
    """An administrator set this password: replace it with `mayfly users password` or POST /api/v1/auth/password."""

    code = "password_change_required"
    status = 403


class TokenReused(Unauthenticated):
    """This refresh token was used before; its session was ended."""

    def __init__(self, message: str, *, user: str) -> None:
        """``user``: the owner of the session; for the security log only."""
        self.user = user
        super().__init__(message, wrong_key=True)


class LoginSlowed(RateLimited):
    """Too many log-ins have failed; wait for the seconds in Retry-After."""

    code = "login_slowed"


class UserExists(RequestError):
    """Another user has that name."""

    code = "user_exists"
    status = 409
