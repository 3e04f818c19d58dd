"""The paths that this process changes, by the interpreter's audit events: for proofs that no name is followed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Event to the positions of the paths it changes.
CHANGES = {
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.link": (0, 1),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.symlink": (0, 1),
    "os.truncate": (0,),
    "os.utime": (0,),
}
_roots: list[Path] = []
_strays: list[str] = []


# An audit hook stays for good, so there is one, and without a test in progress it is the ``get`` of an empty
# dictionary. A hook in Python lets other threads run in the midst of each ``sys.settrace``, and CPython 3.11 ends a
# thread that begins meanwhile to be measured for coverage (python/cpython#98257).
_idle = dict[str, object]().get
_hook = partial(_idle)


@contextmanager
def only_below(root: Path) -> Iterator[None]:
    """Fails on leaving if anything was changed elsewhere meanwhile. For one thread."""
    _install()
    _strays.clear()
    _roots.append(root.resolve())
    _becomes(_audit)
    try:
        yield
    finally:
        _becomes(_idle)
        _roots.clear()
    assert not _strays, f"changed outside of {root}: {_strays}"


@cache
def _install() -> None:
    sys.addaudithook(_hook)


def _becomes(hook: Callable[..., object]) -> None:
    _hook.__setstate__((hook, (), {}, {}))  # type: ignore[attr-defined]


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        changed = args[:1] if args[2] & WRITING else ()
    else:
        changed = tuple(args[position] for position in CHANGES.get(event, ()))
    paths = (_resolved(Path(os.fsdecode(path))) for path in changed if isinstance(path, str | bytes))
    _strays.extend(str(path) for path in paths if not path.is_relative_to(_roots[0]))


def _resolved(path: Path) -> Path:
    """A path without links, ``..`` and descriptors, but for its last name, which itself is changed."""
    return Path(os.path.abspath(os.path.join(os.path.realpath(path.parent), path.name)))
