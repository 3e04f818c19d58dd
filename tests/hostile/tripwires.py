"""The expected effects of forbidden system calls, in either tier."""

from __future__ import annotations

from typing import Any

from tests.hostile.cases import attack

KILLED = {"events": "seccomp_violation"}
DENIED = {"events": "seccomp_violation"}  # answered EPERM, and reported
DESCRIPTOR = ("3", "4", "5", "6", "7")
OWN_KERNEL = "gVisor's own kernel answers; the host's filter is not involved and no call reaches the host's kernel"
# gVisor's answers, and the signal that those of its releases give which know the filter.
REFUSED = (
    "EPERM", "ENOSYS", "EINVAL", "EACCES", "EFAULT", "ENODEV", "EBADF", "ENOENT", "ESRCH", "EAFNOSUPPORT",
    "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "ENOTSUP", "SIGSYS",
)  # fmt: skip


def trip(theme: str, name: str, source: str, *calls: str, **more: Any) -> None:
    """Register a program of which each of ``calls`` is a tripwire: the child that makes it dies."""
    fields: dict[str, Any] = {"probes": dict.fromkeys(calls, "SIGSYS"), **KILLED, **more}
    fields.setdefault("hardened", {"events": "", "probes": dict.fromkeys(calls, REFUSED)})
    fields.setdefault("because", OWN_KERNEL)
    attack(theme, name, source, **fields)
