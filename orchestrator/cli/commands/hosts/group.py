"""``mayfly host``: packs into one file all that a further worker host needs, and runs the worker there.

The file has the signing key, the password of Redis's user ``worker``, the certificate authority, an API key of the
scope ``worker`` for this host alone, settings and images. It is as secret as the signing key.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.connection import connect, located, server_settings
from orchestrator.cli.console import CommandFailed, Commands, note
from orchestrator.cli.verdict import MISTAKE
from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host.image_files import extract, load_images, save_images
from orchestrator.settings import PREFIX, inherited_environment

host = typer.Typer(cls=Commands, no_args_is_help=True, help="Add a worker host to an installation.")
SETTINGS, IMAGES = "worker.json", "images.tar"
# In the directory that deploy/prepare.sh makes, by the name in the file and the setting.
FILES = {
    "secret": ("secrets/signing-key", "secret_file"),
    "redis-password": ("secrets/redis-worker", "redis_password_file"),
    "ca.crt": ("tls/ca.crt", "redis_ca_file"),
}
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
    missing = [str(home / path) for path, _ in FILES.values() if not (home / path).is_file()]
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
                for member, (path, _) in FILES.items():
                    archive.add(home / path, member)
                for member in (*texts, IMAGES):
                    archive.add(Path(directory) / member, member)
    note(f"API key {made.id} is this host's; `mayfly keys revoke {made.id}` takes its access to contents away.")
    typer.echo(file)


@host.command()
def run(
    file: Annotated[Path | None, typer.Argument(help="The packed file; once, the first time.")] = None,
) -> None:
    """Run the worker of this host. With a file, put its content into the state directory first."""
    state = located(server_settings()).state_dir.absolute()
    if file is not None:
        _join(file, state)
    try:
        settings = json.loads((state / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CommandFailed(f"There is no {state / SETTINGS}: name the file that `mayfly host pack` made.") from error
    settings |= {setting: str(state / member) for member, (_, setting) in FILES.items()}
    settings |= {"worker_token_file": str(state / TOKEN), "blobs_ca_file": str(state / "ca.crt")}
    given = {PREFIX + setting.upper(): value for setting, value in settings.items()} | {
        f"{PREFIX}STATE_DIR": str(state)
    }
    environment = inherited_environment()
    os.execve(sys.executable, [sys.executable, "-m", "worker"], given | environment)  # noqa: S606 - see above


def _join(file: Path, state: Path) -> None:
    """Put the content of a packed file into the state directory, secrets readable to this user alone."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with tarfile.open(file) as archive, tempfile.TemporaryDirectory(dir=state) as directory:
            for member in (*FILES, TOKEN, SETTINGS, IMAGES):
                extract(archive, member, Path(directory))
            load_images(Path(directory) / IMAGES, state / "images")
            for member in (*FILES, TOKEN, SETTINGS):  # the settings last: they make the others count
                (Path(directory) / member).chmod(0o600)
                (Path(directory) / member).replace(state / member)
    except (OSError, KeyError, tarfile.TarError, EnvironmentUnavailable) as error:
        raise CommandFailed(f"{file} cannot be unpacked into {state}: {error}") from error
