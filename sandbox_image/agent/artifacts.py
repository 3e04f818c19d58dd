"""Which files under ``/output`` leave the sandbox. Runs when every process but the agent is dead.

Nothing here follows a name that the program chose: a directory is opened without following links and relative to its
parent's descriptor, a file likewise, and what was opened must be a regular file.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Send = Callable[[bytes, bytes | dict[str, Any]], None]
    Entry = tuple[list[str], int, str | None]  # its path as names, its directory's descriptor, what forbids to collect

FILE, FILE_DATA, REJECTED = b"F", b"D", b"J"
CHUNK_BYTES = 60 * 1024
MAX_DEPTH, MAX_PATH_BYTES, MAX_REJECTED = 32, 1024, 100
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
KINDS = {stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}


def matches(path: list[str], pattern: list[str]) -> bool:
    """Whether a path matches a glob, both as names. The name ``**`` stands for any number of names, also none."""
    import fnmatch  # which imports ``re``: only where there is a file

    def closure(positions: set[int]) -> set[int]:
        for position in sorted(positions):
            while position < len(pattern) and pattern[position] == "**":
                position += 1
                positions.add(position)
        return positions

    positions = closure({0})  # where in the pattern one can be: linear, however many ** there are
    for name in path:
        after = set()
        for position in positions - {len(pattern)}:
            if pattern[position] == "**":
                after.add(position)
            elif fnmatch.fnmatchcase(name, pattern[position]):
                after.add(position + 1)
        positions = closure(after)
    return len(pattern) in positions


def is_bad_name(path: list[str]) -> bool:
    """Not UTF-8, a control character in its last name, or too long as a whole."""
    try:
        too_long = len("/".join(path).encode()) > MAX_PATH_BYTES
    except UnicodeEncodeError:
        return True
    return too_long or any(c < " " or "\x7f" <= c <= "\x9f" for c in path[-1])


def walk(directory: int, above: list[str]) -> Iterator[Entry]:
    """Everything below a directory but readable directories, sorted by name; an ``Entry`` of each."""
    with os.scandir(directory) as found:
        names = sorted(entry.name for entry in found)
    for name in names:
        path = [*above, name]
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if is_bad_name(path):
            yield path, directory, "bad_name"
        elif stat.S_ISREG(mode):
            yield path, directory, None
        elif not stat.S_ISDIR(mode):
            yield path, directory, KINDS.get(stat.S_IFMT(mode), "device")
        elif len(path) >= MAX_DEPTH:
            yield path, directory, "too_deep"
        else:
            try:
                child = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
            except OSError:
                yield path, directory, "unreadable"
                continue
            try:
                yield from walk(child, path)
            finally:
                os.close(child)


def collect(send: Send, output: str, globs: list[str], bytes_left: int, files_left: int) -> None:
    """Send the regular files that match a glob as FILE and FILE_DATA, and REJECTED for other matches.

    A directory that could not be searched is reported too: something in it may have matched.
    """
    patterns = [glob.strip("/").split("/") for glob in globs]
    rejections_left = MAX_REJECTED

    def reject(path: list[str], why: str) -> None:
        nonlocal rejections_left
        if rejections_left > 0:
            rejections_left -= 1
            text = "/".join(path).encode(errors="surrogateescape").decode(errors="backslashreplace")
            safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
            send(REJECTED, {"path": safe[:MAX_PATH_BYTES], "why": why})

    try:
        root = os.open(output, DIRECTORY_FLAGS)
    except OSError:
        reject([], "unreadable")
        return
    for path, parent, why in walk(root, []):
        if why not in ("too_deep", "unreadable") and not any(matches(path, pattern) for pattern in patterns):
            continue
        if why is not None:
            reject(path, why)
            continue
        try:
            file = os.open(path[-1], FILE_FLAGS, dir_fd=parent)
        except OSError:
            reject(path, "unreadable")
            continue
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            reject(path, "device")
        elif files_left < 1:
            reject(path, "too_many")
        elif about.st_size > bytes_left:
            reject(path, "too_large")
        else:
            send(FILE, {"path": "/".join(path), "size": about.st_size})
            files_left, bytes_left = files_left - 1, bytes_left - about.st_size
            while data := os.read(file, CHUNK_BYTES):
                send(FILE_DATA, data)
        os.close(file)
    os.close(root)
