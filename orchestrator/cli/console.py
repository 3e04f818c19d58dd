"""The command's output: results on standard output, messages on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError  # typer exports only their subclasses
from typer.core import TyperGroup

from mayfly import MayflyError
from orchestrator.cli.parameters import simplify
from orchestrator.cli.verdict import FAILED_HERE, MISTAKE, refusal, refusal_code
from orchestrator.logs import printable

PIPE_CLOSED = 141
INTERRUPTED = 130
NOT_PLAIN = re.compile(r"[^ -~\n]")
Json = Annotated[bool, typer.Option("--json", help="Print only the API's JSON.")]


class CommandFailed(Exception):
    """A command cannot continue; its message names the remedy. Ends the process with ``exit_code``."""

    def __init__(self, message: str, exit_code: int = FAILED_HERE) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class Commands(TyperGroup):
    """A group of commands whose failures end in one line and an exit code, never in a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        simplify(self.get_params(ctx))
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            fail_usage(error, ctx.command_path)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            fail_usage(error, f"{ctx.command_path} {ctx.invoked_subcommand or ''}".strip())
        except MayflyError as error:
            complain(refusal(error))
            raise typer.Exit(refusal_code(error)) from error
        except CommandFailed as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:
            close_stdout()
            raise typer.Exit(PIPE_CLOSED) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def fail_usage(error: UsageError, called: str) -> NoReturn:
    """Print the mistake in a command line, in one line with the matching help command; exit."""
    if isinstance(error, NoArgsIsHelpError):
        raise error  # prints the help
    plain = isinstance(error, typer.BadParameter) and error.param is None
    message = error.message if plain else error.format_message()
    command = error.ctx.command_path if error.ctx else called
    complain(f"{message.rstrip('.')} (see `{command} --help`)")
    raise typer.Exit(MISTAKE) from error


def complain(message: str) -> None:
    """One message on standard error, which may be closed."""
    with contextlib.suppress(OSError):
        typer.echo(f"mayfly: {message}", err=True)


def note(message: str) -> None:
    """Print a hint, only at a terminal, since programs read standard error too."""
    if sys.stderr.isatty():
        typer.echo(typer.style(message, dim=True), err=True)


def close_stdout() -> None:
    """Close standard output after its reader has disconnected, so that the interpreter prints no error at its exit."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def print_json(document: Any) -> None:
    """A document as JSON on standard output."""
    sys.stdout.write(json_text(document, indent=2) + "\n")
    sys.stdout.flush()


def json_text(document: Any, indent: int | None = None) -> str:
    """JSON for terminals and programs; escapes unprintable characters, so that a string cannot control a terminal."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    return NOT_PLAIN.sub(lambda found: found[0] if found[0].isprintable() else _escaped(found[0]), text)


def print_table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on standard output; in a pipe, tab-separated lines without titles, for other programs."""
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(_plain(value) for value in row) + "\n")
        sys.stdout.flush()
        return
    from rich.console import Console  # imported here: most commands print no table
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(_plain(value)) for value in row))  # Text is never parsed as markup
    Console().print(table)


def human_bytes(size: int | None) -> str:
    """A size for people: ``48 MB``."""
    if size is None:
        return "-"
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}"


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _plain(value: Any) -> str:
    if value is None or value == "":
        return "-"
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return printable(text)
