"""The versions of compose that run ``deploy/compose.yaml``: docker-compose 1.29 of the host, Debian's builds of v2."""

from __future__ import annotations

import shutil

import pytest

from tests.builders.processes.debian_tools import Package, command_of

V1 = "1.29.2"
COMMAND = "usr/bin/docker-compose"
V2 = {
    "2.26.1": Package(
        "docker-compose",
        "docker-compose",
        "2.26.1-4",
        "47681197cb2b1ab88206b42a1a92fc75f50d9530a6322d03494a473eed0408ea",
        COMMAND,
    ),
    "2.40.3": Package(
        "docker-compose",
        "docker-compose",
        "2.40.3-3",
        "e7603d5e6df0f8404f7b03da478022b87d7b50644cffe68884b071e5cfc17fd3",
        COMMAND,
        moves=True,
    ),
}
VERSIONS = (V1, *V2)


def compose_of(version: str) -> str:
    """The command of that version."""
    if version != V1:
        return command_of(V2[version])
    found = shutil.which("docker-compose")
    if found is None:
        pytest.fail("there is no docker-compose: deploy/setup.sh --dev")
    return found
