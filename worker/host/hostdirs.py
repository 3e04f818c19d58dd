"""Host directories for inputs, which are also the leases of uids.

``<root>/<uid>/`` exists exactly while a container may run under that uid: making it is the lease (``mkdir`` is atomic
between all workers of a host), removing it the release. ``owner`` in it names the worker, ``inputs`` is mounted at
``/inputs``, and ``identity`` at ``/run/identity`` with the name of the uid. All files belong to root, and no process in
a sandbox can write them. During creation and removal the directory is named ``.<worker>-<unique>``, so that a killed
worker leaves no directory without an owner.

These names are made and removed for every execution, so most paths here are plain text: a ``Path`` costs more than the
system call that takes it.

Unless an operator chose a place, ``<root>`` is a link into memory (:func:`in_memory`): on a file system with a journal,
making and removing these few names takes longer than all other work of a worker for an execution.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pybase64

from orchestrator.errors import PlatformError, RuntimeUnavailable
from orchestrator.models import StoredFile

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only a private directory in it is used
USERS = """\
root:x:0:0:root:/:/usr/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/bin/sh
sandbox:x:{uid}:{uid}:sandbox:/work:/usr/bin/sh
"""
AGENT = "agent:x:{uid}:{uid}:agent:/nonexistent:/nonexistent\n"
GROUPS = """\
root:x:0:
nogroup:x:65534:
sandbox:x:{uid}:
"""
# Files that are the same in every sandbox. Without them an engine would mount its own files, from its directory on the
# host's disk, and copy the host's name servers into one of them.
NETWORK_FILES = {
    "hosts": b"127.0.0.1\tlocalhost sandbox\n::1\tlocalhost\n",
    "hostname": b"sandbox\n",
    "resolv.conf": b"",
}
# Every file of a lease, beside inputs and tools.
FILES = ("owner", *(f"identity/{name}" for name in ("passwd", "group", *NETWORK_FILES)))
LEAST_BYTES = 2**30  # free space required in memory; most containers' /dev/shm is smaller, and inputs would fill it


def in_memory(root: Path, memory: Path = SHARED_MEMORY) -> Path:
    """The real directory of ``root``: in memory if ``root`` is new and memory is large enough.

    The directory in memory has a random name and is accessible to its owner only. After a restart of the host it is
    made anew; an existing directory on disk stays in use, since another worker may lease from it.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    alone = os.open(root.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if root.is_symlink() and not root.exists():
            root.unlink()
        if not root.exists() and memory.is_dir() and shutil.disk_usage(memory).free >= LEAST_BYTES:
            made = Path(tempfile.mkdtemp(prefix="mayfly-", dir=memory)) / root.name
            made.mkdir(mode=0o711)
            root.symlink_to(made)
    finally:
        os.close(alone)
    return root.resolve()


@dataclass(frozen=True)
class HostDir:
    """One lease: a uid and its directory. ``agent`` is the second lease, for the agent's uid, if there is one."""

    uid: int
    path: Path
    agent: HostDir | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The directories to release once the container is gone."""
        return (self.path,) if self.agent is None else (self.path, self.agent.path)

    @property
    def inputs(self) -> Path:
        return self.path / "inputs"

    @property
    def identity(self) -> Path:
        """The directory of ``passwd`` and ``group``, which name this uid ``sandbox``, and of ``NETWORK_FILES``."""
        return self.path / "identity"

    def binds(self, loopback: bool) -> dict[str, Path]:
        """The bind mounts of a container, by mount point. An engine would leave ``/etc/hosts`` empty for a loopback."""
        hosts = {"/etc/hosts": self.identity / "hosts"} if loopback else {}
        return {"/inputs": self.inputs, "/run/identity": self.identity, **hosts}

    def write(self, files: Iterable[StoredFile], fetch: Callable[[str, Path], bool]) -> None:
        """Write the input files. Raises :class:`PlatformError` if a blob is gone or the disk is full."""
        try:
            self._write(files, fetch)
        except OSError as error:
            raise PlatformError(f"The inputs cannot be put in place: {error.strerror}.") from error

    def write_tools(self, files: Mapping[str, str]) -> None:
        """Write the files that describe a program's tools, to which ``/tools`` in the image links; none without tools.

        They lie in a directory that is mounted anyway: a mount of their own would cost every container's start.
        Raises :class:`PlatformError` if the disk is full.
        """
        try:
            for path in {PurePosixPath("tools", name).parent for name in files}:
                (self.identity / path).mkdir(mode=0o755, parents=True, exist_ok=True)
            for name, text in files.items():
                _write(f"{self.identity}/tools/{name}", text.encode())
        except OSError as error:
            raise PlatformError(f"The descriptions of tools cannot be put in place: {error.strerror}.") from error

    def _write(self, files: Iterable[StoredFile], fetch: Callable[[str, Path], bool]) -> None:
        inputs = str(self.inputs)
        for file in files:
            target = f"{inputs}/{file.path}"
            if "/" in file.path:
                os.makedirs(os.path.dirname(target), exist_ok=True)
            if file.blob is None:
                _write(target, _content(file))
            elif not fetch(file.blob, Path(target)):
                raise PlatformError(f"The blob of input {file.path!r} is gone.")


class HostDirs:
    """Leases directories under ``root`` for uids ``first`` to ``first + count - 1``. Thread-safe.

    ``mine`` are the names in ``root`` that this process uses.
    """

    def __init__(self, root: Path, worker: str, first: int, count: int) -> None:
        self._root, self._worker = root, worker
        self._first, self._count = first, count
        self._hidden, self._numbers = f".{worker}-{secrets.token_hex(4)}", itertools.count()
        self.mine: set[str] = set()
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True, mode=0o711)

    def lease(self, *, own_agent: bool = False) -> HostDir:
        """Lease a uid that no live container on this host has, and with ``own_agent`` a second uid for the agent.

        Raises :class:`RuntimeUnavailable` when all are taken.
        """
        agent = self._lease(None) if own_agent else None
        try:
            return self._lease(agent)
        except RuntimeUnavailable:
            if agent is not None:
                self.mine.discard(agent.path.name)
                self.release(agent.path)
            raise

    def _lease(self, agent: HostDir | None) -> HostDir:
        """A uid with its directory. Raises :class:`RuntimeUnavailable`.

        The directory is made under another name and renamed, so that it always has an owner.
        """
        hidden = self._new_name()
        fresh = f"{self._root}/{hidden}"
        self.mine.add(hidden)
        renamed = False
        try:
            os.mkdir(fresh)
            for read_by_sandbox in ("inputs", "identity"):
                os.mkdir(f"{fresh}/{read_by_sandbox}")
                os.chmod(f"{fresh}/{read_by_sandbox}", 0o755)  # noqa: S103 - the sandbox has another uid
            _write(f"{fresh}/owner", self._worker.encode())
            os.chmod(fresh, 0o711)  # noqa: S103 - as above
            start = secrets.randbelow(self._count)
            for offset in range(self._count):
                uid = self._first + (start + offset) % self._count
                name = str(uid)
                with self._lock:
                    if name in self.mine:  # otherwise a failed rename would forget an existing lease
                        continue
                    self.mine.add(name)
                path = f"{self._root}/{name}"
                try:
                    os.rename(fresh, path)
                except OSError as error:
                    self.mine.discard(name)
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                else:
                    renamed = True
                    users = USERS.format(uid=uid) + (AGENT.format(uid=agent.uid) if agent else "")
                    _write(f"{path}/identity/passwd", users.encode())
                    _write(f"{path}/identity/group", GROUPS.format(uid=uid).encode())
                    for file, content in NETWORK_FILES.items():
                        _write(f"{path}/identity/{file}", content)
                    return HostDir(uid, Path(path), agent)
        except OSError as error:
            raise RuntimeUnavailable(f"The directory for inputs cannot be made: {error}") from error
        finally:
            if not renamed and os.path.exists(fresh):
                shutil.rmtree(fresh)
            self.mine.discard(hidden)
        raise RuntimeUnavailable(f"All {self._count} sandbox uids are in use.")

    def release(self, path: Path, owner: str | None = None) -> None:
        """Remove a lease, if the owner is unchanged. Idempotent.

        Raises ``OSError`` when it cannot be removed.
        """
        hidden = self._new_name()
        gone = f"{self._root}/{hidden}"
        self.mine.add(hidden)
        try:
            os.rename(path, gone)
            if owner is None or _owner(path, Path(gone)) == owner:
                _remove(gone)
            else:  # another worker removed the lease, and a third worker has leased the uid since
                os.rename(gone, path)
        except FileNotFoundError:
            if path.exists() or os.path.exists(gone):
                raise
        finally:
            self.mine.discard(hidden)

    def leases(self) -> list[tuple[Path, str]]:
        """Every lease on this host, with its worker."""
        with os.scandir(self._root) as found:
            names = sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
        return [(path, _owner(path, path)) for path in map(self._root.joinpath, names)]

    def _new_name(self) -> str:
        """A name for a directory that is being made or removed."""
        return f"{self._hidden}{next(self._numbers)}"


def _owner(name: Path, path: Path) -> str:
    """The owner of the lease named ``name``; empty for a name that workers do not use."""
    if name.name.startswith("."):
        return name.name[1:].rpartition("-")[0]
    try:
        return (path / "owner").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _remove(directory: str) -> None:
    """Remove a lease's directory, with the fewest system calls if it has plain inputs and no tools."""
    try:
        for name in FILES:
            os.unlink(f"{directory}/{name}")
        for name in os.listdir(f"{directory}/inputs"):
            os.unlink(f"{directory}/inputs/{name}")
        for name in ("inputs", "identity", ""):
            os.rmdir(f"{directory}/{name}")
    except OSError:
        shutil.rmtree(directory)


def _write(path: str, data: bytes) -> None:
    """Write a new file, with the fewest system calls."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def _content(file: StoredFile) -> bytes:
    text = file.content or ""
    if file.encoding != "base64":
        return text.encode()
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError as error:  # version 0.1.0 accepted a few texts with digits behind the padding
        raise PlatformError(f"Input {file.path!r} is not base64: {error}") from error
