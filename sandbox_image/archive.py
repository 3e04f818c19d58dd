"""Writes image archives in the format of ``docker load``, without traces of the builder."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from orchestrator.environments import Environment

PYTHON = "/usr/bin/python3"
AGENT = "/usr/lib/mayfly/agent.pyc"


class Image(NamedTuple):
    """A written image: ``sha256:…`` of its configuration, which engines show as its id, and its tag."""

    id: str
    tag: str


def sha256(path: Path) -> str:
    """The hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def created(mtime: int) -> str:
    """A fixed time as an RFC 3339 string."""
    return datetime.fromtimestamp(mtime, UTC).isoformat().replace("+00:00", "Z")


def config(environment: Environment) -> dict[str, Any]:
    """The start of a sandbox image's containers (OCI image specification, ``config``)."""
    flags = [] if environment.fork else ["-S"]  # only a program that is forked from it has a use for its `site`
    return {
        "Entrypoint": [PYTHON, *flags, AGENT],
        "Env": [f"{name}={value}" for name, value in sorted(environment.env.items())],
        "Labels": {"dev.mayfly.environment": environment.name, "dev.mayfly.version": environment.version},
        "WorkingDir": "/work",
    }


def write_image(
    name: str, config: Mapping[str, Any], architecture: str, layers: Sequence[Path], output: Path, mtime: int
) -> Image:
    """Write the archive of an image of these layers, the lowest first."""
    digests = [sha256(layer) for layer in layers]
    made = {"created": created(mtime), "created_by": "mayfly"}
    described = json.dumps(
        {
            "architecture": architecture,
            "config": dict(config),
            "created": created(mtime),
            "history": [made for _ in layers],
            "os": "linux",
            "rootfs": {"diff_ids": [f"sha256:{digest}" for digest in digests], "type": "layers"},
        },
        sort_keys=True,
    ).encode()
    image = hashlib.sha256(described).hexdigest()
    tag = f"mayfly/{name}:{image[:12]}"
    names = [f"{digest}.tar" for digest in digests]
    manifest = json.dumps([{"Config": f"{image}.json", "Layers": names, "RepoTags": [tag]}]).encode()
    with tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as archive:
        for member, layer in zip(names, layers, strict=True):
            with layer.open("rb") as content:
                _add(archive, member, layer.stat().st_size, content, mtime)
        for member, text in ((f"{image}.json", described), ("manifest.json", manifest)):
            _add(archive, member, len(text), io.BytesIO(text), mtime)
    return Image(f"sha256:{image}", tag)


def _add(archive: tarfile.TarFile, name: str, size: int, content: IO[bytes], mtime: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, mtime
    archive.addfile(info, content)
