"""JSON-RPC messages of MCP clients, and the HTTP headers that belong to each. Pure.

Two eras of the protocol are in use. Since version 2026-07-28 each request names its version in ``_meta``, and headers
repeat version, method and name. Older clients agree on a version in ``initialize``, and one header repeats it.
Mayfly's tools require no ``Mcp-Param-…`` headers, so none is sent.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

VERSION_FIELD = "io.modelcontextprotocol/protocolVersion"
CLIENT_FIELD = "io.modelcontextprotocol/clientInfo"
FIRST_MODERN_VERSION = "2026-07-28"
CANCELLED = "notifications/cancelled"
INITIALIZE = "initialize"
LISTEN = "subscriptions/listen"
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
FAILED = -32010  # in JSON-RPC's range for implementations, and not used by MCP
# The parameter that the header Mcp-Name repeats, by method.
NAMES = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
PLAIN_VALUE = re.compile(r"(?!=\?base64\?)[!-~]([ -~]*[!-~])?")
UNUSUAL = re.compile(r"[^\w.+-]+", re.ASCII)
MAX_NAME = 64
Id = str | int | None


class InvalidMessage(Exception):
    """A line is not a JSON-RPC message; ``code`` is JSON-RPC's, ``id`` the message's id if it has one."""

    def __init__(self, code: int, detail: str, id: Id = None) -> None:
        self.code, self.id = code, id
        super().__init__(detail)


class Message(NamedTuple):
    """One message of a client. ``method`` is ``None`` for an answer, ``id`` for a notification."""

    line: bytes
    method: str | None
    id: Id
    params: dict[str, Any]

    @property
    def is_request(self) -> bool:
        """Whether an answer is expected."""
        return self.method is not None and self.id is not None

    @property
    def version(self) -> str | None:
        """The protocol version that the message itself names; ``None`` in the older era."""
        meta = self.params.get("_meta")
        version = meta.get(VERSION_FIELD) if isinstance(meta, dict) else None
        return version if isinstance(version, str) else None

    @property
    def client(self) -> str | None:
        """Name and version of the client, if the message has them; they determine the form of results."""
        meta = self.params.get("_meta")
        newer = meta.get(CLIENT_FIELD) if isinstance(meta, dict) else None
        found = newer or (self.params.get("clientInfo") if self.method == INITIALIZE else None)
        if not isinstance(found, dict):
            return None
        return "/".join(UNUSUAL.sub("-", str(found.get(part, "")))[:MAX_NAME] for part in ("name", "version"))

    @property
    def cancelled_id(self) -> Id:
        """The id of the request that a cancellation concerns."""
        id = self.params.get("requestId")
        return id if isinstance(id, (str, int)) else None


def parse(line: bytes) -> Message:
    """The message in a line. Raises :class:`InvalidMessage`."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(
            PARSE_ERROR, f"The line is not JSON: {error}. Send one JSON-RPC message a line."
        ) from error
    if isinstance(document, list):
        raise InvalidMessage(INVALID_REQUEST, "The line is a batch. Send each message of it on a line of its own.")
    if not isinstance(document, dict) or document.get("jsonrpc") != "2.0":
        raise InvalidMessage(INVALID_REQUEST, 'The line is not a JSON-RPC message: `"jsonrpc": "2.0"` is missing.')
    id, method, params = document.get("id"), document.get("method"), document.get("params", {})
    if isinstance(id, bool) or not isinstance(id, (str, int, type(None))):
        raise InvalidMessage(INVALID_REQUEST, "The message's id is not a string or a whole number.")
    if not isinstance(method, (str, type(None))) or (method is None and id is None):
        raise InvalidMessage(INVALID_REQUEST, "The message's method is not a string.", id)
    return Message(line.strip(), method, id, params if isinstance(params, dict) else {})


def headers(message: Message, agreed_version: str | None) -> dict[str, str]:
    """The headers of the request with a message. ``agreed_version`` is the version of ``initialize``, if sent."""
    all_headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    version = message.version or (agreed_version if message.method != INITIALIZE else None)
    if version is None:
        return all_headers
    all_headers["MCP-Protocol-Version"] = header_value(version)
    if version >= FIRST_MODERN_VERSION and message.method is not None:
        all_headers["Mcp-Method"] = header_value(message.method)
        name = message.params.get(NAMES.get(message.method, ""))
        if isinstance(name, str):
            all_headers["Mcp-Name"] = header_value(name)
    return all_headers


def header_value(text: str) -> str:
    """A text as a header's value: in Base64 unless it is printable ASCII without outer spaces."""
    if PLAIN_VALUE.fullmatch(text):
        return text
    return f"=?base64?{b64encode(text.encode(errors='surrogatepass')).decode()}?="


def failure(id: Id, code: int, message: str, data: Mapping[str, Any] | None = None) -> bytes:
    """An error as the answer to a request."""
    error = {"code": code, "message": message, **({"data": data} if data else {})}
    return json.dumps({"jsonrpc": "2.0", "id": id, "error": error}).encode()


def end_of_subscription(id: Id) -> bytes:
    """The notification that the server ended the stream of a subscription."""
    return json.dumps({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": id}}).encode()
