"""The sandbox profile in the form of an OCI runtime: the ``config.json`` of a bundle. Pure.

It has only fields of the specification: https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md. Docker
Engine's implicit additions (the standard mounts and devices, a private namespace of every kind) are explicit here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.host.cgroups import OURS, PERIOD_MICROSECONDS, Caps
from worker.sandbox import seccomp
from worker.sandbox.profile import SandboxProfile

SPECIFICATION = "1.0.2"
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
STARTED_WITH, NEVER_GIVEN = ("bounding", "effective", "permitted"), ("inheritable", "ambient")  # capability sets
NOTHING = ["nosuid", "noexec", "nodev"]
AHEAD_SHARES = 64  # CPU shares of a container made ahead; the usual number is 1,024
# The first rule of every container's device list; the runtime adds the six devices that libc needs.
NO_DEVICES = [{"allow": False, "access": "rwm"}]


def oci_config(
    profile: SandboxProfile, rootfs: Path, process: dict[str, Any], annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The configuration of one container. ``process`` is its image's own: ``Entrypoint``, ``Env``, ``WorkingDir``.

    ``annotations`` are for the runtime, beside the profile's labels.
    """
    caps = caps_of(profile)
    return {
        "ociVersion": SPECIFICATION,
        "hostname": profile.hostname,
        "root": {"path": str(rootfs), "readonly": True},
        "annotations": {**profile.labels, **(annotations or {})},
        "process": {
            "terminal": False,
            "user": {"uid": profile.start_uid, "gid": profile.start_uid},
            "args": process["Entrypoint"],
            "env": [*process["Env"], f"HOSTNAME={profile.hostname}"],
            "cwd": profile.start_directory or process["WorkingDir"],
            "capabilities": {name: list(profile.start_capabilities) for name in STARTED_WITH}
            | {name: [] for name in NEVER_GIVEN},
            "rlimits": [
                {"type": f"RLIMIT_{name.upper()}", "soft": bound, "hard": bound}
                for name, bound in sorted(profile.ulimits.items())
            ],
            "noNewPrivileges": True,
            "oomScoreAdj": profile.oom_score,
        },
        "mounts": _mounts(profile),
        "linux": {
            "cgroupsPath": f"/{OURS}/{profile.name}",
            "namespaces": [{"type": name} for name in NAMESPACES],
            "resources": {
                "devices": NO_DEVICES,
                "memory": {"limit": caps.memory_bytes, "swap": caps.memory_bytes},
                "cpu": {
                    "quota": caps.cpu_microseconds,
                    "period": PERIOD_MICROSECONDS,
                    **({"shares": AHEAD_SHARES} if profile.ahead else {}),
                },
                "pids": {"limit": caps.pids},
            },
            "seccomp": profile.seccomp,
            **({"sysctl": profile.sysctls} if profile.sysctls else {}),
            "maskedPaths": list(profile.masked_paths),
            "readonlyPaths": list(profile.readonly_paths),
        },
    }


def caps_of(profile: SandboxProfile) -> Caps:
    """The caps of its cgroup."""
    return Caps.of(profile.memory_bytes, profile.cpu_cores, profile.pids)


def _mounts(profile: SandboxProfile) -> list[dict[str, Any]]:
    owner = [f"uid={profile.uid}", f"gid={profile.uid}", "mode=0700"]
    return [
        _mount("/proc", "proc", *NOTHING),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/sys", "sysfs", *NOTHING, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", *NOTHING, "relatime", "ro"),
        _mount("/dev/mqueue", "mqueue", *NOTHING),
        _mount("/dev/shm", "tmpfs", *NOTHING, "mode=1777", f"size={profile.shm_bytes}"),  # noqa: S108
        *(_mount(mount.path, "tmpfs", *mount.options.split(","), *owner) for mount in profile.tmpfs),
        *(
            {
                "destination": target,
                "type": "bind",
                "source": str(source),
                "options": ["rbind", "ro", "rprivate", "nosuid", "nodev"],
            }
            for target, source in profile.binds.items()
        ),
    ]


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def rendered(config: dict[str, Any]) -> str:
    """A configuration as JSON."""
    text = seccomp.encoded(config["linux"]["seccomp"])
    # A string of the configuration cannot contain this key: JSON escapes quotation marks inside of strings.
    head, _, tail = json.dumps({**config, "linux": {**config["linux"], "seccomp": None}}).partition('"seccomp": null')
    return f'{head}"seccomp": {text}{tail}'
