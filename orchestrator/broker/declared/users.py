"""Uids of tool servers: each server of a tenant has its own, the same at every start.

A lease has no end, since a server's files stay when its declaration is removed: the file ``<directory>/<uid>`` names the server.
A broker links the complete file to its place, so of several brokers exactly one makes the lease. The search begins at a
hash of the server's name, where nearly every server finds a free uid.
"""

from __future__ import annotations

import errno
import os
import secrets
import zlib
from pathlib import Path

FIRST_USER, USERS = 2_000_100_000, 100_000  # above the uids of containers, below 2^31


class Users:
    """The uids of the tool servers of this installation's brokers on one host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of(self, tenant: str, server: str) -> int:
        """The uid of a tool server, which no other server has. Raises ``OSError``."""
        name = f"{tenant}/{server}"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        first = preferred(tenant, server) - FIRST_USER
        for step in range(USERS):
            uid = FIRST_USER + (first + step) % USERS
            if self._owner(uid, name) == name:
                return uid
        raise OSError(errno.EUSERS, "no uid is left for another tool server")

    def _owner(self, uid: int, name: str) -> str:
        """The server that has the uid; ``name``, if the uid was free."""
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
