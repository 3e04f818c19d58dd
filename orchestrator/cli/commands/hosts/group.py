"""``mayfly host``: packs into one file all that a further worker host needs, and runs the worker there.

The file has the signing key, the passwords of Redis's users ``worker`` and ``engine-proxy``, the certificate authority,
an API key of the scope ``worker`` for this host alone, settings and images. It is as secret as the signing key.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.commands.hosts.proxy import DIRECTORY as PROXY_DIRECTORY
from orchestrator.cli.commands.hosts.proxy import lock_proxy, start_proxy
from orchestrator.cli.connection import connect, located, server_settings
from orchestrator.cli.console import CommandFailed, Commands, note
from orchestrator.cli.verdict import MISTAKE
from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host.image_files import extract, load_images, save_images
from orchestrator.settings import PREFIX, inherited_environment

AS_USER = ("setpriv", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")
host = typer.Typer(cls=Commands, no_args_is_help=True, help="Add a worker host to an installation.")
SETTINGS, IMAGES = "worker.json", "images.tar"
# In the directory that deploy/prepare.sh makes, by the name in the file and the setting.
FILES = {
    "secret": ("secrets/signing-key", "secret_file"),
    "redis-password": ("secrets/redis-worker", "redis_password_file"),
    "ca.crt": ("tls/ca.crt", "redis_ca_file"),
}
PROXY_PASSWORD = "redis-engine-proxy-password"  # noqa: S105 - a file's name
PROXY_SOURCE = "secrets/redis-engine-proxy"
TOKEN = "worker-token"  # noqa: S105 - a file's name


@host.command()
def pack(
    file: Annotated[Path, typer.Argument(help="New file, readable to you alone.")],
    name: Annotated[str, typer.Option("--name", help="The new host's name, for its API key.")],
    redis: Annotated[str, typer.Option("--redis", metavar="URL", help="rediss://worker@HOST:PORT/0, as seen there.")],
    api: Annotated[str, typer.Option("--api", metavar="URL", help="https://HOST:PORT, as seen there.")],
    home: Annotated[Path, typer.Option("--home", envvar="MAYFLY_HOME", help="Directory of deploy/prepare.sh.")] = Path(
        "/var/lib/mayfly"
    ),
    driver: Annotated[str, typer.Option("--driver", envvar="MAYFLY_DRIVER", help="`docker` or `oci`.")] = "docker",
    environment: Annotated[
        list[str] | None, typer.Option("--environment", help="Only these images. May be repeated.")
    ] = None,
) -> None:
    """Pack what a new worker host needs: secrets, certificate authority, settings, images, and a new API key."""
    if not redis.startswith("rediss://") or not api.startswith("https://"):
        raise CommandFailed("Between hosts passwords and programs travel: use rediss:// and https://", MISTAKE)
    copied = {member: path for member, (path, _) in FILES.items()} | {PROXY_PASSWORD: PROXY_SOURCE}
    missing = [str(home / path) for path in copied.values() if not (home / path).is_file()]
    if missing:
        raise CommandFailed(f"There is no {', '.join(missing)}; name the directory of deploy/prepare.sh with --home.")
    settings = {"redis_url": redis, "blobs_url": api, "driver": driver, "production": "true"}
    with tempfile.TemporaryDirectory(prefix="mayfly-host-") as directory:
        images = Path(directory) / IMAGES
        try:
            save_images(home / "images", images, environment or [])
        except EnvironmentUnavailable as error:
            raise CommandFailed(error.message) from error
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:  # before there is a key for it
            raise CommandFailed(f"{file} cannot be created: {error.strerror}") from error
        with os.fdopen(descriptor, "wb") as out, connect() as client:
            made = client.create_key(f"worker-host-{name}", ["worker"], None, {})
            texts = {SETTINGS: json.dumps(settings, indent=1), TOKEN: made.secret}
            for member, text in texts.items():
                (Path(directory) / member).write_text(f"{text}\n", encoding="utf-8")
            with tarfile.open(fileobj=out, mode="w") as archive:
                for member, path in copied.items():
                    archive.add(home / path, member)
                for member in (*texts, IMAGES):
                    archive.add(Path(directory) / member, member)
    note(f"API key {made.id} is this host's; `mayfly keys revoke {made.id}` takes its access to contents away.")
    typer.echo(file)


@host.command()
def run(
    file: Annotated[Path | None, typer.Argument(help="The packed file; once, the first time.")] = None,
    user: Annotated[
        str, typer.Option("--user", help="With driver `docker`: the user of the worker, without further groups.")
    ] = "",
) -> None:
    """Run the worker of this host. With a file, put its content into the state directory first.

    With driver `docker` the engine proxy runs beside the worker, as the user of this command.
    """
    settings = located(server_settings())
    state = settings.state_dir.absolute()
    if file is not None:
        _join(file, state)
    try:
        packed = json.loads((state / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CommandFailed(f"There is no {state / SETTINGS}: name the file that `mayfly host pack` made.") from error
    packed |= {setting: str(state / member) for member, (_, setting) in FILES.items()}
    packed |= {"worker_token_file": str(state / TOKEN), "blobs_ca_file": str(state / "ca.crt")}
    packed |= {"state_dir": str(state), "engine_proxy": "true"}
    given = settings.model_fields_set  # these come before the file's
    driver = settings.driver if "driver" in given else packed["driver"]
    is_proxied = driver == "docker" and (settings.engine_proxy or "engine_proxy" not in given)
    account = _account(user, is_proxied=is_proxied) if user else None
    if is_proxied:
        packed |= {"engine_proxy_socket": str(state / PROXY_DIRECTORY / "engine.sock")}
    if account is not None:
        packed |= {"sandbox_dir": str(state / "sandboxes")}
    environment = {PREFIX + name.upper(): value for name, value in packed.items()} | inherited_environment()
    lock = lock_proxy(environment) if is_proxied else None  # before files change that another worker uses
    if account is not None:
        _share(state, settings.sandbox_dir or state / "sandboxes", account)
    if lock is not None:
        start_proxy(_proxy_environment(environment, state), account, lock)
        if account is None and os.geteuid() == 0:
            note("The worker runs as root. With --user it gets a user of its own, and only the proxy has the engine.")
    command = [sys.executable, "-m", "worker"]
    if account is not None:
        command = [*AS_USER, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--", *command]
    os.execvpe(command[0], command, environment)  # noqa: S606 - see above


def _account(user: str, *, is_proxied: bool) -> pwd.struct_passwd:
    """The user of the worker. Raises :class:`CommandFailed` where the worker cannot have a user of its own."""
    if not is_proxied:
        raise CommandFailed("--user is for driver `docker` with the engine proxy; other workers need rights.", MISTAKE)
    if os.geteuid() != 0:
        raise CommandFailed("Only root can run the worker as another user.", MISTAKE)
    try:
        return pwd.getpwnam(user)
    except KeyError as error:
        raise CommandFailed(f"This host has no user {user!r}: useradd --system {user}", MISTAKE) from error


def _share(state: Path, sandboxes: Path, account: pwd.struct_passwd) -> None:
    """Give the worker's files to its user: secrets, and the directory of sandboxes; images only to read."""
    state.chmod(0o711)
    if sandboxes == state / "sandboxes" and sandboxes.is_symlink():  # root's, into memory, of a worker without --user
        sandboxes.unlink()
    sandboxes.mkdir(mode=0o711, exist_ok=True)
    for path in (sandboxes, *(state / member for member in (*FILES, TOKEN))):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    for path in (state / "images", *(state / "images").iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _proxy_environment(environment: Mapping[str, str], state: Path) -> dict[str, str]:
    """That of the worker, with the Redis user ``engine-proxy``, where the packed file had its password."""
    password = state / PROXY_PASSWORD
    scheme, _, place = environment[f"{PREFIX}REDIS_URL"].partition("://worker@")
    if not place or not password.is_file():
        return dict(environment)
    changes = {"REDIS_URL": f"{scheme}://engine-proxy@{place}", "REDIS_PASSWORD_FILE": str(password)}
    return {**environment, **{PREFIX + name: value for name, value in changes.items()}}


def _join(file: Path, state: Path) -> None:
    """Put the content of a packed file into the state directory, secrets readable to this user alone."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    members = (*FILES, PROXY_PASSWORD, TOKEN, SETTINGS)  # the settings last: they make the others count
    try:
        with tarfile.open(file) as archive, tempfile.TemporaryDirectory(dir=state) as directory:
            for member in (*members, IMAGES):
                extract(archive, member, Path(directory))
            load_images(Path(directory) / IMAGES, state / "images")
            for member in members:
                (Path(directory) / member).chmod(0o600)
                (Path(directory) / member).replace(state / member)
    except (OSError, KeyError, tarfile.TarError, EnvironmentUnavailable) as error:
        raise CommandFailed(f"{file} cannot be unpacked into {state}: {error}") from error
