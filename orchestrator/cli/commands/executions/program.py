"""Turns a command line into the arguments of a submission: environment, files and standard input.

Annotations are evaluated in this module, not kept as text, since those of :class:`Program` are options of commands.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from mayfly import STREAMED, Options
from orchestrator.cli.commands.executions.declared import declared_environments
from orchestrator.cli.commands.executions.feeding import LiveInput, all_of, is_fed, opened
from orchestrator.cli.connection import Configuration

P = ParamSpec("P")
DEFAULT_ENVIRONMENT = "python"
KINDRED_SUFFIXES = {".mjs": ".js", ".cjs": ".js", ".bash": ".sh"}
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", re.IGNORECASE)


@dataclass
class Program:
    """A program as given on the command line: each field is an option of every command that takes a program."""

    path: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="The program; - reads it from standard input.")
    ] = None
    args: Annotated[list[str] | None, typer.Argument(metavar="[-- ARG...]", help="Arguments of the program.")] = None
    code: Annotated[str | None, typer.Option("-c", "--code", help="The program itself.")] = None
    environment: Annotated[str | None, typer.Option("--env", help="Environment; derived from FILE if omitted.")] = None
    files: Annotated[
        list[Path] | None, typer.Option("--file", help="File or directory to put beside the program. May be repeated.")
    ] = None
    isolation: Annotated[str | None, typer.Option("--isolation", help="standard or hardened.")] = None
    loopback: Annotated[
        bool, typer.Option("--loopback", help="Let the program be a server on 127.0.0.1, for itself.")
    ] = False
    cell: Annotated[
        bool, typer.Option("--cell", help="Run as a notebook cell: the last expression and open figures are results.")
    ] = False
    timeout_seconds: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Wall time limit in seconds.")
    ] = None
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory limit, such as 512M or 2G.")
    ] = None
    variables: Annotated[
        list[str] | None,
        typer.Option("--set-env", metavar="NAME=VALUE", help="Environment variable. May be repeated."),
    ] = None
    tools: Annotated[
        list[str] | None,
        typer.Option(
            "--tool", metavar="PATTERN", help="Tools that it may call: SERVER.TOOL, SERVER.* or *. May be repeated."
        ),
    ] = None
    no_stdin: Annotated[bool, typer.Option("--no-stdin", help="Do not forward standard input.")] = False
    priority: Annotated[
        str | None,
        typer.Option("--priority", metavar="NAME", help="high, default or low, among the executions of your tenant."),
    ] = None
    live: LiveInput | None = field(default=None, init=False)

    def arguments(self, settings: Configuration, *, feed: bool = False) -> tuple[str | None, Options]:
        """The arguments of :meth:`mayfly.Client.submit`: code and options. Raises ``typer.BadParameter``.

        With ``feed``, standard input that has not ended becomes ``live``, to be streamed while the program runs.
        """
        args = self.args or []
        if self.code is not None and self.path is not None:
            args, self.path = [self.path, *args], None
        for text in (*args, *(self.variables or ()), self.code or ""):
            _checked(text)
        files = dict(_inputs(self.files or ()))
        code, name, content = self._program()
        if name:
            if name in files:
                raise typer.BadParameter(f"two files would both be {name}; rename one")
            files = {name: content, **files}
        options: Options = {
            "environment": self.environment or self._guessed(name, content, settings.environments_dirs),
            "args": args,
            "env": dict(map(_variable, self.variables or ())),
        }
        if name:
            options["entrypoint"] = name
        if not self.no_stdin and self.path != "-" and is_fed(0, terminal=feed):
            self.live = opened(0) if feed else LiveInput(0, all_of(0), True)
            options["stdin"] = self.live.begun if self.live.ended else STREAMED
            self.live = None if self.live.ended else self.live
        if self.loopback:
            options["loopback"] = True
        if self.cell:
            options["mode"] = "cell"
        if self.tools:
            options["tools"] = self.tools
        if self.isolation:
            options["isolation"] = self.isolation
        if self.priority:
            options["priority"] = self.priority
        if limits := self._limits():
            options["limits"] = limits
        if files:
            options["files"] = files
        return code, options

    def _program(self) -> tuple[str | None, str, bytes]:
        """The code, or the name of the program's file, with its bytes."""
        if self.path not in (None, "-"):
            program = Path(str(self.path))
            if program.is_dir():
                raise typer.BadParameter(f"{program} is a directory; give the program in it, and the rest with --file")
            return None, program.name, _read(program)
        if self.path is None and self.code is None:
            raise typer.BadParameter("give a FILE, - for standard input, or -c CODE")
        code = self.code if self.code is not None else _text(all_of(0), "the program")
        return code, "", code.encode()

    def _guessed(self, name: str, content: bytes, directories: Iterable[Path]) -> str:
        guessed = guess_environment(name, content, directories)
        if guessed is None and name:
            known = ", ".join(environment.name for environment in declared_environments(directories))
            raise typer.BadParameter(f"cannot derive the environment of {self.path}; name it with --env ({known})")
        return guessed or DEFAULT_ENVIRONMENT

    def _limits(self) -> dict[str, Any]:
        limits: dict[str, Any] = {}
        if self.timeout_seconds is not None:
            # A program with a minute of wall time may also compute for a minute.
            limits |= {"wall_seconds": self.timeout_seconds, "cpu_seconds": self.timeout_seconds}
        if self.memory is not None:
            limits["memory_bytes"] = parse_size(self.memory)
        return limits


def guess_environment(name: str, content: bytes, directories: Iterable[Path]) -> str | None:
    """The environment with the suffix of ``name``, otherwise the environment of the program's ``#!`` line."""
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


DECLARED = [
    Parameter(option.name, Parameter.KEYWORD_ONLY, default=option.default, annotation=option.type)
    for option in fields(Program)
    if option.init
]


def takes_program(command: Callable[Concatenate[Program, P], None]) -> Callable[..., None]:
    """A command with the options of :class:`Program` before its own; a program is its first argument."""
    own = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in list(signature(command, eval_str=True).parameters.values())[1:]
    ]

    @wraps(command)
    def called(*args: P.args, **options: P.kwargs) -> None:
        given: dict[str, Any] = options
        typed = Program(**{parameter.name: given.pop(parameter.name) for parameter in DECLARED})
        command(typed, *args, **options)

    parameters = [*DECLARED, *own]
    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from error


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
