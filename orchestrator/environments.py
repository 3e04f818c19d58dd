"""Reads the declarations ``sandbox_image/environments/*.toml``: one file is one environment.

``docs/adding-an-environment.md`` explains the fields by example.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from orchestrator.models import Frozen, Limits, Name, RequestedLimits

DEFAULT_LIMITS = Limits(
    wall_seconds=5,
    cpu_seconds=5,
    cpu_cores=1.0,
    memory_bytes=512 * 2**20,
    processes=64,
    disk_bytes=64 * 2**20,
    output_bytes=2**20,
)
MAXIMAL_LIMITS = Limits(
    wall_seconds=300,
    cpu_seconds=600,
    cpu_cores=2.0,
    memory_bytes=2 * 2**30,
    processes=256,
    disk_bytes=512 * 2**20,
    output_bytes=16 * 2**20,
)

TOOL_SERVER = "tool-server"  # the kind of orchestrator/tool_environments.py


class NpmPackage(Frozen):
    """A package of the npm registry whose files are copied into an image; its scripts are never run.

    ``integrity`` is the registry's own digest of the package's archive. ``architecture`` is Debian's name of the
    package's only architecture. ``files`` maps paths in the package to absolute paths in the image.
    """

    name: str = Field(pattern=r"^(@[a-z0-9._-]+/)?[a-z0-9][a-z0-9._-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+[0-9A-Za-z.+-]*$")
    integrity: str = Field(pattern=r"^sha512-[A-Za-z0-9+/]{86}==$")
    architecture: Literal["amd64", "arm64"] | None = None
    files: dict[str, str] = Field(min_length=1)


class Environment(Frozen):
    """A named sandbox image and how a program is compiled and run in it.

    ``run`` and ``compile`` are argument lists; ``{entrypoint}`` stands for the program's absolute path under ``/work``.
    With ``fork`` the agent runs a Python program in its own warm interpreter instead of executing ``run``. ``preload``
    names modules that the interpreter has loaded, ``preload_idle`` modules that it loads after it has waited for a
    while. ``spawn`` starts the interpreter of ``run`` before its program is known, and has it wait as
    ``sandbox_image/agent/program/wait.js`` does. ``cell`` runs a program as a cell; without it the environment has no
    cells. ``npm`` names packages of the npm registry. ``prepare`` is a script of ``sh`` that a build runs in the
    unpacked root, before Python's byte code is compiled. ``links`` maps absolute paths in the
    image to what they point at (``{multiarch}`` stands for the architecture's directory); ``remove`` lists globs of
    paths left out of the image, or ``package:GLOB`` for whole packages. ``minimal_memory_bytes`` is the memory that the
    agent itself needs to start. ``loopback`` says whether programs may be servers on the sandbox's own loopback: never,
    where a submission asks for it, or always.
    """

    name: Name
    version: str
    description: str
    aliases: tuple[Name, ...] = ()
    packages: tuple[str, ...]
    npm: tuple[NpmPackage, ...] = ()
    prepare: str = ""
    file_name: str
    run: tuple[str, ...] = Field(min_length=1)
    cell: tuple[str, ...] = ()
    compile: tuple[str, ...] = ()
    fork: bool = False
    preload: tuple[str, ...] = ()
    preload_idle: tuple[str, ...] = ()
    spawn: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    remove: tuple[str, ...] = ()
    minimal_memory_bytes: int = Field(default=16 * 2**20, gt=0)
    loopback: Literal["never", "allowed", "always"] = "never"
    default_limits: RequestedLimits = RequestedLimits()
    maximal_limits: RequestedLimits = RequestedLimits()

    @cached_property
    def defaults(self) -> Limits:
        """The limits of a submission without limits."""
        return self.default_limits.over(DEFAULT_LIMITS)

    @cached_property
    def maxima(self) -> Limits:
        """The largest limits a submission may ask for."""
        return self.maximal_limits.over(MAXIMAL_LIMITS)

    def exceeded(self, limits: Limits) -> list[tuple[str, float, float]]:
        """Each (name, value, bound) of ``limits`` that lies above this environment's maximum."""
        bounds = vars(self.maxima)
        return [(name, asked, bounds[name]) for name, asked in vars(limits).items() if asked > bounds[name]]


class Environments(Mapping[str, Environment]):
    """Every declared environment by its name; :meth:`resolve` also knows aliases."""

    def __init__(self, declared: Iterable[Environment]) -> None:
        self._by_name = {environment.name: environment for environment in declared}
        self._by_alias = {alias: e for e in self._by_name.values() for alias in (e.name, *e.aliases)}

    def __getitem__(self, name: str) -> Environment:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def resolve(self, name: str) -> Environment | None:
        """The environment of that name or alias."""
        return self._by_alias.get(name)


def load_environment(path: Path) -> Environment:
    """Read one TOML file. Raises ``ValueError`` naming the file when it is not a valid environment."""
    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8"))
        return Environment.model_validate(declared)
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ValueError(f"{path}: {error}") from error


def kind_of(path: Path) -> str | None:
    """The kind that a TOML file names: None for the environments of programs. A malformed file has no kind."""
    try:
        kind = tomllib.loads(path.read_text(encoding="utf-8")).get("kind")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None
    return kind if isinstance(kind, str) else None


def load_environments(directories: Iterable[Path]) -> Environments:
    """Read every ``*.toml`` of the directories; a name or alias declared twice raises ``ValueError``.

    Declarations of tool servers may lie beside them: programs do not run in those.
    """
    paths = [path for directory in directories for path in sorted(directory.glob("*.toml"))]
    declared = [load_environment(path) for path in paths if kind_of(path) != TOOL_SERVER]
    seen: dict[str, str] = {}
    for environment in declared:
        for alias in (environment.name, *environment.aliases):
            if alias in seen:
                raise ValueError(f"environment {environment.name}: {alias!r} is already used by {seen[alias]}")
            seen[alias] = environment.name
    return Environments(declared)
