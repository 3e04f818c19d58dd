"""The configuration of MCP clients: fills in ``clients.toml``, which has one table for each client."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from orchestrator.cli.commands.agents.relay import PATH
from orchestrator.cli.connection import Configuration, api_of, state_dir

TABLE = Path(__file__).with_name("clients.toml")
KEY_VARIABLE = "MAYFLY_TOKEN"
PLACEHOLDER = "PASTE-THE-KEY-HERE"
INNER = re.compile(r"\{(url|key|command|json)\}")
OPTIONS = re.compile(r"\{env:(--?\w+)\}")


class Unsupported(Exception):
    """The client does not support that transport; the message names the supported one."""


class Access(NamedTuple):
    """The connection to the API. ``variables`` configure ``mayfly mcp``; they lack the key if ``needs_key``."""

    url: str
    key: str
    variables: Mapping[str, str]
    needs_key: bool
    words: tuple[str, ...]

    @classmethod
    def found(cls) -> Self:
        """The connection of this command itself. Raises :class:`orchestrator.cli.console.CommandFailed`."""
        configuration = Configuration.from_environment()
        url, key = api_of(configuration)
        if configuration.token or not key:
            variables = {"MAYFLY_URL": url}
        elif configuration.admin_key_file is not None:
            variables = {"MAYFLY_URL": url, "MAYFLY_ADMIN_KEY_FILE": str(configuration.admin_key_file.absolute())}
        else:
            variables = {"MAYFLY_STATE_DIR": str(state_dir(configuration.state_dir))}
        needs_key = bool(configuration.token) or not key
        return cls(url.rstrip("/"), key, variables, needs_key, started_by(sys.argv[0]))


class Connection(NamedTuple):
    """The connection of a client: the text of its file or a command, and remarks for the user."""

    text: str
    remarks: tuple[str, ...]


def clients() -> dict[str, dict[str, Any]]:
    """The table of each client, by its name."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def connection(
    client: Mapping[str, Any], transport: Literal["http", "stdio"], access: Access, *, show_key: bool = False
) -> Connection:
    """The connection of that client. Raises :class:`Unsupported`."""
    if transport not in client:
        raise Unsupported(f"{client['title']} cannot be connected by --{transport}: {client[f'no_{transport}']}")
    template = client[transport]
    carries_key = transport == "http" or access.needs_key
    shown = access.key if show_key else ""
    key = shown or client.get("reference") or PLACEHOLDER
    named = transport == "http" and "key_by_name" in client
    environment = dict(access.variables) | ({KEY_VARIABLE: key} if transport == "stdio" and access.needs_key else {})
    values = {
        "url": access.url + PATH,
        "key": key,
        "command": access.words[0],
        "args": [*access.words[1:], "mcp"],
        "env": environment,
    }
    remarks = [] if not carries_key else [_of_key(client, shown=bool(shown) and not named, named=named)]
    if "run" in template:
        return Connection(shlex.join(_filled(template["run"], values)), (*remarks, *_hints(client)))
    document = _filled(template, values)
    if carries_key and key == client.get("reference"):
        document |= client.get("declares", {})
    if "run" in client:
        values["json"] = json.dumps(document)
        return Connection(shlex.join(_filled(client["run"], values)), (*remarks, *_hints(client)))
    place = f"Add this to {client['file']}, and keep the file's other content."
    return Connection(json.dumps(document, indent=2), (place, *remarks, *_hints(client)))


def started_by(program: str) -> tuple[str, ...]:
    """The words that start this command from any directory, derived from its own command line."""
    path = Path(program)
    if path.name == "__main__.py":
        return sys.executable, "-m", "orchestrator.cli"
    return (str(path.absolute()),)


def _of_key(client: Mapping[str, Any], *, shown: bool, named: bool) -> str:
    title = client["title"]
    if shown:
        return "This text contains the API key: keep it as secret as the key."
    made = "`mayfly keys create NAME` makes a key"
    if str(client.get("reference", "")).startswith("${input:"):
        return f"{title} asks for the API key once and keeps it; {made}."
    if named or "reference" in client:
        return f"{title} reads the API key from the variable {KEY_VARIABLE}: set it where {title} starts; {made}."
    return f"{title} cannot refer to a variable: replace {PLACEHOLDER} by the API key, or use --show-key; {made}."


def _hints(client: Mapping[str, Any]) -> tuple[str, ...]:
    return (client["hint"],) if "hint" in client else ()


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with its placeholders replaced, once. A list that replaces an item of a list is spliced in."""
    if isinstance(template, dict):
        return {name: _filled(part, values) for name, part in template.items()}
    if isinstance(template, list):
        items: list[Any] = []
        for part in template:
            found = _filled(part, values)
            items += found if isinstance(found, list) else [found]
        return items
    if not isinstance(template, str):
        return template
    if (option := OPTIONS.fullmatch(template)) is not None:
        return [word for name, value in values["env"].items() for word in (option[1], f"{name}={value}")]
    if template in ("{args}", "{env}"):
        return values[template[1:-1]]
    return INNER.sub(lambda found: str(values[found[1]]), template)
