"""The program's working directory: copies inputs into it, and distinguishes the program's files from them.

All functions except :func:`is_no_result` run before the program, so the program has chosen none of their paths. But a
compile step, which a submission's variables may influence, has run before :func:`known`.
"""

from __future__ import annotations

import os
import stat
import time

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Iterator

    Known = dict[str, tuple[int, int]]  # a relative path: the file's size, and when it was changed (ns)

CHUNK_BYTES = 2**16  # twice as fast as 1 MiB, for which the allocator would map new memory each time
PAGE_BYTES = 4096  # the least memory of a file that is not empty, on a file system in memory
LINK = "inputs"  # to all inputs; an input of this name takes its place


def place(inputs: str, work: str, room_bytes: int) -> Known:
    """Copy the inputs into the working directory, the smaller first; inputs beyond the room become links.

    Returns the copies, like :func:`known`.

    The copies get times a second or two in the past: so a file that the program changes at once has a different time,
    although the clock of the file system ticks only every few milliseconds.
    """
    found = sorted((about.st_size, path) for path, about in files(inputs))
    placed: Known = {}
    changed_ns = int(time.time() - 1) * 10**9
    for size, path in found:
        taken = -(-size // PAGE_BYTES) * PAGE_BYTES
        target = f"{work}/{path}"
        top, slash, _ = path.partition("/")
        if top == LINK and os.path.islink(f"{work}/{LINK}"):
            os.unlink(f"{work}/{LINK}")
        if slash:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        if taken > room_bytes:
            os.symlink(f"{inputs}/{path}", target)
            continue
        room_bytes -= taken
        copy(f"{inputs}/{path}", target, size, changed_ns)
        placed[path] = (size, changed_ns)
    return placed


def copy(source: str, target: str, size: int, changed_ns: int) -> None:
    """Copy a file of ``size`` bytes, and set the copy's time of change."""
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    while size > 0 and (data := os.read(reader, min(size, CHUNK_BYTES))):
        size -= len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(writer, rest) :]
    os.utime(writer, ns=(changed_ns, changed_ns))
    os.close(reader)
    os.close(writer)


def files(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every regular file below a directory, by its path relative to that.

    Unreachable files are skipped: a compile step may have closed a directory, or have nested more of them than a path
    can name.
    """
    waiting = [""]
    while waiting:
        above = waiting.pop()
        try:
            with os.scandir(f"{directory}/{above}") as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{above}{entry.name}/")
                    elif entry.is_file(follow_symlinks=False):
                        yield f"{above}{entry.name}", entry.stat(follow_symlinks=False)
        except OSError:
            continue


def known(work: str) -> Known:
    """The regular files in the working directory: inputs, and results of the compile step."""
    return {path: (about.st_size, about.st_mtime_ns) for path, about in files(work)}


def is_no_result(before: Known, path: list[str], about: os.stat_result) -> bool:
    """Whether to skip a file or directory in the working directory at the end.

    A result is a regular file that is new or changed, and neither hidden nor a cache.
    """
    name = path[-1]
    if name.startswith(".") or name == "__pycache__" or name.endswith(".pyc"):
        return True
    if stat.S_ISDIR(about.st_mode):
        return False
    return not stat.S_ISREG(about.st_mode) or before.get("/".join(path)) == (about.st_size, about.st_mtime_ns)
