"""The required and forbidden contents of every sandbox image, read from the archives that workers load."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import posixpath
import tarfile
from pathlib import Path

import pytest

from orchestrator.environments import load_environment
from sandbox_image import build, debian, registry, rootfs
from tests.harness import ENVIRONMENTS

LARGEST_BYTES = {"python": 70_000_000, "node": 200_000_000, "bash": 95_000_000, "python-data": 520_000_000}
TOOLS = """
awk bash bunzip2 bzip2 cat chmod cmp cp cut date dd df diff dirname du echo env expr false find free getconf getent
grep gunzip gzip head hostname id install join kill ln ls mkdir mktemp mv nl nproc od paste pgrep printenv printf ps pwd
readlink realpath rm rmdir sed seq sh sha256sum shuf sleep sort split stat tac tail tar tee test timeout touch tr
true uname uniq unxz unzip uptime wc which whoami xargs xz yes zcat zip
"""
BASH_TOOLS = "bc column file flock gawk getopt hexdump iconv jq less patch pstree rev tree xxd envsubst"
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


def broken_links(members: dict[str, tarfile.TarInfo]) -> list[str]:
    """Links in the folder of commands that lead nowhere."""

    def target(path: str) -> str:
        return posixpath.normpath(posixpath.join("/", posixpath.dirname(path), members[path].linkname)).lstrip("/")

    links = [path for path, info in members.items() if info.issym() and path.startswith("usr/bin/")]
    return [path for path in links if rootfs.merged(target(path)) not in members]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_image_has_exactly_the_declared_contents(images: Path, name: str) -> None:
    members, id = layer_of(images / f"{name}.tar")
    printed = json.loads((images / f"{name}.json").read_text())
    assert printed["image_id"] == id
    assert sum(info.size for info in members.values()) <= printed["size_bytes"]
    assert printed["size_bytes"] < LARGEST_BYTES[name]
    assert "usr/lib/mayfly/agent.py" in members  # the control: paths are read as they are written
    assert [path for path, info in members.items() if info.mode & 0o6000] == []
    assert below(members, PACKAGE_MANAGERS) == []
    assert below(members, DOCUMENTATION) == []
    # A shell is no part of the wall: what a shell can do, any program can.
    wanted = [*TOOLS.split(), *(BASH_TOOLS.split() if name == "bash" else [])]
    assert [tool for tool in wanted if f"usr/bin/{tool}" not in members] == []
    assert {f"usr/share/zoneinfo/{zone}" for zone in ("America/New_York", "Asia/Tokyo", "UTC")} <= set(members)
    assert broken_links(members) == []
    bill = json.loads((images / f"{name}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert len(bill["components"]) >= printed["packages"]
    assert any(
        part["name"] == "libc6" and part["purl"].startswith("pkg:deb/debian/libc6@") for part in bill["components"]
    )


def test_node_is_in_the_bill_of_materials_with_the_digest_of_its_archive(images: Path) -> None:
    declared = load_environment(build.ENVIRONMENTS / "node.toml")
    architecture = debian.host_source(None).architecture
    packages = registry.chosen(declared.npm, architecture)
    bill = json.loads((images / "node.cdx.json").read_text())
    listed = {part["purl"]: part["hashes"] for part in bill["components"] if part["purl"].startswith("pkg:npm/")}
    digests = {
        f"pkg:npm/{package.name}@{package.version}": base64.b64decode(package.integrity.removeprefix("sha512-")).hex()
        for package in packages
    }
    assert listed == {purl: [{"alg": "SHA-512", "content": digest}] for purl, digest in digests.items()}
    assert any(purl.startswith("pkg:npm/node") for purl in listed)


def parts(directory: Path) -> list[tuple[str, str]]:
    """The packages of the image of `bash` in that directory, with their versions."""
    bill = json.loads((directory / "bash.cdx.json").read_text())
    return [(part["name"], part["version"]) for part in bill["components"]]


def test_image_build_is_reproducible(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, declaration = debian.host_source(None), build.ENVIRONMENTS / "bash.toml"
    second = build.build(declaration, source, tmp_path)
    if parts(images) != parts(tmp_path):  # built before a release of Debian's
        images = tmp_path / "again"
        build.build(declaration, source, images)
    for name in ("bash.tar", "bash.cdx.json", "bash.json"):
        assert (images / name).read_bytes() == (tmp_path / name).read_bytes()
    capsys.readouterr()
    assert build.build(declaration, source, images) == second
    assert "unchanged" in capsys.readouterr().out
    with tarfile.open(tmp_path / "bash.tar") as file:
        [layer] = [one for one in file if one.name.endswith(".tar")]
        content = file.extractfile(layer)
        with tarfile.open(fileobj=content) as inner:
            names = {one.name for one in inner}
            assert not [one.name for one in inner if one.mode & 0o6000]
    assert {"usr/bin/bash", "usr/lib/mayfly/agent.pyc", "usr/lib/mayfly/environment.json"} <= names
    assert any(name.startswith("usr/lib/mayfly/__pycache__/execution.") for name in names)
    assert not {name for name in names if "/dpkg" in name or "/apt" in name}
