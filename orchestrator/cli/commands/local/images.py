"""``mayfly images``: the images on this host, their provenance, their removal, and their way to another host."""

from __future__ import annotations

import json
import os
import re
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from orchestrator.cli.commands.local.engine import Engine, EngineUnreachable
from orchestrator.cli.commands.local.stack import Stack
from orchestrator.cli.connection import located, server_settings
from orchestrator.cli.console import CommandFailed, Commands, Json, print_json, print_table
from orchestrator.cli.verdict import MISTAKE
from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host.image_files import digests_of, load_images, save_images
from orchestrator.host.registry import Registry, read_credentials
from orchestrator.host.rootfs import REMOVING, UNUSED_SECONDS, prune
from orchestrator.settings import Settings

images = typer.Typer(cls=Commands, no_args_is_help=True, help="List, move, sign and remove images.")
Private = Annotated[
    Path | None, typer.Option("--credentials", metavar="FILE", help="A file of mode 600 with USER:PASSWORD.")
]
NAMED = re.compile(r"[a-z0-9][a-z0-9-]*=sha256:[0-9a-f]{64}")


class Kept(NamedTuple):
    """One copy of an image. An ``old`` copy can be removed: in an engine, one that belongs to no environment or service
    as it is built now, and to no container; unpacked, one that no worker has used for a day.
    """

    place: str  # ``archive``, ``unpacked`` (driver oci) or ``engine``
    name: str
    image: str
    size_bytes: int
    old: bool


@images.command("ls")
def ls(json: Json = False) -> None:
    """Print every copy of an image: built archives, and copies in the engine or unpacked for driver oci."""
    _print(_copies(_settings()), json)


@images.command("prune")
def prune_images(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove old copies from the engine, and unpacked copies that no worker has used for a day."""
    settings = _settings()
    old = [copy for copy in _copies(settings) if copy.old]
    left: tuple[str, ...] = ()
    if not dry_run:
        left = prune(_unpacked(settings)).left
        there = {f"sha256:{name.removeprefix(REMOVING)}" for name in left}
        old = [copy for copy in old if copy.place != "unpacked" or copy.image not in there]
        if settings.driver == "docker":
            with _engine(settings) as engine:
                doomed = {copy.image for copy in old if copy.place == "engine"}
                in_use = {one.id for one in engine.images() if one.id in doomed and not engine.remove_image(one)}
            old = [copy for copy in old if copy.place != "engine" or copy.image not in in_use]
    _print(old, json)
    if left:
        raise CommandFailed(f"Could not be removed from {_unpacked(settings)} (reasons above): {', '.join(left)}")


@images.command("sign")
def sign_images(
    key: Annotated[Path, typer.Option(help="The private key (Ed25519, PEM).")],
    json: Json = False,
) -> None:
    """Write the provenance of every built image beside its archive, signed."""
    from orchestrator.host import provenance  # imported here: no other command needs cryptography

    try:
        private = provenance.private_key(key)
    except provenance.ProvenanceError as error:
        raise CommandFailed(str(error)) from error
    found = {path.stem: str(provenance.sign(path, private)) for path in provenance.built(_settings().images_path)}
    if json:
        return print_json({"items": [{"name": name, "provenance": path} for name, path in found.items()]})
    return print_table(("NAME", "PROVENANCE"), list(found.items()))


@images.command("verify")
def verify_images(
    key: Annotated[Path, typer.Option(help="The public key (Ed25519, PEM).")],
    json: Json = False,
) -> None:
    """Verify that every built image is what the key's owner has signed: archive, packages and inputs. Exits with 1 if
    one is not.
    """
    from orchestrator.host import provenance

    try:
        public = provenance.public_key(key)
    except provenance.ProvenanceError as error:
        raise CommandFailed(str(error)) from error
    faults = {path.stem: provenance.fault(path, public) for path in provenance.built(_settings().images_path)}
    if json:
        print_json({"items": [{"name": name, "fault": fault} for name, fault in faults.items()]})
    else:
        print_table(("NAME", "FAULT"), [(name, fault or "none") for name, fault in faults.items()])
    if not faults:
        raise CommandFailed("There is no image to verify.")
    if any(faults.values()):
        raise typer.Exit(1)


@images.command("save")
def save(
    file: Annotated[Path, typer.Argument(help="New file.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[ENVIRONMENT]...", help="Default: all.")] = None,
    json: Json = False,
) -> None:
    """Write built images, each with its digest and list of packages, to a file for another host."""
    with _damage():
        _print_digests(save_images(_settings().images_path, file, names or []), json)


@images.command("load")
def load(
    file: Annotated[Path, typer.Argument(help="A file that `save` wrote.")],
    image: Annotated[
        list[str] | None, typer.Option("--image", help="Accept only this digest. May be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Put the images of a file beside the built ones; each must have the digest that it names."""
    with _damage():
        _print_digests(load_images(file, _settings().images_path, image or ()), json)


@images.command("push")
def push(
    repository: Annotated[str, typer.Argument(metavar="URL", help="https://HOST/REPOSITORY of your registry.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[ENVIRONMENT]...", help="Default: all.")] = None,
    credentials: Private = None,
    json: Json = False,
) -> None:
    """Put built images into a registry, each under its digest, with its list of packages."""
    with _registry(repository, credentials) as place:
        directory = _settings().images_path
        wanted = names or sorted(digests_of(directory))
        _print_digests({name: place.push(directory, name) for name in wanted}, json)


@images.command("pull")
def pull(
    repository: Annotated[str, typer.Argument(metavar="URL", help="https://HOST/REPOSITORY of your registry.")],
    wanted: Annotated[list[str], typer.Argument(metavar="ENVIRONMENT=sha256:DIGEST...", help="As `push` printed it.")],
    credentials: Private = None,
    json: Json = False,
) -> None:
    """Get images from a registry by their digests, and put them beside the built ones."""
    digests = {name: digest for name, _, digest in (one.partition("=") for one in wanted)}
    if wrong := [name for name, digest in digests.items() if not NAMED.fullmatch(f"{name}={digest}")]:
        raise CommandFailed(f"Name each image as ENVIRONMENT=sha256:DIGEST, not {', '.join(wrong)}", MISTAKE)
    with _registry(repository, credentials) as place:
        for name, digest in digests.items():
            place.pull(_settings().images_path, name, digest)
        _print_digests(digests, json)


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (OSError, tarfile.TarError, EnvironmentUnavailable) as error:
        raise CommandFailed(str(error)) from error


@contextmanager
def _registry(repository: str, credentials: Path | None) -> Iterator[Registry]:
    with _damage():
        known = None if credentials is None else read_credentials(credentials)
        with closing(Registry(repository, known)) as place:
            yield place


def _print_digests(digests: dict[str, str], as_json: bool) -> None:
    if as_json:
        return print_json({"items": [{"name": name, "image": digest} for name, digest in digests.items()]})
    return print_table(("NAME", "IMAGE"), list(digests.items()))


def _copies(settings: Settings) -> list[Kept]:
    """Every copy on this host. Raises :class:`CommandFailed` if the engine does not answer."""
    built, services = _described(settings.images_path), _described(settings.images_path / "services")
    current = {described["image_id"] for described in (*built.values(), *services.values())}
    found = [Kept("archive", name, one["image_id"], one["size_bytes"], False) for name, one in built.items()]
    for place in sorted(_unpacked(settings).glob("[0-9a-f]*")):
        with suppress(FileNotFoundError):  # a worker removes it meanwhile
            old = time.time() - place.stat().st_mtime >= UNUSED_SECONDS
            found.append(Kept("unpacked", place.name[:12], f"sha256:{place.name}", _bytes(place), old))
    if settings.driver == "docker":
        with _engine(settings) as engine:
            # Without services built here, those in the engine are of an installation that this one does not know.
            for copy in (one for one in engine.images() if services or not one.service):
                old = copy.id not in current and not copy.used
                found.append(Kept("engine", ", ".join(copy.tags), copy.id, copy.size_bytes, old))
    return found


def _described(directory: Path) -> dict[str, dict[str, Any]]:
    """The images that were built into a directory, by name."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}
    return {name: described for name, described in found.items() if "image_id" in described}


def _settings() -> Settings:
    return Stack(located(server_settings())).as_started()


@contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    try:
        with Engine(settings.docker_url) as engine:
            yield engine
    except EngineUnreachable as error:
        raise CommandFailed(str(error)) from error


def _unpacked(settings: Settings) -> Path:
    return settings.oci_path / "rootfs"


def _bytes(place: Path) -> int:
    found = ((Path(at) / name).lstat().st_blocks for at, _, names in os.walk(place) for name in names)
    return 512 * sum(found)


def _print(copies: list[Kept], as_json: bool) -> None:
    if as_json:
        return print_json({"items": [copy._asdict() for copy in copies]})
    rows = [(one.place, one.name, one.image[:19], f"{one.size_bytes / 1e6:.0f} MB", "old" if one.old else "")
            for one in copies]  # fmt: skip
    return print_table(("PLACE", "NAME", "IMAGE", "SIZE", ""), rows)
