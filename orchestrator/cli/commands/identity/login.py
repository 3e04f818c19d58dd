"""``mayfly login`` and ``mayfly logout``: by password of an own user, or at an OIDC issuer."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from getpass import getpass
from typing import Annotated, Any

import typer

from mayfly import Client, MayflyError, NotFound, Unauthenticated
from orchestrator.cli import oauth
from orchestrator.cli.connection import Configuration, api_of, logins_file
from orchestrator.cli.console import CommandFailed, Json, print_json
from orchestrator.cli.logins import Login, Logins
from orchestrator.cli.verdict import FAILED_HERE, MISTAKE

METADATA = "/.well-known/oauth-protected-resource"


def login(
    name: Annotated[str, typer.Option("--name", help="Log in as this own user, by password.")] = "",
    issuer: Annotated[str, typer.Option("--issuer", help="An OIDC issuer. Default: as the API names it.")] = "",
    client_id: Annotated[str, typer.Option("--client-id", help="This command's client id at the issuer.")] = "",
    audience: Annotated[str, typer.Option("--audience", help="The API's audience at the issuer.")] = "",
    scope: Annotated[str, typer.Option("--scope", help="Scopes to ask the issuer for.")] = "openid offline_access",
    browser: Annotated[bool, typer.Option("--browser", help="Use a browser of this machine, without a code.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only print the current log-in.")] = False,
    json: Json = False,
) -> None:
    """Log in at the API: at an OIDC issuer by a code that is typed in a browser, or as an own user by password.

    The tokens are kept in ~/.config/mayfly/logins.json, for this user alone, and used while MAYFLY_TOKEN is not set.
    """
    url, _ = api_of(Configuration.from_environment())
    logins = Logins(logins_file())
    if status:
        return _print(url, logins.get(url), json)
    client = None if name else _client(url, issuer, client_id, audience, scope)
    made = _own(url, name) if client is None else _at_issuer(client, browser)
    logins.put(url, made)
    return _print(url, made, json)


def logout(
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget the tokens even if the log-in does not end.")
    ] = False,
) -> None:
    """End the log-in, and then forget its tokens: at the API, or by revoking the tokens at the issuer (RFC 7009)."""
    url, _ = api_of(Configuration.from_environment())
    logins = Logins(logins_file())
    found = logins.get(url)
    if found is None:
        raise CommandFailed(f"There is no log-in at {url}.", FAILED_HERE)
    try:
        ended = _end(url, found)
    except (MayflyError, CommandFailed, oauth.Refused) as error:
        if not forget:
            advice = "Try again, or forget only its tokens: mayfly logout --forget"
            raise CommandFailed(f"The log-in at {url} may not have ended, and is kept. {error} {advice}") from error
        ended = False
    logins.remove(url)
    place = found.issuer or url
    typer.echo(f"Logged out at {url}." + ("" if ended else f" The session at {place} continues."))


def _end(url: str, found: Login) -> bool:
    """End a log-in; ``False`` at an issuer that cannot revoke tokens. Raises the errors of its requests."""
    if found.issuer:
        endpoint = oauth.discover(found.issuer).revocation
        form = {"client_id": found.client_id, "token": found.refresh_token, "token_type_hint": "refresh_token"}
        if endpoint and found.refresh_token:
            oauth.revoke(endpoint, form)
        return bool(endpoint and found.refresh_token)
    with Client(url, "") as client, suppress(Unauthenticated):  # a refresh token that is invalid has no session
        client.log_out(found.refresh_token)
    return True


def read_password(prompt: str = "Password: ") -> str:
    """A password from the terminal, or a line of standard input; never an argument, which other users can see."""
    return getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def _own(url: str, name: str) -> Login:
    name = name or typer.prompt("Name", err=True)
    with Client(url, "") as client:
        return Login.of(client.log_in(name, read_password()), name)


def _client(url: str, issuer: str, client_id: str, audience: str, scopes: str) -> oauth.Client | None:
    """The client at the chosen issuer; ``None`` for own users. Raises :class:`CommandFailed`."""
    listed = _listed(url) if not (issuer and client_id) else []
    found = next((one for one in listed if issuer in ("", one["issuer"])), None)
    if found is not None:
        issuer, client_id, audience = (
            issuer or found["issuer"],
            client_id or found["client_id"],
            audience or found["audience"],
        )
    if issuer and not client_id:
        raise CommandFailed(f"The API names no client of `mayfly login` at {issuer}: give its --client-id.", MISTAKE)
    return oauth.Client(issuer, client_id, audience, scopes) if issuer else None


def _listed(url: str) -> list[dict[str, Any]]:
    """The clients at issuers that the API names in its metadata (RFC 9728)."""
    with Client(url, "") as client:
        try:
            document = client.public(METADATA)
        except NotFound:
            return []
        except MayflyError as error:
            raise CommandFailed(f"{error} Or give --name, or --issuer and --client-id.") from error
    found: list[dict[str, Any]] = document.get("mayfly_logins", [])
    return found


def _at_issuer(client: oauth.Client, browser: bool) -> Login:
    from orchestrator.cli.commands.identity.flows import by_browser, by_code

    endpoints = oauth.discover(client.issuer)
    try:
        answer = by_browser(client, endpoints) if browser else by_code(client, endpoints)
    except oauth.Refused as error:
        raise CommandFailed(f"{client.issuer} refused the log-in: {error}", MISTAKE) from error
    about = {"issuer": client.issuer, "client_id": client.client_id, "audience": client.audience}
    return Login.of(answer, f"a user of {client.issuer}", token_endpoint=endpoints.token, **about)


def _print(url: str, found: Login | None, json: bool) -> None:
    if found is None:
        if json:
            print_json({"url": url, "logged_in": False})
        else:
            typer.echo(f"There is no log-in at {url}.")
        raise typer.Exit(FAILED_HERE)
    left = max(0, round(found.expires_at - time.time()))
    if json:
        return print_json({
            "url": url, "logged_in": True, "user": found.user, "issuer": found.issuer or None, "expires_in": left,
            "renewable": bool(found.refresh_token),
        })  # fmt: skip
    renewal = "is refreshed then" if found.refresh_token else "cannot be refreshed"
    typer.echo(f"Logged in at {url} as {found.user}; the access token ends in {left} s and {renewal}.")
    return None
