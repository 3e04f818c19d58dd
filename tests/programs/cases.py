"""The inputs and the required results of a program. The sources are files beside this module, which are only read."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOMS = ("algorithms", "concurrency", "data", "files", "text")  # folders of programs, by what they show
MAIN = {"python": "main.py", "python-data": "main.py", "node": "main.js", "bash": "main.sh"}
# Generous against the defaults: what is checked is the result, on machines that may be busy.
LIMITS: dict[str, Any] = {"wall_seconds": 60, "cpu_seconds": 60}

Check = Callable[[bytes], None]
Expected = str | bytes | re.Pattern[str] | Check


@dataclass(frozen=True)
class Case:
    """One execution. ``blobs`` are inputs that go through the blob store; ``path`` is a program given as files.

    ``working_files`` is a pattern of what else it leaves in its working directory, which comes back too.
    """

    stdout: Expected
    stderr: Expected = ""
    exit_code: int = 0
    artifacts: dict[str, Expected] = field(default_factory=dict)
    working_files: str = ""
    files: dict[str, str | bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    path: str | None = None


Build = Callable[[], Case]
CASES: dict[str, Build] = {}


def program(source: str, variant: str = "") -> Callable[[Build], Build]:
    """Register what is expected of the program ``<environment>/<file or directory>``."""

    def register(build: Build) -> Build:
        name = f"{source}:{variant}" if variant else source
        assert name not in CASES
        CASES[name] = build
        return build

    return register


def paths(environment: str) -> dict[str, Path]:
    """Every program of an environment, a file or a directory, by its name; rooms are no part of a name."""
    found = list((HERE / environment).iterdir())
    rooms = [path for path in found if path.name in ROOMS]
    found = [path for path in found if path not in rooms] + [path for room in rooms for path in room.iterdir()]
    return {path.name: path for path in found}


def source_of(name: str) -> Path:
    """The file or directory of the program ``<environment>/<file or directory>``."""
    environment, _, program = name.partition("/")
    return paths(environment)[program]


def sources() -> set[str]:
    """Every program there is."""
    return {f"{environment}/{name}" for environment in MAIN for name in paths(environment)}


def meets(found: bytes, expected: Expected) -> None:
    """Assert that bytes are the expected ones, contain the pattern, or pass the check."""
    if callable(expected):
        expected(found)
    elif isinstance(expected, re.Pattern):
        assert expected.search(found.decode()), found.decode()[-2000:]
    elif isinstance(expected, str):
        assert found.decode() == expected
    else:
        assert (len(found), hashlib.sha256(found).hexdigest()) == (
            len(expected),
            hashlib.sha256(expected).hexdigest(),
        )


def lines(*rows: object) -> str:
    """Text of one line for each row."""
    return "".join(f"{row}\n" for row in rows)


def png(width: int, height: int, least: int) -> Check:
    """A PNG of that size with a header that says so and at least ``least`` bytes."""

    def check(data: bytes) -> None:
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
        assert struct.unpack(">II", data[16:24]) == (width, height)
        assert data[-12:] == b"\x00\x00\x00\x00IEND\xaeB\x60\x82" and len(data) >= least

    return check
