"""Compares the agent's report of its container (the first frame) with the profile. Pure.

The agent is part of the image and no program has run yet, so its report is as trustworthy as the image. This is the
second of two checks, after the comparison with the engine's own description (``drivers``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from mmap import PAGESIZE
from typing import Any

from orchestrator.errors import WeakContainer
from worker.sandbox.profile import AGENT_CAPABILITIES, SandboxProfile

SECCOMP_FILTER = 2
NO_CAPABILITIES = {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0}
# Capability sets by the kernel's names; gVisor has no ambient set.
CAPABILITIES = {
    "standard": {**NO_CAPABILITIES, "CapAmb": 0},
    "hardened": {**NO_CAPABILITIES, "CapPrm": AGENT_CAPABILITIES, "CapEff": AGENT_CAPABILITIES},
}


def refuse_weaker(profile: SandboxProfile, report: dict[str, Any]) -> None:
    """Compare. Raises :class:`WeakContainer` naming every weaker property."""
    if differs := sorted(set(_differences(profile, report))):
        raise WeakContainer(f"The sandbox is weaker than its profile: {', '.join(differs)}.")


def _differences(profile: SandboxProfile, report: dict[str, Any]) -> Iterator[str]:
    uid = profile.uid if profile.agent_uid is None else profile.agent_uid
    for name in ("uid", "gid"):
        if report.get(name) != uid:
            yield name
    if report.get("groups") not in ([], [uid]):
        yield "groups"
    wanted, caps = CAPABILITIES[profile.isolation], report.get("caps")
    if (
        not isinstance(caps, dict)
        or not caps.keys() >= wanted.keys()
        or any(_mask(mask) != wanted.get(name, 0) for name, mask in caps.items())
    ):
        yield "capabilities"
    if profile.isolation == "standard":  # gVisor's kernel has none of these
        if report.get("seccomp") != SECCOMP_FILTER:
            yield "seccomp"
        if report.get("no_new_privs") != 1:
            yield "no_new_privs"
    elif report.get("kernel") in (None, os.uname().release):  # the host's kernel, whatever the runtime is named
        yield "kernel"
    yield from _mounts(profile, report.get("mounts"))
    yield from _limits(profile, report.get("limits"))


def _mask(mask: object) -> int | None:
    try:
        return int(str(mask), 16)
    except ValueError:
        return None


def _mounts(profile: SandboxProfile, reported: Any) -> Iterator[str]:
    rows = reported if isinstance(reported, list) else []
    options = {
        str(row[0]): (row[1], set(str(row[2]).split(","))) for row in rows if isinstance(row, list) and len(row) == 3
    }
    for path in ("/", *profile.binds):
        if path not in options or "ro" not in options[path][1]:
            yield f"mount {path}"
    for mount in profile.tmpfs:
        kind, found = options.get(mount.path, ("", set()))
        wanted = set() if mount.executable else {"noexec"}
        if profile.isolation == "standard":
            wanted |= {"nosuid", "nodev", f"size={_kib(mount.size_bytes)}k", f"nr_inodes={mount.inodes}"}
        else:  # gVisor has neither devices nor setuid to forbid, and does not count inodes
            wanted |= {f"size={mount.size_bytes}"}
        if kind != "tmpfs" or not wanted <= found:
            yield f"mount {mount.path}"
    kind, found = options.get("/dev/shm", ("", set()))  # noqa: S108 - a path inside the sandbox
    if profile.isolation == "standard":
        wanted = {"noexec", "nosuid", "nodev", f"size={_kib(profile.shm_bytes)}k"}
    else:
        wanted = {"noexec", f"size={profile.shm_bytes}"}
    if kind != "tmpfs" or not wanted <= found:
        yield "mount /dev/shm"


def _kib(size_bytes: int) -> int:
    """A size as the kernel shows it: in whole pages."""
    return -(-size_bytes // PAGESIZE) * PAGESIZE // 1024


def _limits(profile: SandboxProfile, reported: Any) -> Iterator[str]:
    limits = reported if isinstance(reported, dict) else {}
    for name, bound in profile.ulimits.items():
        if limits.get(name) != [bound, bound]:
            yield f"limit {name}"
