"""Calls of the API about tools, their servers and their answers, in the style of :mod:`mayfly.calls`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from mayfly.exchange import API, execution_path
from mayfly.files import Transfers
from mayfly.results import Document
from mayfly.steps import ANSWER_SECONDS, Send

TOOL_SECONDS = 60.0  # the bound of a direct call, unless the API's operator permits more


class Tooling(Transfers):
    """The calls about tools."""

    async def call_tool(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Call a tool of a tool server directly, once, and return its result as plain data.

        Raises :class:`mayfly.Refused` with the failure's code, such as ``tool_failed``. A call whose answer was lost
        may have done its work.
        """
        body: dict[str, Any] = {"arguments": dict(arguments or {})}
        if timeout_seconds is not None:
            body["timeout_seconds"] = timeout_seconds
        path = f"{API}/tools/{quote(server, safe='')}/{quote(tool)}/calls"
        request = Send("POST", path, json=body, timeout_seconds=ANSWER_SECONDS + (timeout_seconds or TOOL_SECONDS))
        return (await self._exchange.json(request, retry=False))["result"]

    async def send_tool_result(self, id: str, call_id: str, result: Any) -> None:
        """Answer a ``tool_call`` event. The same result may be sent again.

        Raises :class:`mayfly.InvalidRequest` for a result that is too large or violates the tool's output schema, and
        :class:`mayfly.Conflict` if the call has another answer, is too late, or its execution has ended.
        """
        await self._exchange.answer(_tool_result(id, call_id, {"result": result}))

    async def send_tool_error(self, id: str, call_id: str, message: str) -> None:
        """Answer a ``tool_call`` event with a failure, which the program can catch. Raises :class:`mayfly.Conflict`."""
        await self._exchange.answer(_tool_result(id, call_id, {"error": {"message": message}}))

    async def tool_servers(self, *, tenant: str | None = None) -> Document:
        """The tool servers of the key's tenant, or of another: ``items`` with declaration, state and digest."""
        return await self._exchange.json(Send("GET", f"{API}/tool-servers", params=_of(tenant)))

    async def catalogue_changes(self, name: str, *, tenant: str | None = None) -> Document:
        """The changes of a tool server's catalogue: ``items``, newest first. Raises :class:`mayfly.NotFound`."""
        return await self._exchange.json(Send("GET", f"{_path(name)}/changes", params=_of(tenant)))

    async def declare_tool_server(
        self, name: str, declaration: Mapping[str, Any], *, tenant: str | None = None
    ) -> Document:
        """Declare a tool server, or replace its declaration. Raises :class:`mayfly.Conflict` for a file's server."""
        return await self._exchange.json(Send("PUT", _path(name), params=_of(tenant), json=dict(declaration)))

    async def remove_tool_server(self, name: str, *, tenant: str | None = None) -> None:
        """Remove a tool server. Raises :class:`mayfly.NotFound`, or :class:`mayfly.Conflict` for a file's server."""
        await self._exchange.answer(Send("DELETE", _path(name), params=_of(tenant)))

    async def accept_catalogue(self, name: str, digest: str, *, tenant: str | None = None) -> Document:
        """Accept a quarantined catalogue, so that its tools can be called.

        Raises :class:`mayfly.Conflict` if the catalogue changed again.
        """
        request = Send("POST", f"{_path(name)}/accept", params=_of(tenant), json={"digest": digest})
        return await self._exchange.json(request)


def _path(name: str) -> str:
    return f"{API}/tool-servers/{quote(name, safe='')}"


def _of(tenant: str | None) -> dict[str, str]:
    return {} if tenant is None else {"tenant": tenant}


def _tool_result(id: str, call_id: str, body: Document) -> Send:
    return Send("POST", execution_path(id, "tool-results", quote(call_id, safe="")), json=body)
