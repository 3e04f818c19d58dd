"""Sandbox images: what the root keeps, that archives are repeatable, that the bill of materials is exact."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.environments import load_environment, load_environments
from sandbox_image import archive, build, debian, rootfs, sbom

MTIME = 1_000_000_000


def tar_of(path: Path, members: list[tuple[str, bytes, int, bytes | str]]) -> Path:
    """A tar with (name, type, mode, content or link)."""
    with tarfile.open(path, "w") as file:
        for name, kind, mode, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime, info.uid, info.uname = kind, mode, len(name), 33, "www-data"
            if isinstance(content, str):
                info.linkname = content
            info.size = len(content) if isinstance(content, bytes) else 0
            file.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    return path


REG, DIR, SYM, LNK, CHR = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
UNPACKED: list[tuple[str, bytes, int, bytes | str]] = [
    ("./", DIR, 0o755, b""),
    ("./bin/", DIR, 0o755, b""),
    ("./bin/tool", REG, 0o4755, b"tool"),
    ("./lib64/", DIR, 0o755, b""),
    ("./lib64/ld.so", SYM, 0o777, "/lib/x/ld.so"),
    ("./lib/x/ld.so", REG, 0o755, b"ld"),
    ("./usr/bin/hard", LNK, 0o755, "./bin/tool"),
    ("./usr/bin/python3", SYM, 0o777, "python3.11"),
    ("./usr/bin/python3.11", REG, 0o755, b"python"),
    ("./usr/lib/python3.11/a.py", REG, 0o644, b"a"),
    ("./usr/lib/python3.11/__pycache__/a.cpython-311.pyc", REG, 0o644, b"pyc"),
    ("./usr/lib/python3.11/__pycache__/gone.cpython-311.pyc", REG, 0o644, b"pyc"),
    ("./usr/lib/python3.11/test/b.py", REG, 0o644, b"b"),
    ("./usr/share/doc/x/copyright", REG, 0o644, b"c"),
    ("./usr/share/empty/", DIR, 0o2755, b""),
    ("./dev/", DIR, 0o755, b""),
    ("./dev/null", CHR, 0o666, ""),
    ("./tmp/", DIR, 0o1777, b""),
]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[rootfs.Root]:
    with tarfile.open(tar_of(tmp_path / "raw.tar", UNPACKED)) as raw:
        yield rootfs.complete(rootfs.strip(rootfs.read(raw), rootfs.REMOVED), {"/usr/bin/sh": "tool"})


def test_the_root_is_merged_stripped_and_completed(root: rootfs.Root) -> None:
    assert {path for path, one in root.items() if not one.info.isdir()} == {
        *("bin", "lib", "lib64", "usr/bin/sh", "usr/bin/tool", "usr/bin/hard", "usr/bin/python3", "usr/bin/python3.11"),
        *("usr/lib/x/ld.so", "usr/lib64/ld.so", "usr/lib/python3.11/a.py"),
        *("usr/lib/python3.11/__pycache__/a.cpython-311.pyc", *rootfs.FILES, *rootfs.LINKS),
    }
    directories = {path for path, one in root.items() if one.info.isdir()}
    assert directories >= rootfs.MOUNT_POINTS.keys()
    assert "usr/share/empty" not in directories
    assert root["usr/bin/tool"].info.mode == 0o755  # the setuid bit is gone
    assert root["usr/bin/hard"].open().read() == b"tool"
    rootfs.check(root, ["/bin/sh", "/usr/bin/python3", "/lib64/ld.so"])


def test_a_written_root_depends_on_content_alone(tmp_path: Path) -> None:
    written: list[bytes] = []
    links_last = sorted(UNPACKED, key=lambda one: (one[1] == LNK, one[0]))
    for number, order in enumerate((UNPACKED, links_last)):
        with tarfile.open(tar_of(tmp_path / f"{number}.tar", order)) as raw:
            root = rootfs.complete(rootfs.strip(rootfs.read(raw), rootfs.REMOVED), {})
            buffer = io.BytesIO()
            size = rootfs.write(root, buffer, MTIME)
            assert size == sum(len(one.open().read()) for one in root.values() if one.info.isreg())
        written.append(buffer.getvalue())
    assert written[0] == written[1]
    with tarfile.open(fileobj=io.BytesIO(written[0])) as file:
        members = file.getmembers()
    assert [one.name for one in members] == sorted(one.name for one in members)
    assert {(one.uid, one.gid, one.uname, one.mtime) for one in members} == {(0, 0, "", MTIME)}


@pytest.mark.parametrize(
    ("path", "kind", "mode", "complaint"),
    [
        ("usr/bin/su2", REG, 0o4755, "setuid"),
        ("usr/bin/sg", REG, 0o2755, "setgid"),
        ("dev/sda", tarfile.BLKTYPE, 0o600, "neither"),
        ("usr/pipe", tarfile.FIFOTYPE, 0o600, "neither"),
        ("usr/bin/dpkg", REG, 0o755, "must not be in a sandbox"),
        ("usr/bin/su", REG, 0o755, "must not be in a sandbox"),
        ("var/lib/dpkg/status", REG, 0o644, "must not be in a sandbox"),
        ("etc/shadow", REG, 0o600, "must not be in a sandbox"),
        ("usr/share/x", REG, 0o666, "everybody"),
    ],
)
def test_an_unfit_root_is_refused(root: rootfs.Root, path: str, kind: bytes, mode: int, complaint: str) -> None:
    with pytest.raises(rootfs.RootError, match=complaint):
        rootfs.check(root | {path: rootfs.entry(path, kind, mode)}, [])


@pytest.mark.parametrize("link", ["nothing", "/usr/bin/loop", "../../../../etc/none"])
def test_a_needed_path_must_lead_somewhere(root: rootfs.Root, link: str) -> None:
    root["usr/bin/loop"] = rootfs.entry("usr/bin/loop", SYM, link=link)
    with pytest.raises(rootfs.RootError, match="missing"):
        rootfs.check(root, ["/usr/bin/loop"])


def test_archive_is_loadable_by_docker_and_reproducible(tmp_path: Path) -> None:
    environment = load_environment(build.ENVIRONMENTS / "bash.toml")
    (tmp_path / "layer.tar").write_bytes(b"layer" * 1000)
    images = [
        archive.write_image(
            environment.name,
            archive.config(environment),
            "amd64",
            [tmp_path / "layer.tar"],
            tmp_path / name,
            MTIME,
        )
        for name in ("a", "b")
    ]
    assert images[0] == images[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with tarfile.open(tmp_path / "a") as file:
        content = {one.name: file.extractfile(one).read() for one in file}  # type: ignore[union-attr]
    [manifest] = json.loads(content["manifest.json"])
    config = content[manifest["Config"]]
    assert images[0].id == "sha256:" + hashlib.sha256(config).hexdigest()
    assert manifest["RepoTags"] == [images[0].tag] == [f"mayfly/bash:{images[0].id[7:19]}"]
    described = json.loads(config)
    assert described["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(content[manifest["Layers"][0]]).hexdigest()]
    assert described["config"]["Entrypoint"] == ["/usr/bin/python3", "-S", "/usr/lib/mayfly/agent.pyc"]
    assert described["config"]["WorkingDir"] == "/work"
    assert "LANG=C.UTF-8" in described["config"]["Env"]
    assert described["config"]["Labels"] == {"dev.mayfly.environment": "bash", "dev.mayfly.version": "5.2"}
    assert described["created"] == "2001-09-09T01:46:40Z"


LISTING = """= aa bash_5.2.15-2+b7_amd64.deb
./
./bin/
./bin/bash
./usr/share/doc/bash/copyright
= bb zlib1g_1%3a1.2.13.dfsg-1_amd64.deb
./lib/x86_64-linux-gnu/libz.so.1
= cc dpkg_1.21.22_amd64.deb
./usr/bin/dpkg
./bin/bash
"""


def test_bill_of_materials_lists_the_packages_of_the_image() -> None:
    packages = sbom.parse_listing(LISTING)
    listed = sbom.in_image(packages, {"usr/lib/x86_64-linux-gnu/libz.so.1", "usr/share/doc/bash/copyright"})
    document = sbom.bill("bash", "5.2", "sha256:" + "0" * 64, archive.created(MTIME), listed)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    assert [one["purl"] for one in document["components"]] == [
        "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64",
        "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64",
    ]
    assert [(one["version"], one["hashes"][0]["content"]) for one in document["components"]] == [
        ("5.2.15-2+b7", "aa"),
        ("1:1.2.13.dfsg-1", "bb"),
    ]
    assert document == sbom.bill("bash", "5.2", "sha256:" + "0" * 64, archive.created(MTIME), listed)


def test_shared_files_of_a_removed_package_stay() -> None:
    assert sbom.files_of(sbom.parse_listing(LISTING), ["dpk*"]) == {"usr/bin/dpkg"}


def test_every_declared_environment_loads() -> None:
    environments = load_environments([build.ENVIRONMENTS])
    assert set(environments) == {"python", "python-data", "node", "bash"}
    found = [environments.resolve(alias) for alias in ("py", "data", "js", "sh")]
    assert [one and one.name for one in found] == ["python", "python-data", "node", "bash"]


def test_build_hash_covers_every_build_input(tmp_path: Path) -> None:
    declaration = tmp_path / "bash.toml"
    shutil.copy(build.ENVIRONMENTS / "bash.toml", declaration)
    source = debian.host_source(None)
    first = build.inputs_hash(declaration, source)
    assert build.inputs_hash(declaration, source) == first
    assert build.inputs_hash(declaration, source._replace(suite="other")) != first
    declaration.write_text(declaration.read_text() + "\n")
    assert build.inputs_hash(declaration, source) != first


def test_unknown_name_and_invalid_file_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build.main(["cobol", "--output", str(tmp_path)])
    assert "no environment cobol" in capsys.readouterr().err
    (tmp_path / "x.toml").write_text("name = 1")
    assert build.main(["--environments", str(tmp_path), "--output", str(tmp_path)]) == 1
    assert "x.toml" in capsys.readouterr().err
