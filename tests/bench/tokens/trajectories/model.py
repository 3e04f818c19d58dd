"""A trajectory: what a user asks, and the calls of tools that a model makes until it answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

READING = re.compile(
    r"(?:^|[_.-])(?:get|list|read|search|find|query|view|show|fetch|describe|calculate|check|count|diff|ls|cd|pwd|grep|"
    r"head|tail|cat|sort|wc|du|display|estimate|lookup|compute|info|snapshot|status|download)(?:$|[_.-])",
    re.IGNORECASE,
)


class Call(NamedTuple):
    """One call: the tool as ``server.tool``, its arguments, and its result as plain data."""

    tool: str
    arguments: dict[str, Any]
    result: Any
    failed: bool = False

    @property
    def reads(self) -> bool:
        """Whether the tool's name is that of a tool that changes nothing."""
        return READING.search(self.tool.partition(".")[2]) is not None


class Exchange(NamedTuple):
    """One message of the user, and the model's turns until its answer; a turn may have several calls."""

    user: str
    turns: tuple[tuple[Call, ...], ...]
    answer: str = ""

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls in their order."""
        return tuple(call for turn in self.turns for call in turn)


class Trajectory(NamedTuple):
    """A run of a task. ``catalogue`` is what the definitions of its tools cost, in tokens."""

    id: str
    exchanges: tuple[Exchange, ...]
    catalogue: int

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls in their order."""
        return tuple(call for exchange in self.exchanges for call in exchange.calls)


def text_of(value: Any) -> str:
    """A result as a model reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def leaves(value: Any) -> Iterator[Any]:
    """The scalars in a value."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value
