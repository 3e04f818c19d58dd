"""Locked packages by the real clients of PyPI and npm, from archives on this host: no code of a package runs."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sandbox_image.tool_servers import node_modules, wheels
from tests.harness import ROOT

SETUP = (
    "from pathlib import Path\nfrom setuptools import setup\nPath({mark!r}).touch()\nsetup(name='thing', version='1')\n"
)


def archive(path: Path, files: dict[str, str]) -> Path:
    """A gzipped tar of these files."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that a package's script makes when it runs."""
    return tmp_path / "ran"


def lock_of(packed: Path, integrity: str) -> Path:
    place = f"file:{packed}"
    root = {"name": "x", "dependencies": {"a": place}}
    entry = {"version": "1.0.0", "resolved": place, "integrity": integrity, "hasInstallScript": True}
    lock = packed.with_name("x.lock.json")
    packages = {"": root, "node_modules/a": entry}
    lock.write_text(json.dumps({"name": "x", "lockfileVersion": 3, "requires": True, "packages": packages}))
    return lock


def packed_with_script(directory: Path, mark: Path) -> tuple[Path, str]:
    """A package for npm whose scripts make the mark, and its integrity."""
    scripts = dict.fromkeys(("preinstall", "install", "postinstall"), f"touch {mark}")
    manifest = {"name": "a", "version": "1.0.0", "scripts": scripts}
    packed = archive(directory / "a.tgz", {"package/package.json": json.dumps(manifest), "package/index.js": "1\n"})
    return packed, "sha512-" + base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()


def test_install_scripts_of_npm_packages_do_not_run(tmp_path: Path, mark: Path) -> None:
    lock = lock_of(*packed_with_script(tmp_path, mark))
    listed = node_modules.install(lock, tmp_path / "home", tmp_path)
    assert [package.name for package in listed] == ["a"]
    assert (tmp_path / "home" / "node_modules" / "a" / "index.js").exists()
    assert not mark.exists()
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=tmp_path / "node", check=True, capture_output=True)
    assert mark.exists()  # the control: without --ignore-scripts they do


def test_npm_package_with_another_digest_is_refused(tmp_path: Path, mark: Path) -> None:
    packed, _ = packed_with_script(tmp_path, mark)
    lock = lock_of(packed, "sha512-" + base64.b64encode(bytes(64)).decode())
    with pytest.raises(node_modules.NodeModulesError, match="integrity"):
        node_modules.install(lock, tmp_path / "home", tmp_path)
    assert not (tmp_path / "home" / "node_modules" / "a").exists()


def test_source_archive_of_pypi_is_refused_and_its_code_does_not_run(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (index := tmp_path / "index").mkdir()
    files = {
        "thing-1/setup.py": SETUP.format(mark=str(mark)),
        "thing-1/PKG-INFO": "Metadata-Version: 1.0\nName: thing\n",
    }
    packed = archive(index / "thing-1.tar.gz", files)
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    lock = tmp_path / "x.lock"
    lock.write_text(f"thing==1 --hash=sha256:{digest}\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(wheels.WheelsError, match="No matching distribution found for thing==1"):
        wheels.install(lock, "3.11.2", os.uname().machine, tmp_path / "python", tmp_path)
    assert not mark.exists()
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(tmp_path / "t"),
    ]
    subprocess.run([*command, "--require-hashes", "-r", str(lock)], check=False, capture_output=True)
    assert mark.exists()  # the control: without --only-binary pip runs the archive's setup.py


def test_commands_of_the_guide_make_lock_files(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "tool-sandboxes.md").read_text(encoding="utf-8")
    compiled, packed = re.findall(r"^    ((?:echo|npm) .*)$", guide, re.MULTILINE)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in (compiled, packed):
        subprocess.run(["bash", "-c", line], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True, timeout=300)
    lines = wheels.selected((tmp_path / "time.lock").read_text(), "3.11.2", "x86_64").splitlines()
    assert any(line.startswith("mcp-server-time==2026.10.19 --hash=sha256:") for line in lines)
    assert all(" --hash=sha256:" in line for line in lines)
    names = {package.name for package in node_modules.locked(tmp_path / "package-lock.json")}
    assert "@modelcontextprotocol/server-memory" in names
    assert '"resolved"' not in (tmp_path / "package-lock.json").read_text()  # no registry is named
    assert "://" not in (tmp_path / "time.lock").read_text()
