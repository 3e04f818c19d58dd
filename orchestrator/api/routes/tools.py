"""The route that searches the tools that programs may call."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import fastapi
from fastapi import APIRouter
from pydantic import ConfigDict, Field

from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.mcp import budget
from orchestrator.models import Frozen
from orchestrator.models.tools import Hints, Schema, ServerName
from orchestrator.tools.index.search import Detail, Match, Query, ToolIndex
from orchestrator.tools.signatures import Language
from orchestrator.tools.text import clean, summary

router = APIRouter(prefix="/api/v1/tools", tags=["tools"])
MOST_TOKENS = 100_000
MOST_TOOLS = 200


class ToolAnswer(Frozen):
    """A tool that programs may call. ``spelling`` is ``server.tool`` as programs write it.

    ``signature`` and the first sentence of ``description`` come with the detail ``signatures``; the whole description
    and the schemas with ``definitions``.
    """

    server: str
    name: str
    spelling: str
    title: str = ""
    description: str = ""
    signature: str | None = None
    input_schema: Schema | None = None
    output_schema: Schema | None = None
    hints: Hints | None = None


class ToolList(Frozen):
    """The best matches of a query. ``text`` is the answer for a model, and ``tokens`` its size; ``total`` counts all
    matches.
    """

    items: list[ToolAnswer]
    total: int
    tokens: int
    text: str


class ToolQuery(Query):
    """A search. Unknown query parameters are ignored."""

    model_config = ConfigDict(extra="ignore")

    query: Annotated[str, Field(max_length=1000, description="Words of the task, or a tool's name. Empty: all.")] = ""
    server: Annotated[ServerName | None, Field(description="Only tools of this server.")] = None
    detail: Annotated[Detail, Field(description="The parts of each tool in the answer.")] = "signatures"
    limit: Annotated[int, Field(ge=1, le=MOST_TOOLS)] = 50
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS, description="The bound on `text`, in tokens.")] = MOST_TOKENS
    language: Annotated[Language, Field(description="The notation of signatures.")] = "python"


@router.get("", response_model=ToolList, response_model_exclude_none=True)
async def search_tools(caller: Caller, parts: PartsIn, wanted: Annotated[ToolQuery, fastapi.Query()]) -> ToolList:
    """Search the tools that the tenant's programs may call: the best first, as many as fit into ``max_tokens``."""
    search, language = parts.tools.search, wanted.language
    call = partial(search, caller, wanted, count=budget.count, max_tokens=wanted.max_tokens, language=language)
    index, found = await parts.threads.run(caller.tenant, call)
    items = [_answer(index, match, wanted.detail, language) for match in found.matches]
    return ToolList(items=items, total=found.total, tokens=found.tokens, text=found.text)


def _answer(index: ToolIndex, match: Match, detail: Detail, language: Language) -> ToolAnswer:
    tool = match.tool
    named = ToolAnswer(server=tool.server, name=tool.name, spelling=match.spelt)
    if detail == "names":
        return named
    known = {"title": clean(tool.title), "signature": index.signature(tool, language), "hints": tool.hints}
    if detail == "signatures":
        return named.model_copy(update={**known, "description": summary(tool.description)})
    whole = {
        "description": clean(tool.description),
        "input_schema": tool.input_schema,
        "output_schema": tool.output_schema,
    }
    return named.model_copy(update={**known, **whole})
