"""The secrets that the broker sends to tool servers: one TOML file each, in a directory that only the broker reads.

The file itself names the destination of its secret, so that a declaration cannot send the secret elsewhere::

    origin = "https://api.example.com"   # the only destination of the headers
    tenants = ["default"]                # the only tenants whose servers get the secret
    [headers]
    Authorization = "Bearer …"
    [env]                                # for tool servers that are commands or environments
    API_TOKEN = "…"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from orchestrator.models.frozen import Frozen
from orchestrator.models.tool_servers import TenantName, ToolServer

PORTS = {"http": 80, "https": 443}


class SecretUnusable(Exception):
    """The secret of a tool server cannot be used: its file is missing, unreadable, or for another server."""


class Secret(Frozen):
    """The content of a file of secrets."""

    origin: str | None = None
    tenants: tuple[TenantName, ...]
    headers: dict[str, str] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)


NONE = Secret(tenants=())


def secret_of(directory: Path, tenant: str, server: ToolServer) -> Secret:
    """The secret that a declaration names, or an empty secret. Raises :class:`SecretUnusable`.

    Messages contain nothing of the file's content.
    """
    if server.secret is None:
        return NONE
    path = directory / f"{server.secret}.toml"
    try:
        found = Secret.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SecretUnusable(f"the secret {server.secret!r} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, one["loc"])) for one in error.errors(include_input=False))
        raise SecretUnusable(f"the file of secret {server.secret!r} has wrong fields: {fields}") from None
    except ValueError:
        raise SecretUnusable(f"the file of secret {server.secret!r} is not valid TOML") from None
    if tenant not in found.tenants:
        raise SecretUnusable(f"the secret {server.secret!r} is not for tenant {tenant!r}; its file names the tenants")
    if server.url is not None and found.headers and (found.origin is None or not _same(found.origin, server.url)):
        raise SecretUnusable(f"the secret {server.secret!r} is not for this URL; its file names the origin")
    return found


def _same(origin: str, url: str) -> bool:
    return _origin(origin) == _origin(url) != ("", "", None)


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return "", "", None
