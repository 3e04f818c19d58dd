"""Routes of log-ins: open to callers without a credential, and bounded by pauses and by the number of hashes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from orchestrator.api.bodies import SmallBody, body_of
from orchestrator.api.dependencies import PartsIn
from orchestrator.api.routes.administration.users import SessionList
from orchestrator.api.security_reporting import address
from orchestrator.identity.users import LONGEST_PASSWORD
from orchestrator.identity.users.sessions import MOST_SESSIONS, Grant
from orchestrator.models import Frozen

router = APIRouter(tags=["sessions"])


class PasswordLogin(Frozen):
    """The name and the password of an own user."""

    name: str = Field(max_length=LONGEST_PASSWORD)
    password: str = Field(max_length=LONGEST_PASSWORD)


class NewPassword(PasswordLogin):
    """The same, and a new password."""

    new_password: str = Field(max_length=LONGEST_PASSWORD, description="15 to 256 bytes of UTF-8.")


class OwnSessions(PasswordLogin):
    """The same, and ids of sessions to end."""

    end: tuple[Annotated[str, Field(pattern="^[0-9a-f]{32}$")], ...] = Field((), max_length=MOST_SESSIONS)


class RefreshToken(Frozen):
    """A refresh token, which names its session."""

    refresh_token: str = Field(max_length=512)


LoginIn = Annotated[PasswordLogin, Depends(SmallBody(PasswordLogin))]
OwnSessionsIn = Annotated[OwnSessions, Depends(SmallBody(OwnSessions))]
NewPasswordIn = Annotated[NewPassword, Depends(SmallBody(NewPassword))]
RefreshTokenIn = Annotated[RefreshToken, Depends(SmallBody(RefreshToken))]


@router.post("/api/v1/auth/login", response_model=Grant, openapi_extra=body_of(PasswordLogin))
async def log_in(request: Request, parts: PartsIn, given: LoginIn) -> Grant:
    """Open a session of an own user: an access token of 15 minutes at most, and a refresh token for the next."""
    return await parts.logins.log_in(given.name, given.password, address(request))


@router.post("/api/v1/auth/password", response_model=Grant, openapi_extra=body_of(NewPassword))
async def change_password(request: Request, parts: PartsIn, given: NewPasswordIn) -> Grant:
    """Replace one's own password. All sessions of the user end, and the answer has the tokens of a new one."""
    return await parts.logins.change_password(given.name, given.password, given.new_password, address(request))


@router.post("/api/v1/auth/sessions", response_model=SessionList, openapi_extra=body_of(OwnSessions))
async def own_sessions(request: Request, parts: PartsIn, given: OwnSessionsIn) -> SessionList:
    """End some of one's own sessions, and list the others. It takes the password: no stolen session ends another."""
    found = await parts.logins.sessions(given.name, given.password, given.end, address(request))
    return SessionList(items=found)


@router.post("/api/v1/auth/refresh", response_model=Grant, openapi_extra=body_of(RefreshToken))
async def refresh(parts: PartsIn, given: RefreshTokenIn) -> Grant:
    """Take a refresh token, and answer with the next tokens.

    The last token that was taken may come again within 30 seconds, if its answer was lost, and gets the same successor.
    Any other token that comes a second time ends its session.
    """
    return await parts.logins.refresh(given.refresh_token)


@router.post("/api/v1/auth/logout", status_code=204, openapi_extra=body_of(RefreshToken))
async def log_out(parts: PartsIn, given: RefreshTokenIn) -> Response:
    """End a session: its tokens count no more with the next request."""
    await parts.logins.log_out(given.refresh_token)
    return Response(status_code=204)


@router.get("/.well-known/jwks.json")
async def key_set(response: Response, parts: PartsIn) -> dict[str, Any]:
    """The public keys that own users' access tokens are signed with, while tokens of each count (RFC 7517)."""
    response.headers["Cache-Control"] = "max-age=60"
    return parts.logins.key_set()
