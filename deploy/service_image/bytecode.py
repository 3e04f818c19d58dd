"""Byte code of a staged directory, made by the Python of the image itself: this host may have another version."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from deploy.service_image.declarations import Base
from sandbox_image.debian import BuildError


def compile_tree(root: Path, directory: Path, base: Base, scratch: Path) -> None:
    """Compile all of ``directory``, whose paths in the image begin at ``root``.

    The interpreter of ``base`` is started by its own loader, so neither root nor a namespace is needed. As for the
    sandbox images: unchecked, and with a fixed hash seed so that sets are written in one order.
    """
    unpacked = scratch / "base"
    with tarfile.open(base.tar) as packed:
        packed.extractall(unpacked)  # noqa: S202 - ours
    loader = next(unpacked.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*"))  # links to it may lead to this host's
    python = [str(loader), "--library-path", str(loader.parent), str(unpacked / "usr/bin/python3")]
    options = ["-q", "-s", str(root), "-p", "/", "--invalidation-mode", "unchecked-hash", str(directory)]
    done = subprocess.run(
        [*python, "-B", "-m", "compileall", *options],
        env={"PYTHONHOME": str(unpacked / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    if not any(directory.rglob("*.pyc")):  # a package may have a file that is no source of this version
        raise BuildError(f"no byte code was made:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
