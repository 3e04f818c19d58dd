"""The mounts of a container: directories and files of the lease of its uid, and no links.

The worker can write these directories, and the engine follows links as root. So a worker that an attacker controls
could put a link to ``/`` where ``inputs`` was, have it mounted, and put ``inputs`` back. The proxy looks before and
after the engine starts a container: every name must be the same directory or file, with the same time of its last
change (``ctime``), which the kernel sets at each renaming and which no process can set back. (Its clock ticks every
10 ms or faster. A link must be there when the engine mounts, which is later than a tick after the first look.) Until
the second look the proxy lets no byte into the container.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from worker.engine_proxy.calls import Refused


class Seen(NamedTuple):
    """The identity of a directory or file, and the time of its last change."""

    path: str
    device: int
    inode: int
    changed_ns: int


def look(lease: Path, sources: Iterable[Path]) -> tuple[Seen, ...]:
    """The lease's directory and the sources of its mounts. Raises :class:`Refused` for a link or a missing name."""
    paths = {lease, *sources, *(source.parent for source in sources)} - {lease.parent}
    return tuple(_look(path) for path in sorted(paths))


def refuse_changes(before: tuple[Seen, ...], after: tuple[Seen, ...]) -> None:
    """Raise :class:`Refused` if a name was another one between both looks."""
    if changed := [one.path for one, other in zip(before, after, strict=True) if one != other]:
        raise Refused("mount", f"Changed while the engine mounted it: {', '.join(changed)}.")


def _look(path: Path) -> Seen:
    try:
        found = os.lstat(path)
    except OSError as error:
        raise Refused("mount", f"{path}: {error.strerror}.") from error
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        raise Refused("mount", f"{path} is neither a directory nor a file.")
    return Seen(str(path), found.st_dev, found.st_ino, found.st_ctime_ns)
