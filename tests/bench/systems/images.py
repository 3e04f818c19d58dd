"""The images that all contestants share: Mayfly's own, and for peers the same with another layer."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

import docker

from tests.harness import ROOT

ENVIRONMENTS = ("python", "python-data", "node", "bash")
PEER_REPOSITORY = "mayfly-bench-peer"
WORKING_DIRECTORIES = ("sandbox", "sandbox/.sandbox-venv", "sandbox/.sandbox-venv/bin", "workspace")
USERS = "root:x:0:0:root:/:/usr/bin/sh\n"  # Mayfly gives each container users of its own; peers start as root by name
PYTHON_LINKS = ("usr/bin/python", "sandbox/.sandbox-venv/bin/python")


def sandbox_images(directory: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Image ids by environment; built where they are missing, and known to the engine."""
    command = [sys.executable, "-m", "sandbox_image.build", *names, "--output", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    api = docker.APIClient()
    found = {}
    for name in names:
        found[name] = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))["image_id"]
        try:
            api.inspect_image(found[name])
        except docker.errors.ImageNotFound:
            with (directory / f"{name}.tar").open("rb") as archive:
                for _ in api.load_image(archive):
                    pass
    api.close()
    return found


def peer_images(images: dict[str, str]) -> dict[str, str]:
    """Tags of images for peers: the same files, with the tools of ``bash`` and the places where peers look for Python.

    Peers need a ``python`` on the path, which Mayfly's images do without. These images stop by SIGKILL, so that no peer
    waits for a shell to heed another signal.
    """
    api = docker.APIClient(timeout=300)
    try:
        return {name: _peer_image(api, name, images) for name in images}
    finally:
        api.close()


def _peer_image(api: docker.APIClient, name: str, images: dict[str, str]) -> str:
    made_of = (images[name], images["bash"], hashlib.sha256(_places()).hexdigest())
    tag = "-".join(digest.removeprefix("sha256:")[:12] for digest in made_of)
    reference = f"{PEER_REPOSITORY}:{tag}"
    try:
        api.inspect_image(reference)
    except docker.errors.ImageNotFound:
        made = []
        try:
            # An empty first word has the engine drop the image's own entrypoint.
            target = api.create_container(
                images[name], "/bin/sh", entrypoint=[""], working_dir="/", stop_signal="SIGKILL"
            )["Id"]
            made.append(target)
            if name != "bash":
                source = api.create_container(images["bash"])["Id"]
                made.append(source)
                for path in ("/usr/bin", f"/usr/lib/{platform.machine()}-linux-gnu"):
                    _copy(api, source, target, path)
            api.put_archive(target, "/", _places())
            api.commit(target, PEER_REPOSITORY, tag)
        finally:
            for container in made:
                api.remove_container(container, force=True)
    return reference


def _copy(api: docker.APIClient, source: str, target: str, path: str) -> None:
    """Regular files and links of a directory that the target does not have."""
    have = {member.name for member in _members(api, target, path)}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        incoming = _archive(api, source, path)
        for member in incoming:
            if member.name not in have and not member.isdir():
                archive.addfile(member, incoming.extractfile(member) if member.isreg() else None)
    api.put_archive(target, str(Path(path).parent), out.getvalue())


def _archive(api: docker.APIClient, container: str, path: str) -> tarfile.TarFile:
    chunks, _ = api.get_archive(container, path)
    return tarfile.open(fileobj=io.BytesIO(b"".join(chunks)))


def _members(api: docker.APIClient, container: str, path: str) -> list[tarfile.TarInfo]:
    return _archive(api, container, path).getmembers()


def _places() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in WORKING_DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(entry)
        for name in PYTHON_LINKS:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/usr/bin/python3"
            archive.addfile(entry)
        entry = tarfile.TarInfo("etc/passwd")
        entry.size = len(USERS)
        archive.addfile(entry, io.BytesIO(USERS.encode()))
    return out.getvalue()
