"""Searching the tools that programs may call."""

from __future__ import annotations

from typing import Any, Literal

from mayfly.exchange import Exchange
from mayfly.results import Document, Result, items
from mayfly.steps import Send

TOOLS = "/api/v1/tools"


class ToolDescription(Result):
    """A tool that a program may call: ``spelling`` is ``server.tool`` as programs write it.

    ``signature`` is empty with the detail ``names``; only the detail ``definitions`` has schemas.
    """

    server: str
    name: str
    spelling: str = ""
    title: str = ""
    description: str = ""
    signature: str = ""
    input_schema: Document | None = None
    output_schema: Document | None = None
    hints: Document | None = None

    @classmethod
    def from_document(cls, document: Document) -> ToolDescription:
        """Read the API's JSON."""
        return cls.read(document)


class FoundTools(Result):
    """The best tools for a query.

    ``text`` is the answer for a model, of ``tokens``; ``total`` counts all matches.
    """

    items: tuple[ToolDescription, ...] = ()
    total: int = 0
    tokens: int = 0
    text: str = ""


class ToolSearches:
    """The calls of the API about tools."""

    _exchange: Exchange

    async def search_tools(
        self,
        query: str = "",
        *,
        server: str | None = None,
        detail: Literal["names", "signatures", "definitions"] | str = "signatures",
        limit: int = 50,
        max_tokens: int | None = None,
        language: Literal["python", "javascript"] | str = "python",
    ) -> FoundTools:
        """The tools that programs may call and that match the query best; an empty query matches all.

        ``limit`` is at most 200; ``max_tokens`` bounds the text. ``language`` is the notation of signatures.
        """
        given: dict[str, Any] = {"query": query, "server": server, "max_tokens": max_tokens, "language": language}
        params = {"detail": str(detail), "limit": limit} | {name: value for name, value in given.items() if value}
        document = await self._exchange.json(Send("GET", TOOLS, params=params))
        return FoundTools.read(document, items=tuple(items(document, ToolDescription.from_document)))
