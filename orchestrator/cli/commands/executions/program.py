"""From what was typed to a submission: which environment, which files, what standard input."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from orchestrator.cli.commands.executions.declared import declared_environments
from orchestrator.cli.commands.executions.feeding import LiveInput, all_of, is_fed, opened
from orchestrator.cli.connection import Configuration
from orchestrator.client import Client

INLINE_FILE_BYTES = 2 * 2**20
INLINE_TOTAL_BYTES = 8 * 2**20
DEFAULT_ENVIRONMENT = "python"
KINDRED_SUFFIXES = {".mjs": ".js", ".cjs": ".js", ".bash": ".sh"}
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", re.IGNORECASE)


@dataclass
class Program:
    """A program as it was given on the command line."""

    path: str | None = None
    code: str | None = None
    files: list[Path] = field(default_factory=list)
    args: list[str] = field(default_factory=list)
    environment: str | None = None
    isolation: str | None = None
    timeout_seconds: float | None = None
    memory: str | None = None
    variables: list[str] = field(default_factory=list)
    read_stdin: bool = True
    loopback: bool = False
    live: LiveInput | None = None

    def submission(self, client: Client, settings: Configuration, *, feed: bool = False) -> dict[str, Any]:
        """The body of the request; large files are uploaded on the way. Raises ``typer.BadParameter``.

        With ``feed`` a standard input that has not ended yet is ``live`` then: to be passed on while the program runs.
        """
        if self.code is not None and self.path is not None:
            self.args, self.path = [self.path, *self.args], None
        for text in (*self.args, *self.variables, self.code or ""):
            _checked(text)
        body: dict[str, Any] = {}
        inputs = list(_inputs(self.files))
        if self.path not in (None, "-"):
            program = Path(str(self.path))
            if program.is_dir():
                raise typer.BadParameter(f"{program} is a directory; give the program in it, and the rest with --file")
            content = _read(program)
            body |= {"entrypoint": program.name}
            inputs.insert(0, (program.name, content))
            named = (program.name, content)
        else:
            if self.path is None and self.code is None:
                raise typer.BadParameter("give a FILE, - for standard input, or -c CODE")
            code = self.code if self.code is not None else _text(all_of(0), "the program")
            body |= {"code": code}
            named = ("", code.encode())
        body |= {
            "environment": self.environment or self._guessed(*named, settings.environments_dirs),
            "args": self.args,
            "env": dict(map(_variable, self.variables)),
        }
        if self.read_stdin and self.path != "-" and is_fed(0, terminal=feed):
            self.live = opened(0) if feed else None
            if self.live is None:
                body["stdin"] = _stdin(all_of(0), client)
            elif self.live.ended:
                body["stdin"], self.live = _stdin(self.live.begun, client), None
            else:
                body["stdin"] = {"stream": True}
        if self.loopback:
            body["loopback"] = True
        if self.isolation:
            body["isolation"] = self.isolation
        if limits := self._limits():
            body["limits"] = limits
        if inputs:
            body["files"] = _placed(inputs, client)
        return body

    def _guessed(self, name: str, content: bytes, directories: Iterable[Path]) -> str:
        guessed = guess_environment(name, content, directories)
        if guessed is None and name:
            known = ", ".join(environment.name for environment in declared_environments(directories))
            raise typer.BadParameter(f"cannot derive the environment of {self.path}; name it with --env ({known})")
        return guessed or DEFAULT_ENVIRONMENT

    def _limits(self) -> dict[str, Any]:
        limits: dict[str, Any] = {}
        if self.timeout_seconds is not None:
            # A program given a minute may also compute for a minute.
            limits |= {"wall_seconds": self.timeout_seconds, "cpu_seconds": self.timeout_seconds}
        if self.memory is not None:
            limits["memory_bytes"] = parse_size(self.memory)
        return limits


def guess_environment(name: str, content: bytes, directories: Iterable[Path]) -> str | None:
    """The environment whose programs end like ``name``, else the one the program's first line asks for."""
    suffix = Path(name).suffix.lower()
    suffix = KINDRED_SUFFIXES.get(suffix, suffix)
    if suffix:
        fitting = [e.name for e in declared_environments(directories) if e.suffix == suffix]
        if fitting:
            return min(fitting, key=len)  # `python` before `python-data`
    first_line = content[:256].partition(b"\n")[0].decode(errors="replace")
    if not first_line.startswith("#!"):
        return None
    words = [word for word in first_line[2:].split() if not word.startswith("-")]
    names = [Path(word).name for word in words if Path(word).name != "env"]
    return next((e.name for e in declared_environments(directories) if names[0] in e.names), None) if names else None


def parse_size(text: str) -> int:
    """Bytes from ``512M``, ``1.5g``, ``65536``; units are powers of 1024. Raises ``typer.BadParameter``."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size; write it like 512M or 2G")
    return int(float(found[1]) * UNITS[found[2].lower()])


def _inputs(paths: Iterable[Path]) -> Iterable[tuple[str, bytes]]:
    seen: set[str] = set()
    for path in paths:
        path = path.resolve() if path.name in ("", "..") else path
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in found:
            name = (Path(path.name) / file.relative_to(path)).as_posix() if path.is_dir() else path.name
            if name in seen:
                raise typer.BadParameter(f"two files would both be {name}; rename one")
            seen.add(name)
            yield name, _read(file)


def _placed(inputs: list[tuple[str, bytes]], client: Client) -> list[dict[str, str]]:
    placed = []
    room = INLINE_TOTAL_BYTES
    for path, content in inputs:
        if len(content) > min(INLINE_FILE_BYTES, room):
            placed.append({"path": path, "blob": client.put_blob(content)})
            continue
        room -= len(content)
        try:
            placed.append({"path": path, "content": content.decode(), "encoding": "utf-8"})
        except UnicodeDecodeError:
            encoded = base64.b64encode(content).decode()
            placed.append({"path": path, "content": encoded, "encoding": "base64"})
    return placed


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from error


def _stdin(data: bytes, client: Client) -> str | dict[str, str]:
    """A whole standard input as a submission has it."""
    if len(data) > INLINE_FILE_BYTES:
        return {"blob": client.put_blob(data)}
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"content": base64.b64encode(data).decode(), "encoding": "base64"}


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{what} is not UTF-8 text; give other data as a file with --file") from error


def _checked(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise typer.BadParameter(f"{text!r} is not UTF-8 text") from error


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value
