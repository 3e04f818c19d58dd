"""How tests share the machine when a run has several lanes (pytest-xdist).

Each module is in one lane, so that its fixtures are made once. What several lanes use is made behind a lock. A test
that is marked ``alone`` measures time, fills a log that the whole machine has, or changes the machine: it waits until
every other lane is between two tests, and they wait until it is over.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Have the lock on that file for oneself, or share it, among all processes that take it."""
    with path.open("a") as file:
        fcntl.flock(file, how)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # also where a forked child still has the file open


@contextmanager
def machine(locks: Path, alone: bool) -> Iterator[None]:
    """Use the machine alone, or share it. A test that waits for the machine alone is not overtaken."""
    with ExitStack() as held:
        with locked(locks / "turn"):
            held.enter_context(locked(locks / "machine", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield
