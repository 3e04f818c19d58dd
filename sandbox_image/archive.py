"""Image archives in the format of ``docker load``, written by hand so that nothing in them depends on the builder."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.environments import Environment

ENTRYPOINT = ("/usr/bin/python3", "/usr/lib/mayfly/agent.py")


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


def config(environment: Environment, architecture: str, layer_digest: str, mtime: int) -> dict[str, Any]:
    """The image's configuration (OCI image specification, ``config.json``)."""
    labels = {"dev.mayfly.environment": environment.name, "dev.mayfly.version": environment.version}
    return {
        "architecture": architecture,
        "config": {
            "Entrypoint": list(ENTRYPOINT),
            "Env": [f"{name}={value}" for name, value in sorted(environment.env.items())],
            "Labels": labels,
            "WorkingDir": "/work",
        },
        "created": created(mtime),
        "history": [{"created": created(mtime), "created_by": "python -m sandbox_image.build"}],
        "os": "linux",
        "rootfs": {"diff_ids": [f"sha256:{layer_digest}"], "type": "layers"},
    }


def write_image(environment: Environment, architecture: str, layer: Path, output: Path, mtime: int) -> Image:
    """Write the archive of an image with one layer."""
    digest = sha256(layer)
    described = json.dumps(config(environment, architecture, digest, mtime), sort_keys=True).encode()
    image = hashlib.sha256(described).hexdigest()
    tag = f"mayfly/{environment.name}:{image[:12]}"
    manifest = [{"Config": f"{image}.json", "Layers": [f"{digest}.tar"], "RepoTags": [tag]}]
    with tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as archive, layer.open("rb") as content:
        members = [
            (f"{digest}.tar", layer.stat().st_size, content),
            (f"{image}.json", len(described), io.BytesIO(described)),
        ]
        text = json.dumps(manifest).encode()
        for name, size, file in [*members, ("manifest.json", len(text), io.BytesIO(text))]:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = size, 0o644, mtime
            archive.addfile(info, file)
    return Image(f"sha256:{image}", tag)
