"""The OCI runtimes of this host, without an engine, each tried with a container.

The trial container has the host's ``/usr`` read-only and all caps of sandboxes, and runs ``true``. Only a trial shows
whether the runtime works with this kernel's cgroups.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from orchestrator.models import Isolation
from orchestrator.settings import Settings

TRIAL_SECONDS = 20.0
DELETE_SECONDS = 30.0
VERSION_SECONDS = 5.0
SHOWN_CHARACTERS = 300
# crun refuses hosts that mount both versions of cgroups ("drop all controllers from cgroupv2"). On such hosts crun runs
# in its own mount namespace without version 2's mount; the host itself does not change.
WITHOUT_UNIFIED = ("unshare", "--mount", "sh", "-c", 'umount "$0" && exec "$@"')


class Runtime(NamedTuple):
    """One runtime: ``command`` precedes its subcommands, ``state`` is the directory of its own state."""

    name: str
    path: str
    command: tuple[str, ...]
    state: Path | None = None

    @property
    def keeps(self) -> bool:
        """Whether the runtime can keep an ended container (``run --keep``)."""
        return Path(self.path).name == "runc"

    def version(self) -> str:
        """The runtime's version; empty if unknown."""
        return version_of(self.path)


def found(settings: Settings) -> dict[Isolation, list[Runtime]]:
    """Runtimes on this host for each isolation, the preferred first. Their own state lies under ``oci_path``."""
    there: dict[Isolation, list[Runtime]] = {}
    for isolation, names in settings.runtime_names().items():
        there[isolation] = []
        for name in names:
            if path := shutil.which(name):
                more = settings.runsc_arguments if "runsc" in Path(path).name else []
                command = [path, "--root", str(state_of(settings, name)), *more]
                unified = unified_mount(settings.cgroup_root)
                if unified is not None and "crun" in Path(path).name:
                    command = [*WITHOUT_UNIFIED, str(unified), *command]
                there[isolation].append(Runtime(name, path, tuple(command), state_of(settings, name)))
    return there


def state_of(settings: Settings, name: str) -> Path:
    """The state directory of a runtime, with a directory for each container."""
    return settings.oci_path / "runtimes" / name


def version_of(path: str) -> str:
    """``crun version 1.8.1`` or ``runsc version release-20240513.0`` → the version; empty without a version."""
    command = [path, "--version"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    words = done.stdout.split()
    return words[2] if len(words) > 2 and words[1] == "version" else ""


def unified_mount(cgroup_root: Path) -> Path | None:
    """The mount of version 2 beside version 1, which crun refuses."""
    unified = cgroup_root / "unified"
    return unified if os.path.ismount(unified) else None


def why_not(runtime: Runtime) -> str:
    """The reason why a runtime does not work here; empty if it works."""
    name = f"mayfly-trial-{secrets.token_hex(6)}"
    with tempfile.TemporaryDirectory(prefix="mayfly-trial-") as bundle:
        _write_bundle(Path(bundle), name)
        try:
            done = subprocess.run(
                [*runtime.command, "run", "--bundle", bundle, name],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            delete(runtime, name)
            return f"a container that ends at once had not ended after {TRIAL_SECONDS:g} s"
        except OSError as error:
            return f"the runtime cannot be started: {error.strerror}"
    if done.returncode == 0:
        return ""
    delete(runtime, name)  # the runtime may have been killed
    output = " ".join(f"{done.stdout} {done.stderr}".split())
    return f"a container did not start (exit code {done.returncode}): {output[-SHOWN_CHARACTERS:]}"


def delete(runtime: Runtime, name: str) -> bool:
    """Remove an orphaned container through its runtime; ``False`` if it still exists.

    Raises ``OSError`` or ``subprocess.TimeoutExpired``.
    """
    for words in (("delete", "--force", name), ("state", name)):
        done = subprocess.run(
            [*runtime.command, *words],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=DELETE_SECONDS, check=False,
        )  # fmt: skip
    if done.returncode == 0:
        return False
    if runtime.state is not None:  # a runtime killed during its start cannot read its own state
        shutil.rmtree(runtime.state / name, ignore_errors=True)
    return True


def left(settings: Settings, bundle: Path) -> Runtime | None:
    """The runtime of a bundle; ``None`` if the bundle has no runtime yet."""
    try:
        name = (bundle / "runtime").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    candidates = [one for each in found(settings).values() for one in each]
    return next((one for one in candidates if one.name == name), None)


def _write_bundle(bundle: Path, name: str) -> None:
    root = bundle / "root"
    for directory in ("usr", "proc", "dev"):
        (root / directory).mkdir(parents=True)
    for link in ("bin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    everything = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
    configuration = {
        "ociVersion": "1.0.2",
        "root": {"path": "root", "readonly": True},
        "process": {
            "user": {"uid": 65534, "gid": 65534},
            "args": ["/usr/bin/true"],
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        ],
        "linux": {
            "cgroupsPath": f"/mayfly/{name}",
            "namespaces": everything,
            "resources": {
                "memory": {"limit": 256 * 2**20},
                "cpu": {"quota": 100_000, "period": 100_000},
                "pids": {"limit": 256},
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}],
            },
        },
    }
    (bundle / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
