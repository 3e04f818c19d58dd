"""Commands from packages of later Debian releases, pinned by digest, whose one file runs on this release too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.harness import ROOT
from tests.lanes import locked

KEPT = ROOT / ".mayfly" / "tools"
HELPER = "/usr/lib/apt/apt-helper"
ORIGIN = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm"]


class Package(NamedTuple):
    """A package, and the command in it. ``moves``: its release is not a stable one, which may drop it any day."""

    source: str
    name: str
    version: str
    sha256: str
    command: str
    moves: bool = False


def command_of(package: Package) -> str:
    """The path of the package's command, fetched at the first call."""
    command = KEPT / f"{package.name}-{package.version}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with locked(KEPT / "lock"):
        if not command.exists():
            _fetch(package, command)
    return str(command)


def _fetch(package: Package, command: Path) -> None:
    archive, unpacked, copied = (Path(f"{command}.{suffix}") for suffix in ("deb", "unpacked", "copied"))
    (origin,) = subprocess.run(ORIGIN, check=True, capture_output=True, text=True).stdout.split()
    place = f"pool/main/{package.source[0]}/{package.source}/{package.name}_{package.version}_amd64.deb"
    fetch = [HELPER, "-o", "APT::Sandbox::User=root", "download-file", f"{origin}{place}", str(archive)]
    done = subprocess.run([*fetch, f"SHA256:{package.sha256}"], capture_output=True, text=True)
    if package.moves and "404" in done.stderr:
        pytest.skip(f"Debian has {package.name} {package.version} no longer: pin its successor")
    assert done.returncode == 0, done.stderr
    subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked)], check=True)
    shutil.copy(unpacked / package.command, copied)
    copied.rename(command)  # so that an interrupted copy is never taken for the command
    shutil.rmtree(unpacked)
    archive.unlink()
