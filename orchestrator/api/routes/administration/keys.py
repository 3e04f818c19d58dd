"""Routes of API keys: create, list, revoke."""

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
    """A new key; only this answer has its ``secret``."""

    secret: str


@router.post("", status_code=201, response_model=CreatedKey, openapi_extra=body_of(NewKey))
def create_key(caller: Caller, wanted: NewKeyIn, parts: PartsIn, idempotency_key: IdempotencyKey = None) -> CreatedKey:
    """Create an API key with scopes, for a tenant. The same Idempotency-Key gives the same key again."""
    key, secret = parts.keys.create(caller, wanted, idempotency_key)
    return CreatedKey(**key.model_dump(), secret=secret)


@router.get("", response_model=KeyList)
def list_keys(parts: PartsIn, caller: Caller, limit: Limit = 50, cursor: Cursor = None) -> KeyList:
    """List API keys with their last use: of all tenants with the scope `admin`, otherwise of the caller's tenant."""
    items, next_cursor = parts.keys.page(caller, limit, cursor)
    return KeyList(items=items, next_cursor=next_cursor)


@router.delete("/{id}", status_code=204)
def revoke_key(id: KeyPath, parts: PartsIn, caller: Caller) -> Response:
    """Revoke a key: the next request with the key is refused."""
    parts.keys.revoke(caller, id)
    return Response(status_code=204)
