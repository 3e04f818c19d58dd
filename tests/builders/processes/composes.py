"""The versions of compose that run ``deploy/compose.yaml``: docker-compose 1.29 of the host, and Debian's builds of v2.

Those are packages of later releases, pinned by digest, whose one file runs on this one too.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.builders.processes.packages import fetched
from tests.harness import ROOT
from tests.lanes import locked

KEPT = ROOT / ".mayfly" / "composes"


class Package(NamedTuple):
    """Debian's package of one version. ``moves``: its release is not a stable one, which may drop it any day."""

    version: str
    sha256: str
    moves: bool


V1 = "1.29.2"
V2 = {
    "2.26.1": Package("2.26.1-4", "47681197cb2b1ab88206b42a1a92fc75f50d9530a6322d03494a473eed0408ea", moves=False),
    "2.40.3": Package("2.40.3-3", "e7603d5e6df0f8404f7b03da478022b87d7b50644cffe68884b071e5cfc17fd3", moves=True),
}
VERSIONS = (V1, *V2)


def compose_of(version: str) -> str:
    """The command of that version, fetched at the first call."""
    if version == V1:
        found = shutil.which("docker-compose")
        if found is None:
            pytest.fail("there is no docker-compose: deploy/setup.sh --dev")
        return found
    package, command = V2[version], KEPT / version
    KEPT.mkdir(parents=True, exist_ok=True)
    with locked(KEPT / "lock"):
        if not command.exists():
            _fetch(package, command)
    return str(command)


def _fetch(package: Package, command: Path) -> None:
    file = f"pool/main/d/docker-compose/docker-compose_{package.version}_amd64.deb"
    if not fetched(file, package.sha256, "usr/bin/docker-compose", command) and package.moves:
        pytest.skip(f"Debian has docker-compose {package.version} no longer: pin its successor in {__file__}")
    assert command.exists()
