"""Reads the declarations of images of tool servers: environment files with ``kind = "tool-server"``.

``docs/tool-servers.md`` explains the fields by example.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from orchestrator.environments import TOOL_SERVER, NpmPackage
from orchestrator.models import Frozen, Name

TOOL_SERVER_IMAGES = f"{TOOL_SERVER}s"  # below the directory of images


class ToolServerLimits(Frozen):
    """Caps of one tool server. ``scratch_bytes`` bounds its ``/tmp``, the only place in its image where it writes."""

    memory_bytes: int = Field(512 * 2**20, ge=16 * 2**20)
    processes: int = Field(128, ge=1, le=4096)
    cpu_cores: float = Field(1.0, ge=0.01)
    scratch_bytes: int = Field(64 * 2**20, ge=4096)


class ToolEnvironment(Frozen):
    """An image of a tool server that speaks MCP over its standard input and output.

    ``packages`` are Debian's, ``npm`` single packages of which files are taken. ``python_lock`` and ``node_lock`` name
    files beside the declaration: requirements with hashes, whose wheels go to ``/usr/lib/tool-server/python``,
    and a ``package-lock.json``, whose packages go to ``/usr/lib/tool-server/node_modules``. No script of any
    package is run. ``run``, ``env``, ``links`` and ``remove`` are as in other environments.
    """

    kind: Literal["tool-server"]
    name: Name
    version: str
    description: str
    packages: tuple[str, ...] = ()
    npm: tuple[NpmPackage, ...] = ()
    python_lock: str = Field("", pattern=r"^([\w.-]+)?$")
    node_lock: str = Field("", pattern=r"^([\w.-]+)?$")
    run: tuple[str, ...] = Field(min_length=1)
    env: dict[str, str] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    remove: tuple[str, ...] = ()
    limits: ToolServerLimits = ToolServerLimits()

    @property
    def locks(self) -> tuple[str, ...]:
        """The names of the lock files."""
        return tuple(name for name in (self.python_lock, self.node_lock) if name)


class ToolServerImage(Frozen):
    """The content of NAME.json, which a build writes: the image, and the caps of the servers that run it."""

    name: Name
    version: str
    description: str
    image_id: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    tag: str
    size_bytes: int
    packages: int
    inputs_hash: str
    limits: ToolServerLimits


def load_tool_environment(path: Path) -> ToolEnvironment:
    """Read one TOML file. Raises ``ValueError`` naming the file when it is not the declaration of a tool server."""
    try:
        return ToolEnvironment.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ValueError(f"{path}: {error}") from error


def load_tool_server_image(directory: Path, name: str) -> ToolServerImage:
    """The built image of that name. Raises ``FileNotFoundError``, or ``ValueError`` if the file is damaged."""
    path = directory / TOOL_SERVER_IMAGES / f"{name}.json"
    try:
        return ToolServerImage.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} does not describe an image; build the image again") from error
