"""Checks of calls: decided by documents that the installation's key has sealed, never by claims of the call.

The execution's sealed specification names its tools; the API has authorized a direct call. Destructive tools need the
declaration's permission. Arguments are checked against the tool's schema.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from orchestrator.broker.upstreams.upstream import Upstream
from orchestrator.broker.weights import Weights
from orchestrator.errors import PlatformError
from orchestrator.models.tools import Catalogue, Tool, ToolCall, ToolFailure
from orchestrator.store.tools.calls import TakenCall
from orchestrator.store.tools.sealing import is_sealed_call
from orchestrator.tools import arguments, grants

MOST_REMEMBERED = 2000  # executions
Grants = tuple[grants.Grant, ...]
ALL: Grants = (grants.ALL,)


class Owner(NamedTuple):
    """The tools of an execution, and its submitting principal."""

    grants: Grants
    principal: str | None


class Accepted(NamedTuple):
    """A permitted call."""

    tool: Tool
    arguments: dict[str, Any]


class Checks:
    """The checks of every call. ``owner`` reads the grants of an execution's verified specification, and may block; it
    raises :class:`PlatformError` for a specification that the installation's key did not seal.
    """

    def __init__(
        self,
        key: bytes,
        owner: Callable[[str, str], Owner],
        catalogues: Callable[[str], tuple[Catalogue, ...]],
        most_bytes: int,
    ) -> None:
        self._key, self._owner, self._catalogues, self._most_bytes = key, owner, catalogues, most_bytes
        self._remembered: OrderedDict[str, Owner] = OrderedDict()
        self._weights = Weights()
        self._suggesting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def accepted(self, taken: TakenCall, upstream: Upstream | None) -> Accepted | ToolFailure:
        """The permitted call, or the reason of a refusal. ``upstream`` None: the server is unknown."""
        call = taken.call
        if not is_sealed_call(call, taken.seal, self._key):
            return ToolFailure(code="tool_denied", message="This installation did not make the call.")
        try:
            allowed = await self._grants_of(call)
        except PlatformError as error:
            return ToolFailure(code="tool_denied", message=f"The call's execution cannot be verified: {error.message}")
        full_name = f"{call.server}.{call.tool}"
        tool = upstream.tool(call.tool) if upstream else None
        if upstream is None or tool is None:
            if upstream is not None and not upstream.tools and upstream.state() == "down":
                return ToolFailure(code="tool_unavailable", message=f"The tool server {call.server} is down.")
            return await self._unknown(full_name, call.tenant, allowed)
        if not grants.allowed(allowed, tool):
            message = f"The execution may not call {full_name}: the submission's `tools` do not name it."
            return ToolFailure(code="tool_denied", message=message)
        if upstream.state() == "quarantined":
            message = f"The tools of {call.server} changed; the operator has not accepted the change yet."
            return ToolFailure(code="tool_denied", message=message)
        if tool.hints.destructive and not tool.hints.read_only and not upstream.server.destructive:
            message = (
                f"{full_name} may destroy data, and the declaration of {call.server} does not allow such tools; the "
                "operator can, by `destructive = true`, or say in `hints` that the tool is harmless."
            )
            return ToolFailure(code="tool_denied", message=message)
        return await self._with_arguments(tool, call, upstream.slow_check)

    async def _unknown(self, full_name: str, tenant: str, allowed: Grants) -> ToolFailure:
        """Suggest names: one call at a time for each tenant, whose tools and programs choose what that costs."""
        async with self._suggesting.setdefault(tenant, asyncio.Lock()):
            return await asyncio.to_thread(self._suggested, full_name, tenant, allowed)

    def _suggested(self, full_name: str, tenant: str, allowed: Grants) -> ToolFailure:
        return arguments.unknown_tool(full_name, grants.usable(self._catalogues(tenant), allowed))

    async def _with_arguments(self, tool: Tool, call: ToolCall, slow_check: asyncio.Lock) -> Accepted | ToolFailure:
        size = len(call.arguments.encode())
        if size > self._most_bytes:
            message = f"The arguments have {size} bytes; the most are {self._most_bytes}."
            return ToolFailure(code="tool_bytes_exceeded", message=message)
        if self._weights.is_quick(tool.input_schema, call.arguments.count(",") + 1):
            checked = arguments.check(tool, call.arguments)
        else:
            async with slow_check:
                checked = await asyncio.to_thread(arguments.check, tool, call.arguments)
        return checked if isinstance(checked, ToolFailure) else Accepted(tool, checked)

    async def _grants_of(self, call: ToolCall) -> Grants:
        if call.execution is None:
            return ALL
        found = self._remembered.get(call.execution)
        if found is None:
            found = await asyncio.to_thread(self._owner, call.execution, call.tenant)
            self._remembered[call.execution] = found
            while len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return found.grants

    def principal(self, taken: TakenCall) -> str | None:
        """The principal of a direct call, or of the execution that made the call; None for a forged call."""
        call = taken.call
        if not is_sealed_call(call, taken.seal, self._key):
            return None
        if call.execution is not None:
            owner = self._remembered.get(call.execution)
            return owner and owner.principal
        return call.principal
