"""How programs spell tools: identifiers of Python and JavaScript for names that need not be identifiers.

A name that is an identifier keeps its spelling. In other names each forbidden character becomes ``_``; a reserved name
gets ``_`` at its end; if several names would be spelt alike, the changed names get a number. Spellings are made from
whole catalogues, so that they do not depend on an execution's grants.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

from orchestrator.models.tools import Catalogue, Tool

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
FORBIDDEN = re.compile(r"[^A-Za-z0-9_]")
# ``tools.aio`` is not a server. JavaScript takes an object with ``then`` for a promise, and calls the other methods
# implicitly. A stub calls ``locals``.
RESERVED = frozenset({"aio", "locals", "then", "constructor", "toJSON", "toString", "valueOf", *keyword.kwlist})

# Names of properties in JavaScript, but not of functions: a type checker refuses `export function delete(…)`.
JAVASCRIPT_WORDS = frozenset({
    "arguments", "case", "catch", "const", "debugger", "default", "delete", "do", "enum", "eval", "export", "extends",
    "false", "function", "implements", "instanceof", "interface", "let", "new", "null", "package", "private",
    "protected", "public", "static", "super", "switch", "this", "throw", "true", "typeof", "var", "void",
})  # fmt: skip


def is_identifier(name: str) -> bool:
    """Whether a name is an identifier in both languages."""
    return IDENTIFIER.fullmatch(name) is not None and name not in RESERVED


def spellings(names: Iterable[str]) -> dict[str, str]:
    """A spelling for each name; no two are equal."""
    ordered = sorted(set(names))
    found = {name: name for name in ordered if is_identifier(name)}
    taken = set(found)
    for name in ordered:
        if name in found:
            continue
        spelt = FORBIDDEN.sub("_", name)
        spelt = spelt if IDENTIFIER.match(spelt) else f"t{spelt}"
        spelt = f"{spelt}_" if spelt in RESERVED else spelt
        unique, number = spelt, 1
        while unique in taken:
            number += 1
            unique = f"{spelt}_{number}"
        found[name] = unique
        taken.add(unique)
    return found


def spelt_tools(catalogues: Iterable[Catalogue]) -> dict[str, str]:
    """``server.tool`` as programs spell it, by the tool's full name."""
    all_catalogues = tuple(catalogues)
    servers = spellings(catalogue.server for catalogue in all_catalogues)
    found: dict[str, str] = {}
    for catalogue in all_catalogues:
        tools = spellings(tool.name for tool in catalogue.tools)
        found |= {tool.full_name: f"{servers[catalogue.server]}.{tools[tool.name]}" for tool in catalogue.tools}
    return found


def spelt(tool: Tool, known: dict[str, str]) -> str:
    """A tool's spelling; its full name if its catalogue has no spellings."""
    return known.get(tool.full_name, tool.full_name)
