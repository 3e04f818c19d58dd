"""The users of tool servers: each server of a tenant has its own uid on the host, the same at every start.

A uid is leased permanently, since the server's files may outlast its declaration: ``<directory>/<uid>`` has the
installation and the name of the server. All installations of a host have the same directory, so that two of them never
share a uid. Brokers create the file by a link, so that it is complete from the start, and only one of several brokers
succeeds. The search begins at a hash of the name, so most servers find their uid at once.
"""

from __future__ import annotations

import errno
import os
import secrets
import zlib
from pathlib import Path

FIRST_USER, USERS = 2_000_100_000, 100_000  # above the uids of containers, below 2^31


class Users:
    """The uids of the tool servers of one installation, named by its state directory, among all of the host."""

    def __init__(self, directory: Path, installation: Path) -> None:
        self._directory, self._installation = directory, installation.resolve()

    def of(self, tenant: str, server: str) -> int:
        """The uid of a tool server, different from those of all other servers. Raises ``OSError``."""
        name = f"{self._installation} {tenant}/{server}"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        first = preferred(tenant, server) - FIRST_USER
        for step in range(USERS):
            uid = FIRST_USER + (first + step) % USERS
            if self._owner(uid, name) == name:
                return uid
        raise OSError(errno.EUSERS, "all uids of tool servers are leased")

    def _owner(self, uid: int, name: str) -> str:
        """The server that has the uid: ``name``, if the uid was free."""
        lease = self._directory / str(uid)
        if not lease.exists():
            written = self._directory / f".{secrets.token_hex(8)}"
            written.write_text(name, encoding="utf-8")
            try:
                os.link(written, lease)
            except FileExistsError:
                pass  # another broker was first
            finally:
                written.unlink()
        return lease.read_text(encoding="utf-8")


def preferred(tenant: str, server: str) -> int:
    """The uid of a server unless another server has it."""
    return FIRST_USER + zlib.crc32(f"{tenant}/{server}".encode()) % USERS
