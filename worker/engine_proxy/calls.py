"""The list of calls that a worker may make. Pure.

A request is parsed into one route and its parameters, and the engine gets a request that is written anew from these. So
no header, no other spelling of a path and no second request of a client reaches the engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from orchestrator.host.posture import INSTALLATION_LABEL

MOST_DETAIL = 500  # characters of a refusal, which repeats parts of the request
# Since Docker 20.10. Earlier versions of the API take other bodies, such as a configuration at the start.
VERSION = r"(?P<version>/v1\.(?:4[1-9]|[5-9]\d))"
ID = r"(?P<id>[0-9a-f]{64})"
NAME = r"mayfly-[A-Za-z0-9_.-]{1,200}"
HEADERS = frozenset({b"transfer-encoding", b"expect", b"trailer", b"te"})  # of requests that no worker sends
UPGRADE = {b"connection": b"upgrade", b"upgrade": b"tcp"}


class Refused(Exception):
    """A call that a worker may not make. ``reason`` is a stable code, ``detail`` a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail[:MOST_DETAIL]
        super().__init__(self.detail)


@dataclass(frozen=True)
class Route:
    """One permitted call: method, path after the version, and the values that each parameter may have."""

    name: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    has_body: bool = False


ROUTES = (
    Route("ping", "GET", "/_ping"),
    Route("version", "GET", "/version"),
    Route("info", "GET", "/info"),
    Route("image", "GET", r"/images/(?P<id>sha256:[0-9a-f]{64})/json"),
    Route(
        "list", "GET", "/containers/json",
        {"all": "[01]", "limit": "-1", "size": "0", "trunc_cmd": "0", "filters": ".{1,500}"},
    ),
    Route("create", "POST", "/containers/create", {"name": NAME}, has_body=True),
    Route("attach", "POST", f"/containers/{ID}/attach", dict.fromkeys(("stdin", "stdout", "stderr", "stream"), "1")),
    Route("start", "POST", f"/containers/{ID}/start"),
    Route("inspect", "GET", f"/containers/(?P<id>[0-9a-f]{{64}}|{NAME})/json"),
    Route("update", "POST", f"/containers/{ID}/update", has_body=True),
    Route("wait", "POST", f"/containers/{ID}/wait"),
    Route("kill", "POST", f"/containers/{ID}/kill"),
    Route("remove", "DELETE", f"/containers/{ID}", {"v": "1|True", "link": "False", "force": "1|True"}),
)  # fmt: skip
PATTERNS = [(route, re.compile(f"{VERSION}?{route.path}")) for route in ROUTES]


@dataclass(frozen=True)
class Call:
    """A permitted call. ``target`` is what the engine is asked for; ``subject`` a container's or an image's id."""

    route: Route
    target: str
    version: str = ""
    subject: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.route.name


def parse(method: str, target: str) -> Call:
    """The permitted call of a request line. Raises :class:`Refused`.

    Paths are compared as they are: one with an escape, a double slash or a dot segment is no permitted path.
    """
    path, _, query = target.partition("?")
    for route, pattern in PATTERNS:
        if route.method == method and (found := pattern.fullmatch(path)):
            given = _parameters(route, query)
            groups = found.groupdict()
            written = f"{path}?{urlencode(given)}" if given else path
            return Call(route, written, groups["version"] or "", groups.get("id") or "", given)
    raise Refused("call", f"{method} {path} is not a call that workers make.")


def refuse_headers(headers: Sequence[tuple[bytes, bytes]], route: Route) -> None:
    """Refuse a request whose length or end two readers could take differently. Raises :class:`Refused`."""
    names = [name for name, _ in headers]
    if repeated := sorted({name.decode() for name in names if names.count(name) > 1}):
        raise Refused("headers", f"Repeated headers: {', '.join(repeated)}.")
    if unusual := sorted(name.decode() for name in HEADERS.intersection(names)):
        raise Refused("headers", f"Headers that no worker sends: {', '.join(unusual)}.")
    if (b"upgrade" in names) != (route.name == "attach"):
        raise Refused("headers", "The connection of an attached container is upgraded, and no other.")
    if b"upgrade" in names and UPGRADE.items() - {(name, value.lower()) for name, value in headers}:
        raise Refused("headers", "An attached container has the headers Connection: Upgrade and Upgrade: tcp.")


def strict_json(text: str | bytes) -> Any:
    """JSON without repeated keys, of which readers choose different ones. Raises :class:`Refused`."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise Refused("body", "The body is not JSON.") from error


def refuse_other_filters(filters: str, installation: str) -> None:
    """Refuse a list of other containers than those of this installation. Raises :class:`Refused`."""
    if strict_json(filters) != {"label": [f"{INSTALLATION_LABEL}={installation}"]}:
        raise Refused("query", "Only containers of this installation are listed.")


def _parameters(route: Route, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=20) if query else []
    except ValueError as error:
        raise Refused("query", "The query cannot be read.") from error
    given = dict(pairs)
    if len(given) != len(pairs):
        raise Refused("query", "A parameter comes twice.")
    for name, value in pairs:
        if not re.fullmatch(route.query.get(name, "(?!)"), value):
            raise Refused("query", f"{name!r} is not a parameter of {route.name}, or has another value.")
    return given


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Refused("body", "A key comes twice in the body.")
    return made
