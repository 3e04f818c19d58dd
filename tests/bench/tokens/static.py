"""Part 1: what the catalogues of 20 servers cost a model before its first call.

Four ways, counted in o200k_base:

- *direct*: every definition (name, description, input schema) in each conversation, as most clients send them.
- *tool search*: the client defers definitions and gives the model a search tool; each search loads the five best
  definitions. ``names`` clients also list the names of deferred tools. The search is Mayfly's, so that only the form
  differs, and the search tool's own definition counts as long as Mayfly's.
- *signatures*: a line for each tool, all of them.
- *Mayfly*: the definition of ``search_tools``, and the answers of its searches; again with the other tools of Mayfly's
  MCP server, which a client without other servers would not have.

A search that does not find the meant tool is followed by a second: the next five definitions, or an answer of 1,000
tokens with 30 results. A definition that is loaded already costs nothing again; an answer in text does.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.mcp.budget import count
from orchestrator.mcp.definitions import BY_NAME
from orchestrator.models.tools import Tool
from orchestrator.tools.index.search import Query, ToolIndex, search
from tests.bench.tokens.catalogues import Listed, catalogues, listed
from tests.bench.tokens.distribution import HEADINGS, Distribution, table
from tests.bench.tokens.questions import QUESTIONS

LOADED = 5  # definitions that one search of a client with tool search loads
BUDGET, AGAIN_BUDGET, AGAIN_LIMIT = 500, 1000, 30
SEED = 18
TASKS = 200
SIZES = (1, 3, 6)  # different tools that a task needs


class Server(NamedTuple):
    """One server's catalogue in tokens."""

    listed: Listed
    direct: int
    with_output: int
    signatures: int
    names: int


class Task(NamedTuple):
    """The tokens of one task before its first call: with a client's tool search, and with ours."""

    searched: int
    searched_with_names: int
    ours: int
    ours_with_all: int


class Question(NamedTuple):
    """One question: definitions that searches load, the tokens of our answers, and whether one search was enough."""

    loaded: frozenset[str]
    answered: int
    is_shown: bool


class Static:
    """The figures of part 1."""

    def __init__(self) -> None:
        self.index = ToolIndex(catalogues(), ("*",))
        self.servers = [self._server(server) for server in listed()]
        self.direct = sum(server.direct for server in self.servers)
        self.signatures = sum(server.signatures for server in self.servers)
        names = search(self.index, Query(limit=1000, detail="names"), count=count, max_tokens=10_000)
        self.names = names.tokens
        tools = [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in BY_NAME.values()]
        self.all_tools = count(_json(tools))
        self.tool = count(_json(tools[list(BY_NAME).index("search_tools")]))
        self._definitions = {tool.full_name: _definition_tokens(tool) for tool in self.index.tools}
        self._questions = [self._question(question, meant) for question, meant in QUESTIONS]

    def _server(self, server: Listed) -> Server:
        lines = [self.index.shown(tool, "signatures") for tool in server.catalogue().tools]
        names = [self.index.spelt[tool.full_name] for tool in server.catalogue().tools]
        return Server(
            server,
            sum(direct_tokens(tool) for tool in server.tools),
            sum(direct_tokens(tool) + count(_json(tool.get("outputSchema", ""))) for tool in server.tools),
            count("\n".join(lines)),
            count("\n".join(names)),
        )

    def _question(self, question: str, meant: str) -> Question:
        first = search(self.index, Query(query=question), count=count, max_tokens=BUDGET)
        ranked = [tool.full_name for tool in self.index.matching(question)]
        loaded, answered = ranked[:LOADED], first.tokens
        is_shown = meant in [match.tool.full_name for match in first.matches]
        if meant not in loaded:
            loaded = ranked[: 2 * LOADED]
        if not is_shown:
            again = Query(query=question, limit=AGAIN_LIMIT)
            answered += search(self.index, again, count=count, max_tokens=AGAIN_BUDGET).tokens
        return Question(frozenset(loaded), answered, is_shown)

    def found_at_once(self) -> int:
        """The questions whose meant tool the first answer shows."""
        return sum(question.is_shown for question in self._questions)

    def tasks(self, size: int) -> list[Task]:
        """Tasks that need ``size`` different tools: all questions, or ``TASKS`` of them drawn by the seed."""
        if size == 1:
            return [self._task([question]) for question in self._questions]
        drawn = random.Random(SEED)
        return [self._task(drawn.sample(self._questions, size)) for _ in range(TASKS)]

    def _task(self, questions: Sequence[Question]) -> Task:
        names = {name for question in questions for name in question.loaded}
        searched = self.tool + sum(self._definitions[name] for name in names)
        answered = sum(question.answered for question in questions)
        return Task(searched, searched + self.names, self.tool + answered, self.all_tools + answered)

    def text(self) -> str:
        """The section of the document."""
        rows = [
            [
                f"{one.listed.package} {one.listed.version}",
                str(len(one.listed.tools)),
                f"{one.direct:,}",
                f"{one.with_output:,}",
                f"{one.signatures:,}",
                f"{one.names:,}",
            ]
            for one in self.servers
        ]
        total = [sum(values) for values in zip(*(server[1:] for server in self.servers), strict=True)]
        tools = sum(len(server.listed.tools) for server in self.servers)
        rows.append(["all", str(tools), *(f"{value:,}" for value in total)])
        parts = [
            table(("server", "tools", "direct", "with output schemas", "signatures", "names"), rows),
            self._shares(),
            f"The first answer of `search_tools` shows the expected tool for {self.found_at_once()} of "
            f"{len(QUESTIONS)} questions; for the others a second search is counted.\n",
        ]
        return "\n".join(parts)

    def _shares(self) -> str:
        rows = [
            ["direct, any task", *[f"{self.direct:,}"] * 6, "100 %"],
            ["all signatures, any task", *[f"{self.signatures:,}"] * 6, self._share(self.signatures)],
        ]
        for size in SIZES:
            tasks = self.tasks(size)
            needs = f"{size} tool{'s' * (size > 1)}"
            for name, values in (
                (f"tool search, {needs}", [task.searched for task in tasks]),
                (f"tool search with all names, {needs}", [task.searched_with_names for task in tasks]),
                (f"**Mayfly, {needs}**", [task.ours for task in tasks]),
                (f"Mayfly with all its tools, {needs}", [task.ours_with_all for task in tasks]),
            ):
                found = Distribution.of(values)
                rows.append([name, *found.cells(), self._share(found.median)])
        return table(("before the first call", *HEADINGS, "median of direct"), rows)

    def _share(self, tokens: float) -> str:
        return f"{100 * tokens / self.direct:.1f} %"


def direct_tokens(definition: dict[str, object]) -> int:
    """The tokens of a definition as a client sends it."""
    return count(_json({key: definition[key] for key in ("name", "description", "inputSchema") if key in definition}))


def _definition_tokens(tool: Tool) -> int:
    return direct_tokens({"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema})


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
