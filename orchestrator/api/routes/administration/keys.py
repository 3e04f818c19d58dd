"""Routes of API keys: made, listed, revoked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from orchestrator.api.bodies import NewKeyIn, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.api.routes.administration.tenants import Cursor, Limit
from orchestrator.api.routes.executions import IdempotencyKey
from orchestrator.identity.api_keys import ApiKey, NewKey
from orchestrator.models import Frozen

router = APIRouter(prefix="/api/v1/api-keys", tags=["keys"])
KeyPath = Annotated[str, Path(max_length=64, description="The id of an API key.")]


class KeyList(Frozen):
    """One page of API keys, oldest first, without secrets."""

    items: list[ApiKey]
    next_cursor: str | None


class CreatedKey(ApiKey):
    """A new key; ``secret`` is shown this once."""

    secret: str


@router.post("", status_code=201, response_model=CreatedKey, openapi_extra=body_of(NewKey))
def create_key(caller: Caller, wanted: NewKeyIn, parts: PartsIn, idempotency_key: IdempotencyKey = None) -> CreatedKey:
    """A new API key with some scopes, for a tenant. The same Idempotency-Key gives the same key again."""
    key, secret = parts.keys.create(caller, wanted, idempotency_key)
    return CreatedKey(**key.model_dump(), secret=secret)


@router.get("", response_model=KeyList)
def list_keys(parts: PartsIn, caller: Caller, limit: Limit = 50, cursor: Cursor = None) -> KeyList:
    """The API keys of every tenant with the scope `admin`, else of the caller's, each with its last use."""
    items, next_cursor = parts.keys.page(caller, limit, cursor)
    return KeyList(items=items, next_cursor=next_cursor)


@router.delete("/{id}", status_code=204)
def revoke_key(id: KeyPath, parts: PartsIn, caller: Caller) -> Response:
    """A key stops working at once."""
    parts.keys.revoke(caller, id)
    return Response(status_code=204)
