"""Collects the files that leave the sandbox. Runs when every process but the agent is dead.

Paths chosen by the program are never followed: directories and files are opened without following links and relative to
their parent's descriptor, and an opened file must be a regular file.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from sandbox_image.agent.files.globs import Glob

    Send = Callable[[bytes, bytes | dict[str, Any]], None]
    Skips = Callable[[list[str], os.stat_result], bool]
    Entry = tuple[list[str], int, str | None]  # its path as names, its directory's descriptor, what forbids to collect

FILE, FILE_DATA, REJECTED = b"F", b"D", b"J"
CHUNK_BYTES = 60 * 1024
MAX_DEPTH, MAX_PATH_BYTES, MAX_REJECTED = 32, 1024, 100
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
KINDS = {stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}


def is_bad_name(path: list[str]) -> bool:
    """Not UTF-8, a control character in its last name, or too long as a whole."""
    try:
        too_long = len("/".join(path).encode()) > MAX_PATH_BYTES
    except UnicodeEncodeError:
        return True
    return too_long or any(c < " " or "\x7f" <= c <= "\x9f" for c in path[-1])


def walk(directory: int, above: list[str], skips: Skips) -> Iterator[Entry]:
    """Every entry below a directory except searchable directories, sorted by name, as an ``Entry``.

    A directory that cannot be searched is itself an entry: its names may be readable, but its files are not.
    """
    try:
        with os.scandir(directory) as found:
            names = sorted(entry.name for entry in found)
        if names:
            os.stat(".", dir_fd=directory)
    except OSError:
        yield above, directory, "unreadable"
        return
    for name in names:
        path = [*above, name]
        about = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if skips(path, about):
            continue
        if is_bad_name(path):
            yield path, directory, "bad_name"
        elif stat.S_ISREG(about.st_mode):
            yield path, directory, None
        elif not stat.S_ISDIR(about.st_mode):
            yield path, directory, KINDS.get(stat.S_IFMT(about.st_mode), "device")
        elif len(path) >= MAX_DEPTH:
            yield path, directory, "too_deep"
        else:
            try:
                child = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
            except OSError:
                yield path, directory, "unreadable"
                continue
            try:
                yield from walk(child, path, skips)
            finally:
                os.close(child)


def have_same_bytes(file: int, path: str) -> bool:
    """Whether an opened file has the bytes of the file at ``path``; no directory of the path may be a link."""
    try:
        other = os.open(path, FILE_FLAGS)
    except OSError:
        return False
    try:
        while (data := os.read(file, CHUNK_BYTES)) == os.read(other, CHUNK_BYTES):
            if not data:
                return True
        return False
    finally:
        os.close(other)


class Collection:
    """The files that leave a sandbox, from one directory after another, under a common bound on bytes and number."""

    def __init__(self, send: Send, globs: list[Glob], bytes_left: int, files_left: int) -> None:
        self._send = send
        self._globs = globs
        self._reached: tuple[list[str], list[frozenset[int]]] | None = None  # a directory, and where each glob is there
        self._bytes_left, self._files_left = bytes_left, files_left
        self._rejections_left = MAX_REJECTED
        self._directory = ""
        self._sent: dict[str, str] = {}  # by path: the directory it was sent from

    def add(self, directory: str, skips: Skips = lambda path, about: False) -> None:
        """Send the regular files that match a glob as FILE and FILE_DATA, and REJECTED for other matches.

        Entries for which ``skips`` returns true, by path and status, are skipped. A directory that could not be
        searched is rejected too, since one of its files may have matched.
        """
        try:
            root = os.open(directory, DIRECTORY_FLAGS)
        except OSError:
            self._reject([], "unreadable")
            return
        self._directory = directory
        for path, parent, why in walk(root, [], skips):
            if why not in ("too_deep", "unreadable") and not self._is_wanted(path):
                continue
            if why is None:
                why = self._take(path, parent)
            if why is not None:
                self._reject(path, why)
        os.close(root)

    def _is_wanted(self, path: list[str]) -> bool:
        """Whether a glob matches. Files of one directory are consecutive, so the directory's part is matched once."""
        *above, name = path
        if self._reached is None or self._reached[0] != above:
            positions = [glob.start for glob in self._globs]
            for one in above:
                positions = [glob.after(at, one) for glob, at in zip(self._globs, positions, strict=True)]
            self._reached = above, positions
        reached = zip(self._globs, self._reached[1], strict=True)
        return any(glob.ends(glob.after(at, name)) for glob, at in reached)

    def _take(self, path: list[str], parent: int) -> str | None:
        """Send one file; returns the reason if it cannot be sent."""
        name = "/".join(path)
        try:
            file = os.open(path[-1], FILE_FLAGS, dir_fd=parent)
        except OSError:
            return "unreadable"
        try:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                return "device"
            if name in self._sent:  # a copy of a file that was sent is no loss
                return None if have_same_bytes(file, f"{self._sent[name]}/{name}") else "duplicate"
            if self._files_left < 1:
                return "too_many"
            if about.st_size > self._bytes_left:
                return "too_large"
            self._sent[name] = self._directory
            self._send(FILE, {"path": name, "size": about.st_size})
            self._files_left, self._bytes_left = self._files_left - 1, self._bytes_left - about.st_size
            while data := os.read(file, CHUNK_BYTES):
                self._send(FILE_DATA, data)
        finally:
            os.close(file)
        return None

    def _reject(self, path: list[str], why: str) -> None:
        if self._rejections_left > 0:
            self._rejections_left -= 1
            text = "/".join(path).encode(errors="surrogateescape").decode(errors="backslashreplace")
            safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
            self._send(REJECTED, {"path": safe[:MAX_PATH_BYTES], "why": why})
