"""``search_tools``: the found tools as one text for a model, within a number of tokens.

Three levels of detail: ``names``, grouped by server; ``signatures``, a line each with the first sentence of the
description; ``definitions``, the server's whole definition. Tools that do not fit are counted, never cut: only a first
definition larger than the whole budget is shown in less detail.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from orchestrator.models import Frozen
from orchestrator.models.tools import Catalogue, Schema, Tool
from orchestrator.tools.grants import Grant, allowed, usable
from orchestrator.tools.index.ranking import Ranking
from orchestrator.tools.names import spelt_tools
from orchestrator.tools.shapes import used_definitions
from orchestrator.tools.signatures import Language, signature
from orchestrator.tools.spelling import similar
from orchestrator.tools.text import clean, one_line, summary

Detail = Literal["names", "signatures", "definitions"]
Count = Callable[[str], int]
DETAILS: tuple[Detail, ...] = ("names", "signatures", "definitions")
LIMIT = 6
MOST_SERVERS = 40  # listed if no tool matches
MOST_ECHOED = 60  # characters of a query that are repeated
MORE_TOKENS = 24  # room for the line that counts the rest
NOT_SEEN: Mapping[str, Schema] = {}


class Query(Frozen):
    """A search: words of the task, or a tool's name; empty matches every tool. ``limit`` is in tools."""

    query: Annotated[str, StringConstraints(max_length=1000)] = ""
    server: Annotated[str, StringConstraints(max_length=64)] | None = None
    detail: Detail = "signatures"
    limit: Annotated[int, Field(ge=1)] = LIMIT


class Match(NamedTuple):
    """A found tool in the form in which it is shown."""

    tool: Tool
    spelt: str
    text: str


class Found(NamedTuple):
    """The shown tools, the number of all matches, and the text with its tokens."""

    matches: tuple[Match, ...]
    total: int
    text: str
    tokens: int


class ToolIndex:
    """An index of the tools that a caller may use. Immutable."""

    def __init__(
        self,
        catalogues: Iterable[Catalogue],
        grants: Collection[Grant],
        seen: Mapping[str, Schema] = NOT_SEEN,
        destructive: Collection[str] | None = None,
        bounds: Collection[Collection[Grant]] = (),
    ) -> None:
        """``bounds``: further grants, each of which must cover a tool as well."""
        all_catalogues = tuple(catalogues)
        found = usable(all_catalogues, grants, destructive)
        self.tools = tuple(tool for tool in found if all(allowed(bound, tool) for bound in bounds))
        self.spelt = spelt_tools(all_catalogues)
        self._ranking, self._seen = Ranking(self.tools), seen

    def named(self, name: str) -> Tool | None:
        """The tool with a full name, or with a spelling."""
        for tool in self.tools:
            if name in (tool.full_name, self.spelt[tool.full_name]):
                return tool
        return None

    def matching(self, query: str, server: str | None = None) -> list[Tool]:
        """All tools that match, the best first. An empty query matches every tool; a tool's name only that tool."""
        wanted = query.strip()
        exact = self.named(wanted) if wanted else None
        found = [exact] if exact else self._ranking.ranked(wanted) if wanted else list(self.tools)
        return [tool for tool in found if server in (None, tool.server, self.spelt[tool.full_name].partition(".")[0])]

    def shown(self, tool: Tool, detail: Detail, language: Language = "python") -> str:
        """One tool in a level of detail."""
        spelt = self.spelt[tool.full_name]
        if detail == "names":
            return spelt
        if detail == "definitions":
            return _definition(tool, spelt)
        line, about = self.signature(tool, language), summary(tool.description)
        mark = "#" if language == "python" else "//"
        return f"{line}{f'  {mark} {about}' if about else ''}"

    def signature(self, tool: Tool, language: Language = "python") -> str:
        """A tool's signature in one line."""
        return signature(tool, self.spelt[tool.full_name], self._seen.get(tool.full_name), language)

    def servers(self) -> dict[str, int]:
        """The number of tools of each server."""
        found: dict[str, int] = {}
        for tool in self.tools:
            found[tool.server] = found.get(tool.server, 0) + 1
        return found


def search(index: ToolIndex, wanted: Query, *, count: Count, max_tokens: int, language: Language = "python") -> Found:
    """The best tools for a query, in a text of at most ``max_tokens``, counted by ``count``."""
    detail = wanted.detail
    found = index.matching(wanted.query, wanted.server)
    if not found:
        text = _nothing(index, wanted, count, max_tokens)
        return Found((), 0, text, count(text))
    best = found[: wanted.limit]
    # Entries are made only while they fit: a definition may have half a megabyte, and the server's author chooses its
    # size.
    shown = (Match(tool, index.spelt[tool.full_name], index.shown(tool, detail, language)) for tool in best)
    first = next(shown)
    fitting = _fitting(chain([first], shown), len(found), count, max_tokens)
    if not fitting and detail != "names":
        fitting = _smaller(index, first, len(found), detail, count, max_tokens, language)
    text = _joined(fitting, len(found), detail)
    tokens = count(text)
    return Found(tuple(fitting), len(found), text, tokens) if tokens <= max_tokens else Found((), len(found), "", 0)


def _fitting(shown: Iterable[Match], number: int, count: Count, max_tokens: int) -> list[Match]:
    """The first matches that fit into the budget together with the line that counts the rest."""
    left = max_tokens - MORE_TOKENS
    fitting: list[Match] = []
    for match in shown:
        left -= count(f"{match.text}\n")
        if left < (0 if fitting or number > 1 else -MORE_TOKENS):
            break
        fitting.append(match)
    return fitting


def _smaller(
    index: ToolIndex, match: Match, number: int, detail: Detail, count: Count, max_tokens: int, language: Language
) -> list[Match]:
    """The best match in less detail, and the tokens that the requested detail would take."""
    note = f"(Its {detail.removesuffix('s')} has {count(match.text)} tokens: raise max_tokens.)"
    smaller: tuple[Detail, ...] = DETAILS[: DETAILS.index(detail)]
    for less in reversed(smaller):
        instead = match._replace(text=f"{index.shown(match.tool, less, language)}\n{note}")
        if fitting := _fitting([instead], number, count, max_tokens):
            return fitting
    return []


def _joined(matches: list[Match], total: int, detail: Detail) -> str:
    lines = _grouped(matches) if detail == "names" else [match.text for match in matches]
    if total > len(matches):
        lines.append(f"{total - len(matches)} more match: be more specific, or raise limit or max_tokens.")
    return "\n".join(lines)


def _grouped(matches: list[Match]) -> list[str]:
    servers: dict[str, list[str]] = {}
    for match in matches:
        server, _, name = match.spelt.partition(".")
        servers.setdefault(server, []).append(name)
    return [f"{server}: {', '.join(names)}" for server, names in servers.items()]


def _nothing(index: ToolIndex, wanted: Query, count: Count, max_tokens: int) -> str:
    """The existing names to suggest, as far as the budget permits."""
    servers = index.servers()
    near = similar(wanted.query.strip(), index.spelt.values())
    near = tuple(name for name in near if index.named(name))
    where = f" on {one_line(wanted.server, MOST_ECHOED)}" if wanted.server else ""
    known = ", ".join(f"{name} ({number})" for name, number in list(servers.items())[:MOST_SERVERS])
    for text in (
        f"No tool matches {json.dumps(one_line(wanted.query, MOST_ECHOED))}{where}."
        + (f" Did you mean {', '.join(near)}?" if near else "")
        + (f" Servers: {known}." if known else " No tool server is declared for this tenant."),
        "No tool matches.",
    ):
        if count(text) <= max_tokens:
            return text
    return ""


def _definition(tool: Tool, spelt: str) -> str:
    """Name, description and schemas as one line of JSON, without invisible characters."""
    whole: dict[str, object] = {"name": spelt, "description": clean(tool.description)}
    whole["input"] = used_definitions(tool.input_schema)
    if tool.output_schema is not None:
        whole["output"] = used_definitions(tool.output_schema)
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    return clean(text, len(text) + 1)
