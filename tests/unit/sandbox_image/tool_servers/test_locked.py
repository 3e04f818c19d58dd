"""Packages of lock files: only what the lock file names, by digest; no script of a package runs."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sandbox_image.tool_servers import build, node_modules, wheels

SHA512 = "sha512-" + "A" * 86 + "=="
NPM = """#!/bin/sh
# Stands for the registry's client: writes down how it was called, and unpacks what the test names.
echo "$@" > {home}/called
cp package.json package-lock.json {home}
mkdir -p node_modules/a/dist node_modules/.bin
echo text > node_modules/a/dist/index.js
echo {{}} > node_modules/.package-lock.json
ln -s ../a/dist/index.js node_modules/.bin/a
exit {code}
"""


def lock(path: Path, packages: dict[str, Any], **changes: Any) -> Path:
    root = {"name": "x", "dependencies": {"a": "1.0.0"}}
    written = path / "x.lock.json"
    written.write_text(json.dumps({"lockfileVersion": 3, "packages": {"": root, **packages}, **changes}))
    return written


def package(**changes: Any) -> dict[str, Any]:
    return {"version": "1.0.0", "integrity": SHA512, **changes}


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    client.write_text(NPM.format(home=tmp_path, code=0))
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=os.pathsep)
    return client


def test_npm_unpacks_the_lock_without_scripts(npm: Path, tmp_path: Path) -> None:
    locked = lock(tmp_path, {"node_modules/a": package(), "node_modules/b": package(optional=True)})
    (scratch := tmp_path / "scratch").mkdir()
    listed = node_modules.install(locked, tmp_path / "home", scratch)
    called = (tmp_path / "called").read_text().split()
    assert called[0] == "ci"
    assert {"--ignore-scripts", "--omit=dev"} <= set(called)
    assert json.loads((tmp_path / "package.json").read_text())["dependencies"] == {"a": "1.0.0"}
    assert (tmp_path / "package-lock.json").read_bytes() == locked.read_bytes()
    modules = tmp_path / "home" / "node_modules"
    assert sorted(path.name for path in modules.iterdir()) == ["a"]
    assert [(one.name, one.purl) for one in listed] == [("a", "pkg:npm/a@1.0.0")]  # what was not unpacked is not listed
    assert listed[0].hash == ("SHA-512", "0" * 128)


def test_failure_of_npm_is_reported(npm: Path, tmp_path: Path) -> None:
    npm.write_text("#!/bin/sh\necho wrong digest >&2; exit 1\n")
    with pytest.raises(node_modules.NodeModulesError, match=r"could not fetch x\.lock\.json:\nwrong digest"):
        node_modules.install(lock(tmp_path, {}), tmp_path / "home", tmp_path)


@pytest.mark.parametrize(
    ("packages", "mistake"),
    [
        ({"node_modules/a": package(integrity="sha1-x")}, "does not lock a"),
        ({"node_modules/@scope/a": {"version": "1"}}, "does not lock @scope/a"),
        ({"node_modules/a/node_modules/b": package(integrity="")}, "does not lock b"),
        ({"node_modules/a": package(link=True)}, "does not lock a"),
    ],
)
def test_package_without_a_digest_is_refused(tmp_path: Path, packages: dict[str, Any], mistake: str) -> None:
    with pytest.raises(node_modules.NodeModulesError, match=mistake):
        node_modules.locked(lock(tmp_path, packages))
    assert node_modules.locked(lock(tmp_path, {"node_modules/a": package(integrity="", dev=True)})) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lockfileVersion": 1, "packages": {}}'])
def test_lock_without_requirements_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(node_modules.NodeModulesError):
        node_modules.locked(tmp_path / "x")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes wheels from, with the wheel ``some_thing``, and a source archive."""
    (place := tmp_path / "index").mkdir()
    with zipfile.ZipFile(place / "some_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_thing.py", "x = 1\n")
        wheel.writestr("some_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some_thing\nVersion: 1.0\n")
        wheel.writestr("some_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("some_thing-1.0.dist-info/entry_points.txt", "[console_scripts]\nsome-thing = some_thing:x\n")
        wheel.writestr("some_thing-1.0.dist-info/RECORD", "some_thing.py,,\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    return place


def requirements(path: Path, digest: str) -> Path:
    written = path / "x.lock"
    written.write_text(f"some-thing==1.0 \\\n    --hash=sha256:{digest}\n")
    return written


def installed(locked: Path, target: Path) -> list[wheels.Wheel]:
    version = ".".join(map(str, sys.version_info[:3]))
    return wheels.install(locked, version, os.uname().machine, target, locked.parent)


def test_wheel_of_the_lock_is_unpacked_and_listed(index: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((index / "some_thing-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    (listed,) = installed(requirements(tmp_path, digest), tmp_path / "python")
    assert (listed.name, listed.purl, listed.hash) == ("some-thing", "pkg:pypi/some-thing@1.0", ("SHA-256", digest))
    assert (tmp_path / "python" / "some_thing.py").read_text() == "x = 1\n"


def test_scripts_with_this_hosts_paths_are_removed(index: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((index / "some_thing-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    installed(requirements(tmp_path, digest), tmp_path / "python")
    record = tmp_path / "python" / "some_thing-1.0.dist-info" / "RECORD"
    assert (tmp_path / "python" / "bin" / "some-thing").exists()
    assert "../../bin/some-thing" in record.read_text()
    wheels.remove_scripts(tmp_path / "python")
    assert not (tmp_path / "python" / "bin").exists()
    assert "bin/" not in record.read_text()
    assert "some_thing.py" in record.read_text()


def test_wheel_with_another_digest_is_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(wheels.WheelsError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        installed(requirements(tmp_path, "0" * 64), tmp_path / "python")


def test_files_of_a_tree_keep_their_links_and_lose_their_modes(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "usr" / "tool").chmod(0o4777)
    (tmp_path / "usr" / "data").write_text("x")
    (tmp_path / "usr" / "data").chmod(0o666)
    (tmp_path / "usr" / "link").symlink_to("tool")
    found = build.tree(tmp_path)
    assert {path: (one.info.mode, one.info.linkname) for path, one in found.items()} == {
        "usr/tool": (0o755, ""),
        "usr/data": (0o644, ""),
        "usr/link": (0o777, "tool"),
    }
