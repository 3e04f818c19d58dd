"""Routes of feature switches."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from orchestrator.api.bodies import JsonBody, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.models import Frozen
from orchestrator.models.fleet import Switch, SwitchChange

router = APIRouter(prefix="/api/v1", tags=["fleet"])
ChangeIn = Annotated[SwitchChange, Depends(JsonBody(SwitchChange))]


class SwitchList(Frozen):
    """All switches."""

    items: list[Switch]


@router.get("/switches", response_model=SwitchList)
def switches(parts: PartsIn, caller: Caller) -> SwitchList:
    """List the features that an operator can switch off, and their states."""
    return SwitchList(items=parts.switches.all())


@router.put("/switches/{feature}", response_model=Switch, openapi_extra=body_of(SwitchChange))
def put_switch(feature: str, caller: Caller, change: ChangeIn, parts: PartsIn) -> Switch:
    """Switch a feature off or on without a restart.

    Workers follow with their next heartbeat, all other processes within a second.
    """
    return parts.switches.put(caller, feature, change)
