"""Routes of own users, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from orchestrator.api.bodies import JsonBody, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.api.routes.executions import IdempotencyKey
from orchestrator.identity.users import NewUser, Session, User, UserChange
from orchestrator.identity.users.records import UserRequest
from orchestrator.models import Frozen

router = APIRouter(prefix="/api/v1/users", tags=["users"])
UserPath = Annotated[str, Path(max_length=64, description="The id of a user.")]
SessionPath = Annotated[str, Path(max_length=64, description="The id of a session.")]
NewUserIn = Annotated[NewUser, Depends(JsonBody(NewUser))]
UserChangeIn = Annotated[UserChange, Depends(JsonBody(UserChange))]


class UserList(Frozen):
    """One page of users, oldest first."""

    items: list[User]
    next_cursor: str | None


class SessionList(Frozen):
    """All sessions of a user, oldest first."""

    items: list[Session]
    next_cursor: None = None


@router.post("", status_code=201, response_model=User, openapi_extra=body_of(NewUser))
async def create_user(
    caller: Caller, wanted: NewUserIn, parts: PartsIn, idempotency_key: IdempotencyKey = None
) -> User:
    """Create a user with a password. The same Idempotency-Key gives the same user again."""
    request = None
    if idempotency_key is not None:
        request = UserRequest(caller.id, idempotency_key, wanted.model_dump_json().encode())
    return await parts.users.create(caller, wanted, request)


@router.get("", response_model=UserList)
async def list_users(
    parts: PartsIn,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> UserList:
    """List the users of all tenants."""
    items, next_cursor = await parts.users.page(limit, cursor)
    return UserList(items=items, next_cursor=next_cursor)


@router.get("/{id}", response_model=User)
async def user(id: UserPath, parts: PartsIn, caller: Caller) -> User:
    """Show a user."""
    return await parts.users.get(id)


@router.patch("/{id}", response_model=User, openapi_extra=body_of(UserChange))
async def change_user(id: UserPath, caller: Caller, change: UserChangeIn, parts: PartsIn) -> User:
    """Change a user's roles or password, disable or enable the user; in force with the user's next request."""
    return await parts.users.change(caller, id, change)


@router.delete("/{id}", status_code=204)
async def delete_user(id: UserPath, caller: Caller, parts: PartsIn) -> Response:
    """Delete a user and its name; its sessions end at once."""
    await parts.users.delete(caller, id)
    return Response(status_code=204)


@router.get("/{id}/sessions", response_model=SessionList)
async def list_sessions(id: UserPath, parts: PartsIn, caller: Caller) -> SessionList:
    """List the sessions of a user that have not ended."""
    return SessionList(items=await parts.users.sessions(id))


@router.delete("/{id}/sessions/{session}", status_code=204)
async def end_session(id: UserPath, session: SessionPath, caller: Caller, parts: PartsIn) -> Response:
    """End a session of a user: its tokens are refused from the next request on."""
    await parts.users.end_session(caller, id, session)
    return Response(status_code=204)
