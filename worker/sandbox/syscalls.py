"""Numbers and names of system calls, for the architectures with a filter.

The table is ``syscalls.txt``: a name, then its number on x86_64 and on aarch64, or ``-`` without a number. The package
``system-calls`` supplies the numbers from the kernel's own tables; the worker itself does not need that package.
``python -m tests.unit.worker.sandbox.test_syscalls`` regenerates the table, and a test compares both.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

ARCHITECTURES = ("x86_64", "aarch64")


def name_of(number: int, architecture: str) -> str | None:
    """The name of a system call, ``None`` for a number or an architecture that is not in the table."""
    return _tables()[1].get((architecture, number))


def number_of(name: str, architecture: str) -> int | None:
    """The number of a system call, ``None`` where that architecture does not have it."""
    return _tables()[0].get((architecture, name))


@cache
def _tables() -> tuple[dict[tuple[str, str], int], dict[tuple[str, int], str]]:
    text = resources.files("worker.sandbox").joinpath("syscalls.txt").read_text(encoding="ascii")
    numbers = {
        (architecture, name): int(number)
        for name, *columns in (line.split() for line in text.splitlines())
        for architecture, number in zip(ARCHITECTURES, columns, strict=True)
        if number != "-"
    }
    return numbers, {(architecture, number): name for (architecture, name), number in numbers.items()}
