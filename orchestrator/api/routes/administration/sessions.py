"""Routes of log-ins: open to callers without a credential, and bounded by pauses and by the number of hashes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from orchestrator.api.bodies import SmallBody, body_of
from orchestrator.api.dependencies import PartsIn
from orchestrator.api.security_reporting import address
from orchestrator.identity.users import LONGEST_PASSWORD
from orchestrator.identity.users.sessions import Grant
from orchestrator.models import Frozen

router = APIRouter(tags=["sessions"])


class PasswordLogin(Frozen):
    """The name and the password of an own user."""

    name: str = Field(max_length=LONGEST_PASSWORD)
    password: str = Field(max_length=LONGEST_PASSWORD)


class NewPassword(PasswordLogin):
    """The same, and a new password."""

    new_password: str = Field(max_length=LONGEST_PASSWORD, description="15 to 256 bytes of UTF-8.")


class RefreshToken(Frozen):
    """A refresh token, which names its session."""

    refresh_token: str = Field(max_length=512)


LoginIn = Annotated[PasswordLogin, Depends(SmallBody(PasswordLogin))]
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


@router.post("/api/v1/auth/refresh", response_model=Grant, openapi_extra=body_of(RefreshToken))
async def refresh(parts: PartsIn, given: RefreshTokenIn) -> Grant:
    """Take a refresh token, and answer with the next tokens. A token that comes a second time ends its session."""
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
