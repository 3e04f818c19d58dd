"""``mayfly mcp`` serves MCP on standard input and output; ``mayfly mcp config`` prints a client's configuration."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from orchestrator.cli.commands.agents.relay import Relay
from orchestrator.cli.connection import Configuration, credential_of
from orchestrator.cli.console import CommandFailed, Commands, complain, print_table
from orchestrator.cli.verdict import MISTAKE

mcp = typer.Typer(cls=Commands, invoke_without_command=True)


@mcp.callback()
def relay(context: typer.Context) -> None:
    """Serve MCP on standard input and output, for clients that start their servers; `config` prints clients' files.

    Each message goes to the API; the end of standard input ends the command and cancels open requests.
    """
    if context.invoked_subcommand is None:
        Relay(*credential_of(Configuration.from_environment()), _write).run(sys.stdin.buffer)


@mcp.command()
def config(
    client: Annotated[
        str, typer.Argument(metavar="[CLIENT]", help="The client's name; without a name, list the names.")
    ] = "",
    http: Annotated[bool, typer.Option("--http", help="The client connects to the API by itself.")] = False,
    stdio: Annotated[bool, typer.Option("--stdio", help="The client starts `mayfly mcp`. The default.")] = False,
    show_key: Annotated[bool, typer.Option("--show-key", help="Print the API key, not a reference to it.")] = False,
) -> None:
    """Print the file, or the command, that connects a client."""
    from orchestrator.cli.commands.agents.configuration import Access, Unsupported, clients, connection

    known = clients()
    if not client:
        return print_table(("CLIENT", "NAME"), [(name, entry["title"]) for name, entry in known.items()])
    if client not in known:
        raise CommandFailed(f"{client!r} is not a known client; known are {', '.join(known)}", MISTAKE)
    if http and stdio:
        raise CommandFailed("--http and --stdio exclude each other", MISTAKE)
    try:
        made = connection(known[client], "http" if http else "stdio", Access.found(), show_key=show_key)
    except Unsupported as error:
        raise CommandFailed(str(error), MISTAKE) from error
    for remark in made.remarks:
        complain(remark)
    typer.echo(made.text)
    return None


def _write(line: bytes) -> None:
    """Write a whole line to standard output, past its buffer, which a thread that ends with the process may lock."""
    left = memoryview(line)
    while left:
        left = left[os.write(sys.stdout.fileno(), left) :]
