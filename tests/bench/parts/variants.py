"""The variants of a container: the whole, and for each part one without it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Config = dict[str, Any]
Side = Literal["agent", "agent without a program", "least Python", "least Python with site"]
WRITABLE = ("/work", "/tmp", "/output", "/dev/shm")


def _unchanged(config: Config, scratch: Path) -> None:
    """The whole container."""


@dataclass(frozen=True)
class Variant:
    """A container that differs in one part.

    ``change`` edits the bundle's configuration; its second argument is an empty directory of the host for this
    container, with the uid of the sandbox. ``options`` are crun's. With ``adds`` the variant has a part more than the
    whole.
    """

    part: str
    change: Callable[[Config, Path], None] = _unchanged
    options: tuple[str, ...] = ()
    side: Side = "agent"
    ahead: bool = True  # whether the program's process is forked before its program is known
    program_filters: bool = True
    sealed: bool = True  # crun from a file in memory
    compiled: bool = True  # the filter that crun has compiled before
    overlay: bool = True  # an overlay of the image for this container alone
    idle_seconds: float = 0.0  # for which the container waits for its program
    adds: bool = False


def _without(*path: str) -> Callable[[Config, Path], None]:
    """Remove one field."""

    def change(config: Config, scratch: Path) -> None:
        for name in path[:-1]:
            config = config[name]
        del config[path[-1]]

    return change


def _empty(name: str) -> Callable[[Config, Path], None]:
    def change(config: Config, scratch: Path) -> None:
        config["linux"][name] = []

    return change


def _unmounted(*destinations: str) -> Callable[[Config, Path], None]:
    def change(config: Config, scratch: Path) -> None:
        config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] not in destinations]

    return change


def _unshared(kind: str) -> Callable[[Config, Path], None]:
    """Without a namespace of its own."""

    def change(config: Config, scratch: Path) -> None:
        linux = config["linux"]
        linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != kind]
        if kind == "uts":
            del config["hostname"]

    return change


def _all(*changes: Callable[[Config, Path], None]) -> Callable[[Config, Path], None]:
    def change(config: Config, scratch: Path) -> None:
        for one in changes:
            one(config, scratch)

    return change


def _without_cgroups(config: Config, scratch: Path) -> None:
    _unmounted("/sys/fs/cgroup")(config, scratch)
    _unshared("cgroup")(config, scratch)
    del config["linux"]["resources"]


def _bound(*destinations: str) -> Callable[[Config, Path], None]:
    """Directories of the host in place of file systems that a program may write."""

    def change(config: Config, scratch: Path) -> None:
        for mount in config["mounts"]:
            if mount["destination"] in destinations:
                source = scratch / Path(mount["destination"]).name
                mount.update(type="bind", source=str(source), options=["bind", "rw", "nosuid", "nodev"])

    return change


def bare(config: Config, scratch: Path) -> None:
    """Neither filter, masked and read-only paths, limits of processes, nor mounts beyond those that crun needs."""
    for name in ("seccomp", "maskedPaths", "readonlyPaths"):
        config["linux"].pop(name)
    config["process"].pop("rlimits")
    _unmounted("/dev/pts", "/dev/mqueue", "/sys/fs/cgroup", "/sys", "/dev/shm")(config, scratch)


WHOLE = Variant("the whole container")
PARTS = (
    Variant("the container's seccomp filter", _without("linux", "seccomp"), compiled=False),
    Variant("the two filters of the program's process", program_filters=False),
    Variant("masked paths", _empty("maskedPaths")),
    Variant("read-only paths", _empty("readonlyPaths")),
    Variant("tmpfs of /work, /tmp and /output (directories of the host instead)", _bound(*WRITABLE[:3])),
    Variant("tmpfs of /dev/shm (the same)", _bound(*WRITABLE[3:])),
    Variant("/dev/pts and /dev/mqueue", _unmounted("/dev/pts", "/dev/mqueue")),
    Variant("/sys and its mounts of cgroups", _unmounted("/sys", "/sys/fs/cgroup")),
    Variant("cgroups, with their mounts", _without_cgroups, ("--cgroup-manager=disabled",)),
    Variant("limits of each process (ulimits)", _without("process", "rlimits")),
    Variant("network namespace", _unshared("network")),
    Variant("IPC namespace, with /dev/mqueue", _all(_unshared("ipc"), _unmounted("/dev/mqueue"))),
    Variant("UTS namespace", _unshared("uts")),
    Variant("an overlay of the image for each container", overlay=False),
    Variant("the program's process, forked ahead", ahead=False),
    Variant("the program: start, print(1), end", side="agent without a program"),
    Variant("the agent (a least Python program instead)", side="least Python with site", ahead=False),
    Variant("the agent, and Python's site", side="least Python", ahead=False),
    Variant("all of these parts: bare crun", bare, side="least Python", ahead=False, compiled=False, overlay=False),
)  # fmt: skip
ADDED = (
    Variant("preloading and rehearsals, while a container waits", idle_seconds=1.0, adds=True),
    Variant("crun's copy of itself (decision 8)", sealed=False, adds=True),
    Variant("crun's compilation of the filter (decision 8)", compiled=False, adds=True),
)
VARIANTS = (WHOLE, *PARTS, *ADDED)
