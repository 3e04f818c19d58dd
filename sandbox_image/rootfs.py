"""Reduces the unpacked Debian packages to the smallest root of a sandbox. Pure: tar in, tar out.

The result depends on the content of the input alone: entries are sorted, owned by root, and carry one fixed time; so a
repeated build gives the same digest. :func:`check` refuses a root with forbidden files.
"""

from __future__ import annotations

import copy
import fnmatch
import functools
import io
import posixpath
import re
import stat
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO

MERGED = ("bin", "sbin", "lib", "lib64")  # at the root they are links into /usr
MOUNT_POINTS = {"proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755, "mnt": 0o755} | {
    "work": 0o755,
    "output": 0o755,
    "inputs": 0o755,
    "run/identity": 0o755,
    "tmp": 0o1777,
}
FILES = {
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    "etc/hostname": "sandbox\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nprotocols: files\nservices: files\n",
}
# Files that the host supplies for each container: users and groups, since each has a uid of its own, and its tools.
LINKS = {
    "etc/passwd": "../run/identity/passwd",
    "etc/group": "../run/identity/group",
    "tools": "run/identity/tools",
}
# Matched against a path and every directory above it; `*` crosses slashes. `package:` matches packages by name.
REMOVED = (
    *("dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "boot", "home", "media", "opt", "root", "srv", "var"),
    # package managers, init systems, administration
    *("package:apt*", "package:dpkg*", "package:debconf*", "package:sysvinit-utils", "package:usrmerge"),
    "package:init-system-helpers",
    *("package:perl*", "package:libperl*", "package:lib*-perl", "package:libgdbm*"),
    *("usr/sbin", "usr/bin/update-*", "usr/bin/tzselect", "usr/lib/systemd", "usr/lib/init", "etc/update-motd.d"),
    *("etc/apt", "etc/dpkg", "etc/cron*", "etc/logrotate.d", "etc/init.d", "etc/default", "etc/pam.d", "etc/systemd"),
    *("etc/security", "etc/skel", "etc/alternatives", "etc/fstab", "etc/rmt", "etc/resolv.conf", "etc/issue*"),
    *("etc/apparmor.d", "etc/X11", "etc/ufw", "etc/profile*", "etc/bash*", "etc/xattr.conf", "etc/gss"),
    *(
        "usr/lib/binfmt.d",
        "usr/lib/sysusers.d",
        "usr/lib/tmpfiles.d",
        "usr/lib/udev",
        "usr/lib/mime",
        "usr/lib/valgrind",
    ),
    # files that only people or other tools read
    *("usr/share/doc*", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bug"),
    *("usr/share/menu", "usr/share/applications", "usr/share/pixmaps", "usr/share/icons", "usr/share/metainfo"),
    *("usr/share/bash-completion", "usr/share/zsh", "usr/share/gdb", "usr/share/perl5", "usr/share/debianutils"),
    *("usr/share/common-licenses", "usr/share/base-files", "usr/share/i18n", "usr/share/zoneinfo/right"),
    *("usr/share/zoneinfo/posix", "usr/share/zoneinfo/localtime", "usr/share/python3", "usr/share/python-*"),
    *("usr/games", "usr/src"),
    *("usr/lib/locale/[!C]*", "usr/lib/*/audit", "usr/lib/*/engines-3", "usr/lib/*/perl*"),
    *("usr/lib/*/libmemusage.so", "usr/lib/*/libpcprofile.so", "usr/lib/*/pkgconfig", "usr/lib/*.la"),
    *("usr/bin/ldd", "usr/bin/localedef", "usr/bin/pldd", "usr/bin/zdump", "usr/bin/chcon", "usr/bin/runcon"),
    # A hook into a crash reporter that the image lacks, which every start of Python would search for
    *("etc/python3*/sitecustomize.py", "usr/lib/python3*/sitecustomize.py"),
    # Python's own tools and tests
    *("usr/bin/py3*", "usr/bin/pdb3*", "usr/bin/pydoc3*", "usr/bin/pygettext3*", "usr/bin/2to3*", "usr/bin/idle*"),
    *("usr/lib/python3*/test", "usr/lib/python3*/idlelib", "usr/lib/python3*/ensurepip", "usr/lib/python3*/lib2to3"),
    *("usr/lib/python3*/config-3*", "usr/lib/python3*/turtledemo", "usr/lib/python3*/pydoc_data"),
)
# No image may have these, with any packages.
FORBIDDEN = re.compile(
    r"(usr/(s?bin|lib/apt)/(apt|dpkg|sudo|su|mount|newuidmap|docker)|var/lib/(apt|dpkg)|etc/shadow)\b"
)


class RootError(Exception):
    """The built root must not be used for a sandbox."""


@dataclass(frozen=True)
class Entry:
    """One file, directory or link. ``content`` of a regular file is bytes, or a member of the tar it came from."""

    info: tarfile.TarInfo
    content: bytes | tuple[tarfile.TarFile, tarfile.TarInfo] = b""

    def open(self) -> IO[bytes]:
        """The content of a regular file."""
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        archive, member = self.content
        if (file := archive.extractfile(member)) is None:
            raise RootError(f"/{self.info.name} has no content")
        return file


Root = dict[str, Entry]


def merged(path: str) -> str:
    """The path without leading slash, merged below /usr."""
    path = posixpath.normpath(path).lstrip("/")
    return f"usr/{path}" if path.split("/", 1)[0] in MERGED else path


def entry(path: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, content: bytes = b"", link: str = "") -> Entry:
    """A new entry of a root."""
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.size, info.linkname = kind, mode, len(content), link
    return Entry(info, content)


def read(archive: tarfile.TarFile) -> Root:
    """The entries of a tar by their merged path; hard links become files of their own."""
    root: Root = {}
    for member in archive:
        path = merged(member.name)
        if path in (".", *(f"usr/{name}" for name in MERGED if member.issym())):
            continue
        info = copy.copy(member)
        info.name, info.mode = path, member.mode & 0o777
        if member.islnk():
            target = archive.getmember(member.linkname)
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", target.size
        root[path] = Entry(info, (archive, member) if info.isreg() else b"")
    return root


def strip(root: Root, globs: Iterable[str]) -> Root:
    """The root without files that match a glob, and without byte code whose source is gone."""
    pattern = re.compile("|".join(fnmatch.translate(glob.lstrip("/")) for glob in globs))

    @functools.cache
    def removed(path: str) -> bool:
        return bool(pattern.match(path)) or ("/" in path and removed(posixpath.dirname(path)))

    kept = {path: one for path, one in root.items() if not removed(path)}

    def is_orphan(path: str) -> bool:
        directory, name = posixpath.split(path)
        source = f"{posixpath.dirname(directory)}/{name.split('.', 1)[0]}.py"
        return directory.endswith("/__pycache__") and source not in kept

    return {path: one for path, one in kept.items() if not is_orphan(path)}


def complete(root: Root, links: Mapping[str, str]) -> Root:
    """The root with the files of every sandbox, its links, and all parent directories."""
    whole = dict(root)
    for path, mode in MOUNT_POINTS.items():
        whole[path] = entry(path, tarfile.DIRTYPE, mode)
    for path, text in FILES.items():
        whole[path] = entry(path, content=text.encode())
    for path, target in LINKS.items():
        whole[path] = entry(path, tarfile.SYMTYPE, 0o777, link=target)
    for name in MERGED:
        if any(path.startswith(f"usr/{name}/") for path in whole):
            whole[name] = entry(name, tarfile.SYMTYPE, 0o777, link=f"usr/{name}")
    for name, target in links.items():
        whole[merged(name)] = entry(merged(name), tarfile.SYMTYPE, 0o777, link=target)
    used = {parent for path, one in whole.items() if not one.info.isdir() for parent in parents(path)}
    for path in [path for path, one in whole.items() if one.info.isdir()]:
        if path not in used and path not in MOUNT_POINTS:
            del whole[path]  # emptied
    for path in used - whole.keys():
        whole[path] = entry(path, tarfile.DIRTYPE, 0o755)
    return whole


def parents(path: str) -> list[str]:
    """Every directory above a path."""
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def resolve(root: Root, path: str) -> str | None:
    """The target of a path after following all links inside the root."""
    for _ in range(40):
        for part in [*parents(path), path]:
            if (found := root.get(part)) is None:
                return None
            if found.info.issym():
                rest = path[len(part) + 1 :]
                path = posixpath.join("/", posixpath.dirname(part), found.info.linkname, rest)
                path = posixpath.normpath(path).lstrip("/")
                break
        else:
            return path
    return None


def check(root: Root, needed: Iterable[str]) -> None:
    """Raise :class:`RootError` for a root with forbidden files, or without a needed path."""
    for path, one in root.items():
        if one.info.mode & (stat.S_ISUID | stat.S_ISGID):
            raise RootError(f"/{path} is setuid or setgid")
        if not (one.info.isreg() or one.info.isdir() or one.info.issym()):
            raise RootError(f"/{path} is neither a file, a directory nor a link")
        if FORBIDDEN.match(path):
            raise RootError(f"/{path} must not be in a sandbox")
        if one.info.mode & stat.S_IWOTH and not one.info.issym() and path != "tmp":
            raise RootError(f"/{path} can be written by everybody")
    for path in needed:
        if resolve(root, path.lstrip("/")) is None:
            raise RootError(f"{path} is missing; does a package provide it?")


def write(root: Root, file: IO[bytes], mtime: int) -> int:
    """Write a root as a tar; returns its unpacked size in bytes."""
    size = 0
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root):
            info = copy.copy(root[path].info)
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime, info.pax_headers = mtime, {}
            size += info.size if info.isreg() else 0
            if info.isreg():
                with root[path].open() as content:
                    archive.addfile(info, content)
            else:
                info.size = 0
                archive.addfile(info)
    return size
