"""``from mayfly import tools``: ``tools.github.list_issues(repo="x")`` calls a tool and returns its result.

The module is replaced by an object, so that each of its attributes is a tool server, whatever its name. Names that are
not identifiers of Python are spelt with ``_`` (``/tools/INDEX`` lists them), or given as keys:
``tools["my-server"]["a.b"]``. ``tools.aio`` has the same servers, whose tools are called with ``await``.
"""

from __future__ import annotations

import json
import sys

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sandbox_image.agent.library import tool_calls
else:
    from . import tool_calls

NAMES = "/tools/names.json"
_names: dict[str, list[str]] = {}


def names() -> dict[str, list[str]]:
    """The server and tool for each ``server.tool`` as Python spells it; empty if there are no stubs."""
    if not _names:
        try:
            with open(NAMES, encoding="utf-8") as file:
                _names.update(json.load(file))
        except OSError:
            pass
    return _names


class Tool:
    """A tool, called with named arguments, or with one dictionary of them."""

    def __init__(self, call: Callable[..., Any], server: str, name: str) -> None:
        self._call, self._path = call, (server, name)

    def __call__(self, arguments: dict[str, Any] | None = None, /, **named: Any) -> Any:
        if arguments is not None and not isinstance(arguments, dict):
            raise TypeError(f"{'.'.join(self._path)} takes named arguments, as in `tool(name=value)`")
        return self._call(*names().get(".".join(self._path), self._path), {**(arguments or {}), **named})

    def __repr__(self) -> str:
        return f"<tool {'.'.join(self._path)}>"


class Server:
    """A tool server: its attributes are its tools."""

    def __init__(self, call: Callable[..., Any], name: str) -> None:
        self._call, self._name = call, name

    def __getattr__(self, name: str) -> Tool:
        if name.startswith("__"):
            raise AttributeError(name)
        return Tool(self._call, self._name, name)

    def __getitem__(self, name: str) -> Tool:
        return Tool(self._call, self._name, name)

    def __dir__(self) -> list[str]:
        return [name.partition(".")[2] for name in names() if name.startswith(f"{self._name}.")]

    def __repr__(self) -> str:
        return f"<tool server {self._name}>"


class Tools:
    """The tools of this execution: the attributes are tool servers."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "aio" and self is _tools:
            return _aio
        return Server(self._call, name)

    def __getitem__(self, name: str) -> Server:
        return Server(self._call, name)

    def __dir__(self) -> list[str]:
        return sorted({name.partition(".")[0] for name in names()})

    def __repr__(self) -> str:
        return f"<tools of {', '.join(dir(self)) or 'no server'}>"


_tools, _aio = Tools(tool_calls.line.call), Tools(tool_calls.line.call_async)
for _name in ("__doc__", "__file__", "__loader__", "__name__", "__package__", "__spec__"):
    vars(_tools)[_name] = globals()[_name]
sys.modules[__name__] = _tools  # type: ignore[assignment]
