"""``mayfly admin``: the first administrator, and the keys that sign access tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.commands.identity.users import Generate, make
from orchestrator.cli.connection import located, server_settings
from orchestrator.cli.console import CommandFailed, Commands, Json
from orchestrator.host.token_keys import create as create_keys
from orchestrator.host.token_keys import rotate

admin = typer.Typer(cls=Commands, no_args_is_help=True, help="Make administrators, and rotate keys of access tokens.")


@admin.command()
def create(
    name: Annotated[str, typer.Argument(help="Name to log in with.")],
    generate: Generate = False,
    json: Json = False,
) -> None:
    """Make an own user with the role admin; the command prompts for the password."""
    make(name, ["admin"], "", generate, json)


@admin.command("rotate-keys")
def rotate_keys(
    after: Annotated[float, typer.Option("--after", help="Seconds until the new key signs.")] = 0.0,
    forget: Annotated[
        bool, typer.Option("--forget", help="End the access tokens of all older keys at once; clients refresh theirs.")
    ] = False,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Only make the file if it does not exist.")] = False,
) -> None:
    """Add a key to MAYFLY_TOKEN_KEYS_FILE, on an API host. Tokens of older keys are valid until they expire.

    Processes of the API read the file within a second. With several API hosts, give --after time to copy the file.
    """
    path = located(server_settings()).token_keys_path
    try:
        if if_missing:
            create_keys(path)
            typer.echo(f"The keys are in {path}.")
        else:
            typer.echo(f"Key {rotate(path, after_seconds=after, forget=forget)} was added to {path}.")
    except (OSError, ValueError) as error:
        raise CommandFailed(str(error)) from error
