"""The sandbox profile in the form of Docker Engine, and the comparison with the engine's own description. Pure."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import WeakContainer
from worker.host.cgroups import PERIOD_MICROSECONDS, Caps
from worker.sandbox import seccomp
from worker.sandbox.profile import SandboxProfile

WORKER_LABEL = "dev.mayfly.worker"
NANOCPUS_PER_MICROSECOND = 10**9 // PERIOD_MICROSECONDS
# The compared fields beside ``HostConfig``, of which every field is compared.
CONFIG_FIELDS = ("User", "Hostname", "OpenStdin", "StdinOnce", "Tty", "NetworkDisabled", "WorkingDir")
# Files that the engine mounts from its own directory on the host's disk, unless the profile mounts others.
ENGINE_FILES = ("hosts", "hostname", "resolv.conf")
FROM_IMAGE = ("Volumes", "Healthcheck", "ExposedPorts")  # fields that an image must leave empty


def nano_cpus(cpu_cores: float) -> int:
    """CPU cores in the engine's unit, rounded to the steps of the kernel's quota."""
    return Caps.of(0, cpu_cores, 0).cpu_microseconds * NANOCPUS_PER_MICROSECOND


def container_config(profile: SandboxProfile) -> dict[str, Any]:
    """The engine's configuration of a container to create."""
    owner = f"uid={profile.uid},gid={profile.uid},mode=0700"
    user = f"{profile.start_uid}:{profile.start_uid}"
    identity = profile.binds["/run/identity"]
    binds = profile.binds | {f"/etc/{name}": identity / name for name in ENGINE_FILES}
    return {
        "Image": profile.image,
        "User": user,
        **({"WorkingDir": profile.start_directory} if profile.start_directory else {}),
        "Hostname": profile.hostname,
        "Labels": profile.labels,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": True,
        "HostConfig": {
            "Runtime": profile.runtime,
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            **({"CapAdd": list(profile.start_capabilities)} if profile.start_capabilities else {}),
            "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp.encoded(profile.seccomp)}"],
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "PidMode": "",
            "UTSMode": "",
            "UsernsMode": "",
            "Memory": profile.memory_bytes,
            "MemorySwap": profile.memory_bytes,
            "OomScoreAdj": profile.oom_score,
            "NanoCpus": nano_cpus(profile.cpu_cores),
            "PidsLimit": profile.pids,
            "ShmSize": profile.shm_bytes,
            "Ulimits": [{"Name": name, "Soft": n, "Hard": n} for name, n in sorted(profile.ulimits.items())],
            "Tmpfs": {mount.path: f"{mount.options},{owner}" for mount in profile.tmpfs},
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": str(source),
                    "Target": target,
                    "ReadOnly": True,
                    "BindOptions": {"Propagation": "rprivate"},
                }
                for target, source in binds.items()
            ],
            "MaskedPaths": list(profile.masked_paths),
            "ReadonlyPaths": list(profile.readonly_paths),
            **({"Sysctls": profile.sysctls} if profile.sysctls else {}),
            "LogConfig": {"Type": "none", "Config": {}},
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "AutoRemove": False,
        },
    }


def refuse_other_limits(caps: Caps, host_config: dict[str, Any]) -> None:
    """Compare the limits that the engine reports with the requested limits.

    Raises :class:`WeakContainer` naming the differences. No limit is 0, which the engine treats as unlimited.
    """
    wanted = {
        "Memory": caps.memory_bytes,
        "MemorySwap": caps.memory_bytes,
        "NanoCpus": caps.cpu_microseconds * NANOCPUS_PER_MICROSECOND,
        "PidsLimit": caps.pids,
    }
    if differs := sorted(name for name, value in wanted.items() if not value or host_config.get(name) != value):
        raise WeakContainer(f"The engine did not apply the requested limits: {', '.join(differs)}.")


def refuse_weaker(asked: dict[str, Any], made: dict[str, Any]) -> None:
    """Compare the engine's container with its profile. Raises :class:`WeakContainer` naming the differences.

    Every field of ``HostConfig`` is compared: requested fields must be set, and all others empty.
    """
    wanted, got, config = asked["HostConfig"], made["HostConfig"], made["Config"]
    differs = {key for key, value in wanted.items() if got.get(key) != value}
    differs |= {key for key, value in got.items() if key not in wanted and not _empty(value)}
    differs |= {key for key in CONFIG_FIELDS if key in asked and config.get(key) != asked[key]}
    differs |= {key for key in FROM_IMAGE if not _empty(config.get(key))}
    if made["Image"] != asked["Image"]:
        differs.add("Image")
    if differs:
        raise WeakContainer(f"The engine made a container weaker than its profile: {', '.join(sorted(differs))}.")


def _empty(value: Any) -> bool:
    return not any(value) if isinstance(value, list) else not value
