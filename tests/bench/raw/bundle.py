"""The bundle that crun is given directly: the image's files, and the same sandbox profile as an OCI ``config.json``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import docker

from orchestrator.environments import Environment, load_environments
from orchestrator.settings import Settings
from worker.profile import SandboxProfile, sandbox_profile

UID = 65534
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
NOTHING = ("nosuid", "noexec", "nodev")
CPU_PERIOD = 100_000


def environments() -> dict[str, Environment]:
    """The environments that come with Mayfly."""
    return {environment.name: environment for environment in load_environments(Settings().environments_dirs).values()}


def export(image: str, directory: Path) -> Path:
    """The files of an image, read-only by intent; written once for each image."""
    target = directory / image.removeprefix("sha256:")[:16]
    if target.exists():
        return target
    partial = target.with_name(f".{target.name}")
    partial.mkdir(parents=True, exist_ok=True)
    api = docker.APIClient()
    id = api.create_container(image)["Id"]
    try:
        with subprocess.Popen(["tar", "-x", "-C", str(partial)], stdin=subprocess.PIPE) as tar:
            assert tar.stdin
            for chunk in api.export(id):
                tar.stdin.write(chunk)
        assert tar.returncode == 0
    finally:
        api.remove_container(id, force=True)
        api.close()
    for name in ("work", "output", "inputs", "tmp", "proc", "dev", "sys"):
        (partial / name).mkdir(exist_ok=True)
    return partial.rename(target)


def profile_of(environment: Environment, image: str, runtime: str, inputs: Path, name: str) -> SandboxProfile:
    """The sandbox profile of an environment's default limits, as Mayfly makes it."""
    return sandbox_profile(
        environment, "standard", environment.defaults,
        uid=UID, image=image, runtime=runtime, inputs=inputs, name=name, labels={},
    )  # fmt: skip


def write_bundle(directory: Path, rootfs: Path, profile: SandboxProfile, env: dict[str, str], args: list[str]) -> None:
    """A bundle in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config(rootfs, profile, env, args)), encoding="utf-8")


def config(rootfs: Path, profile: SandboxProfile, env: dict[str, str], args: list[str]) -> dict[str, Any]:
    """The OCI runtime configuration: all that the profile says, and the mounts and namespaces that an engine adds."""
    owner = [f"uid={profile.uid}", f"gid={profile.uid}", "mode=0700"]
    limits = [{"type": f"RLIMIT_{name.upper()}", "soft": n, "hard": n} for name, n in sorted(profile.ulimits.items())]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": profile.uid, "gid": profile.uid},
            "args": args,
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": "/work",
            "capabilities": {},
            "rlimits": limits,
            "noNewPrivileges": True,
            "oomScoreAdj": profile.oom_score,
        },
        "root": {"path": str(rootfs), "readonly": True},
        "hostname": profile.hostname,
        "mounts": [
            _mount("/proc", "proc", *NOTHING),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
            _mount("/sys", "sysfs", *NOTHING, "ro"),
            _mount("/sys/fs/cgroup", "cgroup", *NOTHING, "relatime", "ro"),
            _mount("/dev/mqueue", "mqueue", *NOTHING),
            _mount("/dev/shm", "tmpfs", *NOTHING, "mode=1777", f"size={profile.shm_bytes}"),
            *(_mount(one.path, "tmpfs", *one.options.split(","), *owner) for one in profile.tmpfs),
            {
                "destination": "/inputs",
                "type": "bind",
                "source": str(profile.inputs),
                "options": ["bind", "ro", "nosuid", "nodev", "rprivate"],
            },
        ],
        "linux": {
            "namespaces": [{"type": name} for name in NAMESPACES],
            "resources": {
                "memory": {"limit": profile.memory_bytes, "swap": profile.memory_bytes},
                "cpu": {"quota": int(profile.cpu_cores * CPU_PERIOD), "period": CPU_PERIOD},
                "pids": {"limit": profile.pids},
                "devices": [{"allow": False, "access": "rwm"}],
            },
            "seccomp": profile.seccomp,
            "maskedPaths": list(profile.masked_paths),
            "readonlyPaths": list(profile.readonly_paths),
        },
    }


def _mount(path: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": path, "type": kind, "source": kind, "options": list(options)}
