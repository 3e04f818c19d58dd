"""What every built sandbox image holds, and must not hold: read from the archives that workers load."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.harness import ENVIRONMENTS

PYTHON_BYTES = 70_000_000
PACKAGE_MANAGERS = (
    "usr/bin/apt",
    "usr/bin/dpkg",
    "usr/bin/pip",
    "usr/bin/npm",
    "usr/lib/apt",
    "var/lib/dpkg",
    "var/lib/apt",
)
DOCUMENTATION = ("usr/share/doc", "usr/share/man", "usr/share/info")


def layer_of(archive: Path) -> tuple[dict[str, tarfile.TarInfo], str]:
    """The members of an image's one layer by path, and the digest of its configuration."""
    with tarfile.open(archive) as image:

        def member(name: str) -> bytes:
            file = image.extractfile(name)
            assert file is not None
            return file.read()

        [manifest] = json.loads(member("manifest.json"))
        [layer] = manifest["Layers"]
        config = hashlib.sha256(member(manifest["Config"])).hexdigest()
        with tarfile.open(fileobj=io.BytesIO(member(layer))) as tar:
            return {info.name.removeprefix("./"): info for info in tar}, f"sha256:{config}"


def below(members: dict[str, tarfile.TarInfo], places: tuple[str, ...]) -> list[str]:
    return [path for path in members if path.startswith(places)]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_image_holds_what_it_should_and_nothing_more(images: Path, name: str) -> None:
    members, id = layer_of(images / f"{name}.tar")
    said = json.loads((images / f"{name}.json").read_text())
    assert said["image_id"] == id
    assert sum(info.size for info in members.values()) <= said["size_bytes"]
    if name == "python":
        assert said["size_bytes"] < PYTHON_BYTES
    assert "usr/lib/mayfly/agent.py" in members  # the control: paths are read as they are written
    assert [path for path, info in members.items() if info.mode & 0o6000] == []
    assert below(members, PACKAGE_MANAGERS) == []
    assert below(members, DOCUMENTATION) == []
    shells = {"usr/bin/sh", "usr/bin/bash", "usr/bin/dash"} & set(members)
    assert bool(shells) == (name == "bash")
    bill = json.loads((images / f"{name}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert len(bill["components"]) >= said["packages"]
    assert any(
        part["name"] == "libc6" and part["purl"].startswith("pkg:deb/debian/libc6@") for part in bill["components"]
    )
