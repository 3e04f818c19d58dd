"""Renders an execution for a model, within a number of tokens. Pure: no I/O but loading the tokenizer's ranks once.

``render(material, budget_tokens, carrier)`` is the entry. ``carrier`` names the part of a tool's answer that the client
passes to its model. Most clients pass ``content`` (``"text"``); Claude Code passes only ``structuredContent``, if
present (``"structured"``). For an unknown client ``"both"`` has the text in both parts, each with half of the budget.
In all three cases text and structured content together are within the budget.

Call :func:`load` first, in a thread: it takes a quarter of a second, which the first call of ``render`` would take
otherwise. A call takes some milliseconds for output of any size; the tokenizer releases the interpreter's lock.
"""

from __future__ import annotations

from orchestrator.mcp.budget.material import Carrier, Image, Material, Rendered, Stream
from orchestrator.mcp.budget.rendering import images_of, render
from orchestrator.mcp.budget.tokens import count
from orchestrator.mcp.budget.tokens import encoding as load

__all__ = ["Carrier", "Image", "Material", "Rendered", "Stream", "count", "images_of", "load", "render"]
