"""The bundle that crun is given directly: the image's files, and the same sandbox profile as an OCI ``config.json``."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import docker

from orchestrator.environments import Environment, load_environments
from orchestrator.settings import Settings
from worker.drivers.oci.config import oci_config
from worker.host.hostdirs import HostDir, HostDirs
from worker.sandbox.profile import SandboxProfile, sandbox_profile

UID = 65534


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


def leased(directory: Path) -> HostDir:
    """The files of a worker's host for one container, below ``directory``."""
    directory.chmod(0o755)
    return HostDirs(directory, "bench", UID, 1).lease()


def profile_of(environment: Environment, image: str, runtime: str, lease: HostDir, name: str) -> SandboxProfile:
    """The sandbox profile of an environment's default limits, as Mayfly makes it."""
    return sandbox_profile(
        environment, "standard", environment.defaults,
        uid=lease.uid, image=image, runtime=runtime, binds=lease.binds(loopback=False), name=name, labels={},
    )  # fmt: skip


def bundle_config(rootfs: Path, profile: SandboxProfile, env: dict[str, str], args: list[str]) -> dict[str, Any]:
    """A bundle's configuration: Mayfly's own, but that the runtime names the cgroup, so that one does for all."""
    process = {"Entrypoint": args, "Env": [f"{name}={value}" for name, value in env.items()], "WorkingDir": "/work"}
    config = oci_config(profile, rootfs, process)
    del config["linux"]["cgroupsPath"]
    return config
