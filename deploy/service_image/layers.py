"""A layer made of a directory, which depends on its content alone."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_layer(tree: Path, owned: Mapping[str, int], output: Path, mtime: int) -> None:
    """Write a staged directory as a layer that depends on its content alone; ``owned``: owners of directories."""
    with tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as layer:
        for path in sorted(tree.rglob("*")):
            info = layer.gettarinfo(path, str(path.relative_to(tree)))
            info.uid = info.gid = owned.get(info.name, 0)
            info.uname = info.gname = ""
            info.mode = 0o700 if info.name in owned else 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            info.mtime = mtime
            if info.isreg():
                with path.open("rb") as content:
                    layer.addfile(info, content)
            else:
                layer.addfile(info)
