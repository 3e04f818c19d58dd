"""The files under ``/tools`` in a sandbox: a module for each tool that an execution may use, an index, the spellings.

- ``<server>/<tool>.py``: signature, documentation and types. Importing it and calling the function calls the tool.
  For Node ``<server>/<tool>.d.ts`` instead.
- ``INDEX``: a line for each tool.
- ``names.json``: ``{"server.tool" as spelt: [server, tool]}``.

A destructive tool that its server's policy refuses has no file and no line in ``INDEX``, and search does not find it.
Its spelling remains, so that a call of the tool is answered with the reason.

Paths are made of spellings, which are identifiers. Descriptions, keys and literals of tool servers are written as
Python or JSON literals, or are cleaned so that they cannot end the docstring or comment that contains them. A stub
beyond the bounds is replaced by one without types.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from orchestrator.models.tools import Catalogue, Schema, Tool
from orchestrator.tools.grants import Grant, is_destructive, usable
from orchestrator.tools.names import JAVASCRIPT_WORDS, is_identifier, spelt_tools
from orchestrator.tools.shapes import Field, fields_of
from orchestrator.tools.signatures import SEEN, Language, returned, signature, written
from orchestrator.tools.text import clean, summary
from orchestrator.tools.typed import Types

INDEX = "INDEX"
NAMES = "names.json"
MAX_DEPTH = 6
MOST_STUB = 32 * 1024  # characters; references let a small schema describe a large one
MOST_STUBS = 32 * 2**20  # of all stubs of an execution
TOO_LARGE = 'Described only by its definition: search_tools(..., detail="definitions").'
NOT_SEEN: Mapping[str, Schema] = {}


def files(
    catalogues: Iterable[Catalogue],
    grants: Collection[Grant],
    seen: Mapping[str, Schema] = NOT_SEEN,
    language: Language = "python",
    destructive: Collection[str] | None = None,
) -> dict[str, str]:
    """The content of each file by its path below ``/tools``; equal arguments give equal files.

    ``seen`` has shapes of earlier results by the tools' full names, for tools without an output schema; ``destructive``
    the servers whose policy lets programs call destructive tools, None: all.
    """
    all_catalogues = tuple(catalogues)
    spelt = spelt_tools(all_catalogues)
    tools = usable(all_catalogues, grants, destructive)
    found = {INDEX: _index(tools, spelt), NAMES: _names(usable(all_catalogues, grants), spelt)}
    ending, left = ("py" if language == "python" else "d.ts"), MOST_STUBS
    for tool in tools:
        server, name = spelt[tool.full_name].split(".")
        shape = seen.get(tool.full_name)
        if language == "python":
            text = _python(tool, server, name, shape)
        else:
            text = _typescript(tool, f"{server}.{name}", shape)
        if len(text) > min(left, MOST_STUB):
            text = _untyped(server, name, language)
        left -= len(text)
        found[f"{server}/{name}.{ending}"] = text
    return found


def _index(tools: Iterable[Tool], spelt: Mapping[str, str]) -> str:
    lines = []
    for tool in tools:
        name = spelt[tool.full_name]
        own = "" if name == tool.full_name else f" ({tool.full_name})"
        about = summary(tool.description)
        lines.append(f"{name}{own}" + (f": {about}" if about else ""))
    return "".join(f"{line}\n" for line in lines)


def _names(tools: Iterable[Tool], spelt: Mapping[str, str]) -> str:
    return json.dumps({spelt[tool.full_name]: [tool.server, tool.name] for tool in tools}, indent=0) + "\n"


def _python(tool: Tool, server: str, name: str, seen: Schema | None) -> str:
    """A module that a type checker reads and a program can import."""
    fields = fields_of(tool.input_schema)
    result, is_seen = returned(tool, seen)
    types = Types()
    answer = types.written(result, f"{_title(name)}Result", MAX_DEPTH)
    if all(is_identifier(field.name) for field in fields):
        parameters = ["*"] if fields else []
        for field in fields:
            annotation = types.written(field.shape, _title(name, field.name), MAX_DEPTH)
            parameters.append(f"{field.name}: {annotation}{'' if field.is_required else ' = ...'}")
        given = "{_name: _value for _name, _value in locals().items() if _value is not ...}" if fields else "{}"
    else:  # Python cannot spell a name, so all arguments go into one dictionary
        whole = types.named(f"{_title(name)}Arguments", fields, MAX_DEPTH)
        parameters, given = [f"arguments: {whole}", "/"], "arguments"
    lines = [
        "from __future__ import annotations",
        "",
        f"from typing import {', '.join(sorted(types.imports))}" if types.imports else "",
        "",
        "from mayfly import tools as _tools",
        "",
        *types.definitions,
        "",
        f"def {name}({', '.join(parameters)}) -> {answer}:{f'  # {SEEN}' if is_seen else ''}",
        _docstring(tool, fields, "    "),
        f"    return _tools[{server!r}][{name!r}]({given})",
    ]
    text = "\n".join(lines) + "\n"
    while "\n\n\n\n" in text:
        text = text.replace("\n\n\n\n", "\n\n\n")
    return text


def _untyped(server: str, name: str, language: Language) -> str:
    """A stub of a tool whose own stub is too large."""
    if language == "javascript":
        return f"/**\n * {TOO_LARGE}\n */\n{_exported(name, 'arguments: object', 'any')}\n"
    return (
        f"from mayfly import tools as _tools\n\n\ndef {name}(arguments: dict, /):\n"
        f'    """{TOO_LARGE}"""\n    return _tools[{server!r}][{name!r}](arguments)\n'
    )


def _docstring(tool: Tool, fields: Iterable[Field], indent: str) -> str:
    """A docstring of any texts, without an early end and without escape sequences."""
    parts = [clean(tool.description) or clean(tool.title) or tool.name, *_documented(fields), *_warnings(tool)]
    text = "\n".join(parts).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    shown = "\n".join(f"{indent}{line}" if line else "" for line in text.split("\n"))
    return f'{indent}"""{shown.removeprefix(indent)}\n{indent}"""'


def _documented(fields: Iterable[Field]) -> list[str]:
    lines = []
    for field in fields:
        default = f"default {json.dumps(field.default)}" if field.has_default and field.default is not None else ""
        about = ". ".join(part for part in (field.description.rstrip("."), default) if part)
        if about:
            lines.append(f"- {json.dumps(field.name) if not is_identifier(field.name) else field.name}: {about}")
    return ["", *lines] if lines else []


def _warnings(tool: Tool) -> list[str]:
    return ["", "The tool may change or delete data."] if is_destructive(tool) else []


def _typescript(tool: Tool, spelt: str, seen: Schema | None) -> str:
    fields = fields_of(tool.input_schema)
    text = "\n".join([clean(tool.description) or tool.name, *_documented(fields), *_warnings(tool)])
    comment = "\n".join(f" * {line}".rstrip() for line in text.replace("*/", "*\\/").split("\n"))
    result, is_seen = returned(tool, seen)
    arguments = ", ".join(
        f"{json.dumps(field.name)}{'' if field.is_required else '?'}: {written(field.shape, MAX_DEPTH, 'javascript')}"
        for field in fields
    )
    parameters = f"arguments: {{ {arguments} }}" if fields else ""
    answer = written(result, MAX_DEPTH, "javascript")
    name = spelt.partition(".")[2]
    return (
        f"// {signature(tool, spelt, seen, 'javascript').partition('  //')[0]}\n/**\n{comment}\n */\n"
        f"{_exported(name, parameters, answer)}{f'  // {SEEN}' if is_seen else ''}\n"
    )


def _exported(name: str, parameters: str, answer: str) -> str:
    if name in JAVASCRIPT_WORDS:
        return f"declare function {name}_({parameters}): Promise<{answer}>;\nexport {{ {name}_ as {name} }};"
    return f"export function {name}({parameters}): Promise<{answer}>;"


def _title(*names: str) -> str:
    """The name of a class, from names of tools and parameters."""
    return "".join(part[:1].upper() + part[1:] for name in names for part in name.split("_") if part)
