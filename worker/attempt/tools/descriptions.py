"""Descriptions of tools for a program: the files under ``/tools``, and the answers of ``search_tools``.

Both are made from the tenant's catalogues, the policies of its servers and the execution's grants, and kept for
executions with equal ones. They describe only tools that the execution may call.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from orchestrator.models import Specification
from orchestrator.models.tools import CALLER, CallerTool, Catalogue, ToolFailure, ToolOutcome
from orchestrator.store.tools.shapes import Seen
from orchestrator.tools.index.search import LIMIT, Detail, Query, ToolIndex, search
from orchestrator.tools.signatures import Language
from orchestrator.tools.stubs import files
from worker.attempt.tools.caller_calls import own_tool

MOST_KEPT = 64  # sets of files; each is some hundred kilobytes
MOST_KEPT_CHARACTERS = 64 * 2**20  # of all kept files together: a tool server may list 4 MiB of tools
CHARACTERS_PER_TOKEN = 3.5  # a low estimate for names and signatures
JAVASCRIPT = (".js", ".mjs", ".cjs", ".ts", ".mts")  # suffixes of JavaScript programs; all others get Python's notation
NOTHING_SEEN = Seen()


class Search(Query):
    """The arguments of ``search_tools`` as programs pass them."""

    model_config = ConfigDict(strict=True)

    query: Annotated[str, StringConstraints(max_length=1000)]
    limit: Annotated[int, Field(ge=1, le=100)] = LIMIT
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] = 20_000


class Description:
    """The tools of executions with the same catalogues and grants; each part is made when it is first needed."""

    def __init__(
        self,
        catalogues: tuple[Catalogue, ...],
        specification: Specification,
        seen: Seen,
        destructive: frozenset[str] | None,
    ) -> None:
        self._catalogues, self._grants, self._seen = catalogues, specification.tools, seen.shapes
        self._destructive = None if destructive is None else destructive | {CALLER}
        self.language = language_of(specification)

    @cached_property
    def files(self) -> dict[str, str]:
        """The files under ``/tools`` by their paths below it."""
        return files(self._catalogues, self._grants, self._seen, self.language, self._destructive)

    @property
    def characters(self) -> int:
        """The size of the files, 0 before they are made."""
        return self._characters if "files" in self.__dict__ else 0

    @cached_property
    def _characters(self) -> int:
        return sum(map(len, self.files.values()))

    @cached_property
    def index(self) -> ToolIndex:
        """The search index of the tools."""
        return ToolIndex(self._catalogues, self._grants, self._seen, self._destructive)


class Descriptions:
    """Descriptions, kept for the executions of a worker. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Description] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self,
        catalogues: tuple[Catalogue, ...],
        specification: Specification,
        seen: Seen = NOTHING_SEEN,
        destructive: frozenset[str] | None = None,
    ) -> Description:
        """The description of an execution's tools; ``seen`` has shapes of their earlier results, ``destructive`` the
        servers whose destructive tools may be called (None: all).
        """
        known = with_own(catalogues, specification)
        about = (
            language_of(specification),
            specification.tools,
            [(one.server, one.state, one.digest) for one in known],
            seen.version,
            None if destructive is None else sorted(destructive),
        )
        key = specification.tenant, repr(about)  # definitions have no hash
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = Description(known, specification, seen, destructive)
            self._kept.move_to_end(key)
            left = sum(one.characters for one in self._kept.values())
            while len(self._kept) > MOST_KEPT or (left > MOST_KEPT_CHARACTERS and len(self._kept) > 1):
                _, dropped = self._kept.popitem(last=False)
                left -= dropped.characters
            return kept


def searched(description: Description, arguments: str) -> ToolOutcome:
    """The outcome of a call of ``search_tools``: names, or objects with a name and a signature or definition."""
    try:
        wanted = Search.model_validate_json(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{'.'.join(map(str, first['loc'])) or 'arguments'}: {first['msg']}."
        valid = tuple(Search.model_fields)
        return ToolOutcome(failure=ToolFailure(code="tool_arguments_invalid", message=message, valid_parameters=valid))
    found = search(
        description.index,
        wanted,
        count=lambda text: math.ceil(len(text) / CHARACTERS_PER_TOKEN),
        max_tokens=wanted.max_tokens,
        language=description.language,
    )
    return ToolOutcome(result=json.dumps([_shown(match.spelt, match.text, wanted.detail) for match in found.matches]))


def with_own(catalogues: tuple[Catalogue, ...], specification: Specification) -> tuple[Catalogue, ...]:
    """The catalogues, with a further catalogue of the tools that the execution's client fulfils."""
    own = [tool for tool in specification.tools if isinstance(tool, CallerTool)]
    if not own:
        return catalogues
    tools = tuple(map(own_tool, own))
    return (*catalogues, Catalogue(server=CALLER, state="ready", tools=tools, since=datetime.now(UTC)))


def language_of(specification: Specification) -> Language:
    """The language in which tools are described to a program."""
    return "javascript" if specification.entrypoint.endswith(JAVASCRIPT) else "python"


def _shown(name: str, text: str, detail: Detail) -> Any:
    if detail == "names":
        return name
    if detail == "definitions" and text.startswith("{"):
        return {"name": name, "definition": json.loads(text)}
    return {"name": name, "signature": text}  # also replaces a definition that is too large
