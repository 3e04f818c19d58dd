"""Compiles the library that the dynamic loader preloads into every process of a sandbox; ``preload.c`` explains its
purpose.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
PATH = "usr/lib/mayfly/preload.so"
LIST = "etc/ld.so.preload"  # read by the loader, see ld.so(8)
PACKAGES = {"tcc": "tcc", "ld": "binutils"}


class CompileError(Exception):
    """The library could not be compiled."""


def library() -> bytes:
    """The ELF file, for this machine's architecture. Raises :class:`CompileError`."""
    missing = [package for command, package in PACKAGES.items() if shutil.which(command) is None]
    if missing:
        raise CompileError(f"{' and '.join(missing)} not installed (Debian, Ubuntu: apt install {' '.join(missing)})")
    with tempfile.TemporaryDirectory() as scratch:
        objects, linked = f"{scratch}/preload.o", f"{scratch}/preload.so"
        # tcc's own linker does not mark the stack as non-executable, so every process would have an executable stack.
        options = ("-shared", "-s", "-z", "noexecstack", "-z", "relro", "-z", "now", "--build-id=none")
        _run("tcc", "-Wall", "-Werror", "-c", "-o", objects, str(SOURCE))
        _run("ld", *options, "-o", linked, objects)
        return Path(linked).read_bytes()


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise CompileError(f"{command[0]} failed on {SOURCE.name}:\n{done.stderr.strip()}")
