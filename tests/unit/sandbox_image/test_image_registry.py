"""Packages of registries: only archives with the declared digest are used, and none of their scripts runs."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.environments import NpmPackage, load_environment
from sandbox_image import build, debian, registry

FILES = {"bin/node": "/usr/bin/node", "share/x": "/usr/share/x"}
NPM = """#!/bin/sh
# Stands for the registry's client: gives what the test has put beside it, and writes down how it was called.
echo "$@" > {home}/called
cp {home}/archive.tgz named-as-it-likes-1.0.0.tgz
exit {code}
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    made = tmp_path / "archive.tgz"
    with tarfile.open(made, "w:gz") as tar:
        for name, mode, content in (
            ("bin/node", 0o4755, b"node"),
            ("share/x", 0o600, b"x"),
            ("package.json", 0o644, b"{}"),
        ):
            info = tarfile.TarInfo(f"package/{name}")
            info.mode, info.size = mode, len(content)
            tar.addfile(info, io.BytesIO(content))
    return made


def package(archive: Path, **changes: object) -> NpmPackage:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    named = {"name": "@scope/node", "version": "1.2.3", "integrity": f"sha512-{digest}", "files": FILES}
    return NpmPackage.model_validate({**named, **changes})


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    client.write_text(NPM.format(home=tmp_path, code=0))
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=os.pathsep)
    return client


def test_the_named_files_are_taken(archive: Path, npm: Path, tmp_path: Path) -> None:
    fetched = registry.fetch(package(archive), tmp_path)
    assert {path: (one.info.mode, one.open().read()) for path, one in fetched.files.items()} == {
        "usr/bin/node": (0o755, b"node"),
        "usr/share/x": (0o644, b"x"),
    }
    assert fetched.purl == "pkg:npm/%40scope/node@1.2.3"
    assert fetched.hash == ("SHA-512", hashlib.sha512(archive.read_bytes()).hexdigest())
    called = (tmp_path / "called").read_text().split()
    assert called[:3] == ["pack", "@scope/node@1.2.3", "--ignore-scripts"]


def test_archive_with_a_wrong_digest_is_refused(archive: Path, npm: Path, tmp_path: Path) -> None:
    named = package(archive)
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(registry.RegistryError, match=r"@scope/node@1\.2\.3 has integrity sha512-.*, not sha512-"):
        registry.fetch(named, tmp_path)


def test_a_file_that_the_package_lacks_is_named(archive: Path, npm: Path, tmp_path: Path) -> None:
    with pytest.raises(registry.RegistryError, match="has no file bin/deno"):
        registry.fetch(package(archive, files={"bin/deno": "/usr/bin/deno"}), tmp_path)


def test_messages_of_the_registry_client_are_reported(archive: Path, npm: Path, tmp_path: Path) -> None:
    npm.write_text("#!/bin/sh\necho no such version >&2; exit 1\n")
    with pytest.raises(registry.RegistryError, match=r"could not fetch @scope/node@1\.2\.3:\nno such version"):
        registry.fetch(package(archive), tmp_path)


def test_missing_registry_client_is_named_with_its_package(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(registry.RegistryError, match=r"npm is not installed .*apt install npm"):
        registry.fetch(package(archive), tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("integrity", "sha512-short"),
        ("integrity", "sha1-" + "A" * 86 + "=="),
        ("version", "latest"),
        ("version", "^1.2.3"),
        ("name", "--registry=x"),
        ("name", "../x"),
        ("files", {}),
    ],
)
def test_a_package_is_named_exactly(archive: Path, field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        package(archive, **{field: value})


def test_each_architecture_has_its_package() -> None:
    declared = load_environment(build.ENVIRONMENTS / "node.toml").npm
    for architecture, _ in debian.ARCHITECTURES.values():
        acorn, one = registry.chosen(declared, architecture)
        assert (acorn.name, acorn.architecture, one.architecture) == ("acorn", None, architecture)
    assert len({one.version for one in declared if one.architecture}) == 1
    with pytest.raises(registry.RegistryError, match="no npm package is declared for riscv64"):
        registry.chosen(declared, "riscv64")
    assert registry.chosen([], "riscv64") == []
