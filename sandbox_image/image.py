"""One image, from a declaration to its files: NAME.tar, NAME.cdx.json and NAME.json.

Images of sandboxes and of tool servers differ in their roots, and in the content of NAME.json; the rest is here.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sandbox_image import archive, rootfs, sbom
from sandbox_image.debian import Source

Unpack = Callable[[Path], Path]  # Debian's packages into a tar, with the help of a scratch directory
# From the unpacked root, Debian's packages in it and a scratch directory: the image's root, and the other packages.
MakeRoot = Callable[[rootfs.Root, Sequence[sbom.Package], Path], tuple[rootfs.Root, Sequence[sbom.Component]]]


class Recipe(NamedTuple):
    """How an image is made. ``more`` are further fields of NAME.json."""

    name: str
    version: str
    inputs_hash: str
    unpack: Unpack
    config: Mapping[str, Any]
    make_root: MakeRoot
    more: Mapping[str, Any] = {}


def report(line: str) -> None:
    """Print one line of progress."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def build(recipe: Recipe, source: Source, output: Path, force: bool = False) -> dict[str, Any]:
    """Build an image below ``output``, unless the same is there already; returns the content of NAME.json.

    Raises :class:`BuildError`, :class:`rootfs.RootError` for an unsuitable root, and the exceptions of ``make_root``.
    """
    name, version = recipe.name, recipe.version
    summary_path, image_path = output / f"{name}.json", output / f"{name}.tar"
    if not force and summary_path.exists() and image_path.exists():
        summary: dict[str, Any] = json.loads(summary_path.read_text())
        if summary.get("inputs_hash") == recipe.inputs_hash:
            report(f"{name}: unchanged, {summary['image_id'][:19]}")
            return summary
    report(f"{name}: unpacking packages of {source.suite} …")
    began = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="mayfly-build-") as temporary,
        tempfile.TemporaryDirectory(prefix=".build-", dir=output) as staging,
    ):
        scratch, finished = Path(temporary), Path(staging, image_path.name)
        layer = scratch / "layer.tar"
        with tarfile.open(recipe.unpack(scratch)) as unpacked:
            raw = rootfs.read(unpacked)
            packages = sbom.parse_listing(raw[sbom.LISTING].open().read().decode())
            root, fetched = recipe.make_root(raw, packages, scratch)
            with layer.open("wb") as file:
                size = rootfs.write(root, file, source.mtime)
        image = archive.write_image(name, recipe.config, source.architecture, [layer], finished, source.mtime)
        summary_path.unlink(missing_ok=True)  # removed first, since it states that the archive is complete
        finished.replace(image_path)
    listed: list[sbom.Component] = [*sbom.in_image(packages, root), *fetched]
    bill = sbom.bill(name, version, image.id, archive.created(source.mtime), listed)
    (output / f"{name}.cdx.json").write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")
    summary = {
        "name": name,
        "version": version,
        "image_id": image.id,
        "tag": image.tag,
        "size_bytes": size,
        "packages": len(listed),
        "inputs_hash": recipe.inputs_hash,
        **recipe.more,
    }
    summary_path.write_text(json.dumps(summary, indent=1) + "\n")
    seconds = time.monotonic() - began
    report(f"{name}: {image.id[:19]}, {size / 1e6:.0f} MB, {len(listed)} packages, {seconds:.0f} s")
    return summary
