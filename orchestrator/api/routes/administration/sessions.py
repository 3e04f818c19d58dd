"""Routes of log-ins: open to callers without a credential, bounded by pauses and the number of password hashes."""

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
    """The name, the password and the new password of an own user."""

    new_password: str = Field(max_length=LONGEST_PASSWORD, description="15 to 256 bytes of UTF-8.")


class OwnSessions(PasswordLogin):
    """The name and the password of an own user, and ids of sessions to end."""

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
    """Replace the caller's own password. All sessions of the user end; the answer has the tokens of a new session."""
    return await parts.logins.change_password(given.name, given.password, given.new_password, address(request))


@router.post("/api/v1/auth/sessions", response_model=SessionList, openapi_extra=body_of(OwnSessions))
async def own_sessions(request: Request, parts: PartsIn, given: OwnSessionsIn) -> SessionList:
    """End some of the caller's sessions, and list the others. Requires the password, which no stolen session has."""
    found = await parts.logins.sessions(given.name, given.password, given.end, address(request))
    return SessionList(items=found)


@router.post("/api/v1/auth/refresh", response_model=Grant, openapi_extra=body_of(RefreshToken))
async def refresh(parts: PartsIn, given: RefreshTokenIn) -> Grant:
    """Exchange a refresh token for the next tokens.

    The last exchanged token may be sent again within 30 seconds, in case its answer was lost, and gives the same
    successor. Any other reuse of a token ends its session.
    """
    return await parts.logins.refresh(given.refresh_token)


@router.post("/api/v1/auth/logout", status_code=204, openapi_extra=body_of(RefreshToken))
async def log_out(parts: PartsIn, given: RefreshTokenIn) -> Response:
    """End a session: its tokens are refused from the next request on."""
    await parts.logins.log_out(given.refresh_token)
    return Response(status_code=204)


@router.get("/.well-known/jwks.json")
async def key_set(response: Response, parts: PartsIn) -> dict[str, Any]:
    """List the public keys of own users' access tokens, each until its last token has expired (RFC 7517)."""
    response.headers["Cache-Control"] = "max-age=60"
    return parts.logins.key_set()
