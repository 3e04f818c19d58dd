"""``mayfly users``: own users and their sessions, and one's own password."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from mayfly import Client
from mayfly.results import Document
from orchestrator.cli.commands.identity.login import read_password
from orchestrator.cli.connection import Configuration, api_of, connect, logins_file
from orchestrator.cli.console import CommandFailed, Commands, Json, print_json, print_table
from orchestrator.cli.logins import Login, Logins
from orchestrator.cli.verdict import MISTAKE

users = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Make, list, change and delete own users; end their sessions."
)
COLUMNS = ("id", "name", "tenant", "roles", "disabled", "created_at")
SESSION_COLUMNS = ("id", "created_at", "refreshed_at", "ends_at", "address")
User = Annotated[str, typer.Argument(metavar="USER", help="A user's id or name.")]
Roles = Annotated[list[str] | None, typer.Option("--role", help="Role of the user. May be repeated.")]
Generate = Annotated[
    bool, typer.Option("--generate", help="Make a random password, which the user has to replace, and print it.")
]


@users.command()
def create(
    name: Annotated[str, typer.Argument(help="Name to log in with.")],
    role: Roles = None,
    tenant: Annotated[str, typer.Option("--tenant", help="The user's tenant.")] = "",
    generate: Generate = False,
    json: Json = False,
) -> None:
    """Make a user; the command prompts for the password. The default role is developer."""
    make(name, role or ["developer"], tenant, generate, json)


def make(name: str, roles: list[str], tenant: str, generate: bool, json: bool) -> None:
    """Make a user, and print it, with its password if the password was generated."""
    password = new_password(generate)
    with connect() as client:
        made = client.create_user(name, password, roles, tenant or None, must_change_password=generate)
    if json:
        return print_json({**made, **({"password": password} if generate else {})})
    typer.echo(f"user {made['name']} ({made['id']}) of tenant {made['tenant']}: {', '.join(made['roles'])}")
    if generate:
        typer.echo(f"password {password}, to be replaced by `mayfly users password {made['name']}`")
    return None


@users.command("list")
def list_users(json: Json = False) -> None:
    """List users, oldest first."""
    with connect() as client:
        found = client.users()
    if json:
        return print_json({"items": found})
    rows = [[str(one[name])[:19] if name == "created_at" else one[name] for name in COLUMNS] for one in found]
    print_table([name.upper().removesuffix("_AT") for name in COLUMNS], rows)
    return None


users.command("ls", hidden=True)(list_users)


@users.command()
def change(
    user: User,
    role: Roles = None,
    disable: Annotated[bool, typer.Option("--disable", help="Refuse the user from now on.")] = False,
    enable: Annotated[bool, typer.Option("--enable", help="Let a disabled user in again.")] = False,
    password: Annotated[bool, typer.Option("--password", help="Prompt for a new password.")] = False,
    generate: Generate = False,
    json: Json = False,
) -> None:
    """Change a user, in force with its next request. A new password and disabling end all its sessions."""
    if disable and enable:
        raise CommandFailed("--disable and --enable exclude each other", MISTAKE)
    new = new_password(generate) if password or generate else None
    with connect() as client:
        id = found(client, user)["id"]
        disabled = disable if disable or enable else None
        must_change = generate if new else None
        shown = client.change_user(id, roles=role, disabled=disabled, password=new, must_change_password=must_change)
    if json:
        return print_json({**shown, **({"password": new} if generate else {})})
    typer.echo(f"user {shown['name']} changed" + (f"\npassword {new}" if generate else ""))
    return None


@users.command()
def delete(user: User) -> None:
    """Delete a user and its name; its sessions end at once."""
    with connect() as client:
        client.delete_user(found(client, user)["id"])
    typer.echo(f"{user} deleted")


@users.command()
def sessions(
    user: User,
    end: Annotated[list[str] | None, typer.Option("--end", metavar="ID", help="End this session. Repeatable.")] = None,
    own: Annotated[
        bool, typer.Option("--own", help="Your own sessions; USER is your name, the command prompts for the password.")
    ] = False,
    json: Json = False,
) -> None:
    """End the named sessions of a user, and list the others."""
    if own:
        url, _ = api_of(Configuration.from_environment())
        with Client(url, "") as client:
            listed = client.own_sessions(user, read_password(), end or ())
    else:
        with connect() as client:
            id = found(client, user)["id"]
            for session in end or ():
                client.end_user_session(id, session)
            listed = client.user_sessions(id)
    if json:
        return print_json({"items": listed})
    rows = [[str(one[name])[:19] if name.endswith("_at") else one[name] for name in SESSION_COLUMNS] for one in listed]
    print_table([name.upper().removesuffix("_AT") for name in SESSION_COLUMNS], rows)
    return None


@users.command("password")
def own_password(name: Annotated[str, typer.Argument(help="Your name.")]) -> None:
    """Replace your own password, which ends all your sessions and logs you in again."""
    url, _ = api_of(Configuration.from_environment())
    old = read_password("Old password: ")
    with Client(url, "") as client:
        answer = client.change_password(name, old, new_password(generate=False))
    Logins(logins_file()).put(url, Login.of(answer, name))
    typer.echo("The password was changed.")


def new_password(generate: bool) -> str:
    """A new password: random, or typed, at a terminal twice."""
    if generate:
        return secrets.token_urlsafe(24)
    first = read_password("New password (15 to 256 bytes): ")
    if typer.get_text_stream("stdin").isatty() and read_password("Repeat the password: ") != first:
        raise CommandFailed("The two passwords differ.", MISTAKE)
    return first


def found(client: Client, user: str) -> Document:
    """The user with that id or name. Raises :class:`CommandFailed`."""
    one = next((one for one in client.users() if user in (one["id"], one["name"])), None)
    if one is None:
        raise CommandFailed(f"There is no user {user!r}.", MISTAKE)
    return one
