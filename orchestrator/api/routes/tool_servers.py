"""Routes of tool servers: the tenant's servers, operators' declarations, and direct calls of tools."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from orchestrator.api.bodies import JSON, JsonBody, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.identity import Principal
from orchestrator.identity.authorization import authorize
from orchestrator.models import Frozen
from orchestrator.models.tool_servers import CatalogueChange, Declaration
from orchestrator.service.tool_calls import NewCall
from orchestrator.service.tool_servers import Acceptance, ShownServer

router = APIRouter(prefix="/api/v1", tags=["tools"])
DeclarationIn = Annotated[Declaration, Depends(JsonBody(Declaration))]
AcceptanceIn = Annotated[Acceptance, Depends(JsonBody(Acceptance))]
NEW_CALL = JsonBody(NewCall)
ServerPath = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ToolPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9_./-]{1,128}$")]
Tenant = Annotated[
    str | None, Query(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="A tenant other than the key's own.")
]


class ServerList(Frozen):
    """All tool servers of a tenant."""

    items: list[ShownServer]


class ChangeList(Frozen):
    """Changes of a catalogue, newest first."""

    items: list[CatalogueChange]


@router.get("/tool-servers", response_model=ServerList)
def list_tool_servers(parts: PartsIn, caller: Caller, tenant: Tenant = None) -> ServerList:
    """List the tenant's tool servers, and whether their tools can be called. Another tenant needs the scope `admin`."""
    return ServerList(items=parts.tool_servers.all(_tenant(caller, "tool.read", tenant)))


@router.get("/tool-servers/{name}", response_model=ShownServer)
def show_tool_server(name: ServerPath, parts: PartsIn, caller: Caller, tenant: Tenant = None) -> ShownServer:
    """Show a tool server."""
    return parts.tool_servers.get(_tenant(caller, "tool.read", tenant), name)


@router.put("/tool-servers/{name}", response_model=ShownServer, openapi_extra=body_of(Declaration))
def declare_tool_server(
    name: ServerPath, caller: Caller, declaration: DeclarationIn, parts: PartsIn, tenant: Tenant = None
) -> ShownServer:
    """Declare a tool server, or replace its declaration. Brokers connect it within seconds."""
    return parts.tool_servers.declare(caller, _tenant(caller, "tool_server.change", tenant), name, declaration)


@router.delete("/tool-servers/{name}", status_code=204)
def remove_tool_server(name: ServerPath, parts: PartsIn, caller: Caller, tenant: Tenant = None) -> Response:
    """Remove a tool server and its catalogue."""
    parts.tool_servers.remove(caller, _tenant(caller, "tool_server.change", tenant), name)
    return Response(status_code=204)


@router.get("/tool-servers/{name}/changes", response_model=ChangeList)
def catalogue_changes(name: ServerPath, parts: PartsIn, caller: Caller, tenant: Tenant = None) -> ChangeList:
    """List the changes of the server's catalogue."""
    return ChangeList(items=parts.tool_servers.changes(_tenant(caller, "tool.read", tenant), name))


@router.post("/tool-servers/{name}/accept", response_model=ShownServer, openapi_extra=body_of(Acceptance))
def accept_catalogue(
    name: ServerPath, caller: Caller, accepted: AcceptanceIn, parts: PartsIn, tenant: Tenant = None
) -> ShownServer:
    """Accept a changed catalogue. Until then, a declaration with quarantine blocks calls of its tools."""
    return parts.tool_servers.accept(caller, _tenant(caller, "tool_server.change", tenant), name, accepted.digest)


@router.post("/tools/{server}/{tool:path}/calls", openapi_extra=body_of(NewCall))
async def call_tool(
    server: ServerPath, tool: ToolPath, request: Request, parts: PartsIn, caller: Caller
) -> dict[str, Any]:
    """Call a tool directly, and wait for its result. A client that disconnects cancels the call."""
    async with NEW_CALL.read(request, caller) as (new, _):
        text = await _unless_disconnected(request, parts.tool_calls.call(caller, server, tool, new))
    return Response(f'{{"result":{text}}}', media_type=JSON)  # type: ignore[return-value]


async def _unless_disconnected(request: Request, call: Coroutine[Any, Any, str]) -> str:
    """The call's result. Cancels the call and raises :class:`ClientDisconnect` when the client has gone."""
    calling, leaving = asyncio.ensure_future(call), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({calling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            raise ClientDisconnect
        return calling.result()
    finally:
        for task in (calling, leaving):
            task.cancel()
        await asyncio.wait({calling, leaving})


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _tenant(caller: Principal, action: str, wanted: str | None) -> str:
    tenant = wanted or caller.tenant
    authorize(caller, action, tenant)
    return tenant
