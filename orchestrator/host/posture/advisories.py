"""Known vulnerabilities of releases, as data.

``fixed`` has the first fixed release of each patched branch, with ``~rc`` before the release itself; ``packages`` are
distributions' versions that have the fix under an older number; ``since`` is the first vulnerable release, if earlier
releases were not vulnerable. ``reachable``: whether a program in one of Mayfly's sandboxes can reach the vulnerability;
``why`` gives the reason. An unreachable vulnerability deserves an upgrade and breaks no promise; a reachable
vulnerability breaks a promise.

Sources: the advisories of opencontainers/runc, containerd/containerd, moby/moby and containers/crun; kernel.org's CVE
records with the stable releases they name; changelogs of the Debian packages; USN-6619-1. runsc's advisories name a
commit only, so ``fixed`` is the day on which an advisory was published: a release of that day certainly has the fix.
"""

from __future__ import annotations

from typing import NamedTuple


class Advisory(NamedTuple):
    """One vulnerability of some releases of a component."""

    component: str
    cve: str
    fixed: tuple[str, ...]
    reachable: bool
    why: str
    packages: tuple[str, ...] = ()
    since: str = ""


NO_EXEC = "Mayfly never starts a process in a running sandbox, and a sandbox's uid cannot write the host's files"
OWN_IMAGE = "images, working directory and mounts are Mayfly's own"
NO_SHARED = "it needs mounts that a running program changes, and no sandbox shares one"
NO_COPY = "Mayfly copies nothing out of a container"
NO_NETWORK = "sandboxes have no network"
NO_CAPABILITIES = "sandboxes have no capabilities, and no setuid file to use any with"
NO_NAMESPACES = "an attack needs a new user namespace; creating one kills the program"
CRI_ONLY = "it is in the plugin for Kubernetes"
LOCAL_USERS = "it concerns users of the host, and no sandbox sees these directories"
ORDINARY = "it needs no more than ordinary memory calls"
UNIX_SOCKETS = "it needs no more than Unix sockets, which programs may use"

ADVISORIES = (
    Advisory("runc", "CVE-2019-5736", ("1.0.0~rc7",), False, NO_EXEC, ("1.0.0~rc6+dfsg1-2",)),
    Advisory(
        "runc", "CVE-2021-30465", ("1.0.0~rc95",), False, NO_SHARED,
        ("1.0.0~rc93+ds1-5", "1.0.0~rc94+ds1-2"),
    ),
    Advisory("runc", "CVE-2022-29162", ("1.1.2",), False, NO_CAPABILITIES),
    Advisory("runc", "CVE-2023-27561", ("1.1.5",), False, OWN_IMAGE),
    Advisory(
        "runc", "CVE-2024-21626", ("1.1.12",), False, OWN_IMAGE + ", and nothing is run by exec",
        ("1.0.0~rc93+ds1-5+deb11u3", "1.1.5+ds1-1+deb12u1", "1.1.7-0ubuntu1~20.04.2", "1.1.7-0ubuntu1~22.04.2"),
    ),
    Advisory("runc", "CVE-2024-45310", ("1.1.14", "1.2.0~rc3"), False, NO_SHARED),
    Advisory("runc", "CVE-2025-31133", ("1.2.8", "1.3.3", "1.4.0~rc3"), False, NO_SHARED),
    Advisory("runc", "CVE-2025-52565", ("1.2.8", "1.3.3", "1.4.0~rc3"), False, "sandboxes have no terminal"),
    Advisory("runc", "CVE-2025-52881", ("1.2.8", "1.3.3", "1.4.0~rc3"), False, NO_SHARED),
    Advisory("crun", "CVE-2019-18837", ("0.10.5",), False, OWN_IMAGE),
    Advisory("crun", "CVE-2022-27650", ("1.4.4",), False, NO_CAPABILITIES),
    Advisory("crun", "CVE-2025-24965", ("1.20",), False, "it is in the krun handler, which Mayfly does not use"),
    Advisory("runsc", "CVE-2023-7258", ("20240515",), False, "an attack ends only the attacker's own sandbox"),
    Advisory("runsc", "CVE-2024-10026", ("20250130",), False, NO_NETWORK),
    Advisory("runsc", "CVE-2025-2713", ("20250328",), False, "the images hold no file that others may not read"),
    Advisory("runsc", "CVE-2026-96812", ("20260925",), False, "the builder of the images refuses device files"),
    Advisory("containerd", "CVE-2020-15257", ("1.3.9", "1.4.3"), False, "no sandbox is in the host's network"),
    Advisory("containerd", "CVE-2022-23648", ("1.4.13", "1.5.10", "1.6.1"), False, CRI_ONLY),
    Advisory("containerd", "CVE-2023-25173", ("1.5.18", "1.6.18"), False, "sandboxes' groups are Mayfly's own"),
    Advisory(
        "containerd", "CVE-2024-40635", ("1.6.38", "1.7.27", "2.0.4"), False, "no sandbox's uid is above 2147483647",
        ("1.6.20~ds1-1+deb12u2",),
    ),
    Advisory(
        "containerd", "CVE-2024-25621", ("1.7.29", "2.0.7", "2.1.5", "2.2.0"), False, LOCAL_USERS,
        ("1.6.20~ds1-1+deb12u2",),
    ),
    Advisory("engine", "CVE-2018-15664", ("18.09.8",), False, NO_COPY),
    Advisory("engine", "CVE-2019-14271", ("19.03.1",), False, NO_COPY, since="19.03"),
    Advisory("engine", "CVE-2021-41091", ("20.10.9",), False, LOCAL_USERS),
    Advisory("engine", "CVE-2022-36109", ("20.10.18",), False, "sandboxes' groups are Mayfly's own"),
    Advisory("engine", "CVE-2024-29018", ("23.0.11", "25.0.5", "26.0.0~rc3"), False, NO_NETWORK),
    Advisory(
        "engine", "CVE-2024-41110", ("23.0.15", "25.0.6", "26.1.5", "27.1.1"), False,
        "it concerns authorization plugins, and only workers speak to the engine",
        ("20.10.24+dfsg1-1+deb12u1",),
    ),
    Advisory("kernel", "CVE-2016-5195", ("3.16.38", "4.4.26", "4.7.9", "4.8.3"), True, ORDINARY),
    Advisory(
        "kernel", "CVE-2021-0920", ("4.4.278", "4.9.278", "4.14.242", "4.19.200", "5.4.137", "5.10.55", "5.13.7"), True,
        UNIX_SOCKETS,
    ),
    Advisory(
        "kernel", "CVE-2021-22555", ("4.14.231", "4.19.188", "5.4.113", "5.10.31", "5.11.15"), False, NO_NAMESPACES,
    ),
    Advisory(
        "kernel", "CVE-2022-0185", ("5.4.173", "5.10.93", "5.15.16", "5.16.2"), False, NO_NAMESPACES, since="5.1",
    ),
    Advisory(
        "kernel", "CVE-2022-0492", ("4.14.266", "4.19.229", "5.4.177", "5.10.97", "5.15.20", "5.16.6"), False,
        NO_NAMESPACES,
    ),
    Advisory(
        "kernel", "CVE-2022-0847", ("5.10.102", "5.15.25", "5.16.11"), True,
        "Dirty Pipe: splice is refused, but sendfile into a pipe does the same", since="5.8",
    ),
    Advisory(
        "kernel", "CVE-2022-2602", ("5.10.150", "5.15.75", "6.0.3"), False, "no ring of io_uring can be made",
        since="5.1",
    ),
    Advisory("kernel", "CVE-2023-0386", ("5.15.91", "6.1.9"), False, NO_NAMESPACES, since="5.11"),
    Advisory("kernel", "CVE-2023-3269", ("6.1.37", "6.3.11", "6.4.1"), True, f"StackRot: {ORDINARY}", since="6.1"),
    Advisory(
        "kernel", "CVE-2024-1086", ("4.19.307", "5.4.269", "5.10.210", "5.15.149", "6.1.76", "6.6.15", "6.7.3"), False,
        NO_NAMESPACES, since="3.15",
    ),
    Advisory("kernel", "CVE-2025-38236", ("6.12.36", "6.15.5"), True, UNIX_SOCKETS, since="6.9"),
    Advisory(
        "kernel", "CVE-2026-31431",
        ("5.10.254", "5.15.204", "6.1.170", "6.6.137", "6.12.85", "6.18.22", "6.19.12"), False,
        "Copy Fail: there are no AF_ALG sockets in a sandbox", since="4.14",
    ),
)  # fmt: skip
