"""Built images as one file, to carry to another host: archive, list of packages (SBOM), provenance and description of
each.

An archive is accepted only if its content has the digest of its description, when it is saved and when it is loaded.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host.rootfs import check

PROVENANCE = "provenance.json"  # only of signed images
PARTS = ("tar", "cdx.json", PROVENANCE, "json")  # the description last: it makes the others count
MEMBER = re.compile(r"[a-z0-9][a-z0-9-]*\.(" + "|".join(map(re.escape, PARTS)) + ")")


def save_images(directory: Path, file: Path, names: Sequence[str]) -> dict[str, str]:
    """Write the images of ``names``, or all, to a new file; returns their digests.

    Raises :class:`EnvironmentUnavailable` for a missing or damaged image.
    """
    found = digests_of(directory)
    chosen = {name: found.get(name, "") for name in names or sorted(found)}
    if unknown := [name for name, digest in chosen.items() if not digest]:
        raise EnvironmentUnavailable(f"No image of {', '.join(unknown)} in {directory}; build it with `make images`.")
    with tarfile.open(file, "x", format=tarfile.PAX_FORMAT, dereference=True) as archive:
        for name, digest in chosen.items():
            check(directory / f"{name}.tar", digest)
            for path in parts_of(directory, name):
                archive.add(path, path.name)
    return chosen


def load_images(file: Path, directory: Path, accepted: Collection[str] = ()) -> dict[str, str]:
    """Put the images of a file into a directory of images, with ``accepted`` only those digests; returns their digests.

    Raises :class:`EnvironmentUnavailable` for another digest; then no image has changed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file) as archive, tempfile.TemporaryDirectory(dir=directory, prefix=".loading-") as fresh:
        for member in archive:
            if member.isreg() and MEMBER.fullmatch(member.name):
                extract(archive, member.name, Path(fresh))
        found = digests_of(Path(fresh))
        for name, digest in found.items():
            if accepted and digest not in accepted:
                raise EnvironmentUnavailable(f"{file} has the image {digest} of {name}, which was not asked for.")
            for path in parts_of(Path(fresh), name):
                if not path.is_file():
                    raise EnvironmentUnavailable(f"{file} has no {path.name}.")
            check(Path(fresh) / f"{name}.tar", digest)
        for name in found:
            put_in_place(Path(fresh), name, directory)
    return found


def parts_of(directory: Path, name: str) -> list[Path]:
    """The files of an image; that of its provenance only if it is there."""
    paths = [directory / f"{name}.{part}" for part in PARTS]
    return [path for path in paths if not path.name.endswith(PROVENANCE) or path.exists()]


def put_in_place(fresh: Path, name: str, directory: Path) -> None:
    """Move the complete files of an image into the directory of images, in place of an older image's."""
    (directory / f"{name}.{PROVENANCE}").unlink(missing_ok=True)  # of the older image
    for path in parts_of(fresh, name):
        path.replace(directory / path.name)


def extract(archive: tarfile.TarFile, name: str, directory: Path) -> None:
    """Write a regular file of an archive, and nothing of its attributes. Raises ``KeyError`` without the file."""
    source = archive.extractfile(name)
    if source is None:
        raise KeyError(f"{name} is no regular file")
    with source, (directory / name).open("xb") as target:
        shutil.copyfileobj(source, target)


def digests_of(directory: Path) -> dict[str, str]:
    """The digest of each described image by its environment."""
    paths = [path for path in sorted(directory.glob("*.json")) if path.name.count(".") == 1]
    described = {path.stem: json.loads(path.read_bytes()) for path in paths}
    return {name: str(one["image_id"]) for name, one in described.items() if "image_id" in one}
