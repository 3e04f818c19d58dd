"""``mayfly images``: the images on this host, their provenance, and the removal of old ones."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from orchestrator.cli.commands.local.engine import Engine, EngineUnreachable
from orchestrator.cli.commands.local.stack import Stack
from orchestrator.cli.connection import located, server_settings
from orchestrator.cli.console import CommandFailed, Commands, Json, print_json, print_table
from orchestrator.host.rootfs import UNUSED_SECONDS, prune
from orchestrator.settings import Settings

images = typer.Typer(
    cls=Commands, no_args_is_help=True, help="List images on this host, sign and verify them, and remove old ones."
)


class Kept(NamedTuple):
    """One copy of an image. An ``old`` copy can be removed: in an engine, one that belongs to no environment as it is
    built now, and to no container; unpacked, one that no worker has used for a day.
    """

    place: str  # ``archive``, ``unpacked`` (driver oci) or ``engine``
    name: str
    image: str
    size_bytes: int
    old: bool


@images.command("ls")
def ls(json: Json = False) -> None:
    """Print every copy of a sandbox image: built archives, and copies in the engine or unpacked for driver oci."""
    _print(_copies(_settings()), json)


@images.command("prune")
def prune_images(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove old copies from the engine, and unpacked copies that no worker has used for a day."""
    settings = _settings()
    old = [copy for copy in _copies(settings) if copy.old]
    if not dry_run:
        prune(_unpacked(settings))
        if settings.driver == "docker":
            with _engine(settings) as engine:
                doomed = {copy.image for copy in old if copy.place == "engine"}
                kept = {one.id for one in engine.images() if one.id in doomed and not engine.remove_image(one)}
            old = [copy for copy in old if copy.image not in kept]
    _print(old, json)


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


def _copies(settings: Settings) -> list[Kept]:
    """Every copy on this host. Raises :class:`CommandFailed` if the engine does not answer."""
    built = {path.stem: json.loads(path.read_text()) for path in sorted(settings.images_path.glob("*.json"))}
    built = {name: described for name, described in built.items() if "image_id" in described}
    current = {described["image_id"] for described in built.values()}
    found = [Kept("archive", name, one["image_id"], one["size_bytes"], False) for name, one in built.items()]
    for place in sorted(_unpacked(settings).glob("[0-9a-f]*")):
        with suppress(FileNotFoundError):  # a worker removes it meanwhile
            old = time.time() - place.stat().st_mtime >= UNUSED_SECONDS
            found.append(Kept("unpacked", place.name[:12], f"sha256:{place.name}", _bytes(place), old))
    if settings.driver == "docker":
        with _engine(settings) as engine:
            for copy in engine.images():
                old = copy.id not in current and not copy.used
                found.append(Kept("engine", ", ".join(copy.tags), copy.id, copy.size_bytes, old))
    return found


def _settings() -> Settings:
    return Stack(located(server_settings())).as_started()


def _engine(settings: Settings) -> Engine:
    try:
        engine = Engine(settings.docker_url)
        engine.info()
    except EngineUnreachable as error:
        raise CommandFailed(str(error)) from error
    return engine


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
