"""An agent's report of its container, and the profile it is compared with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from orchestrator.environments import load_environments
from orchestrator.models import Isolation
from tests.harness import ROOT
from worker.sandbox.profile import AGENT_CAPABILITIES, SandboxProfile, sandbox_profile

PYTHON = load_environments([ROOT / "sandbox_image" / "environments"])["python"]
UID, AGENT_UID = 200123, 200456


def profile(isolation: Isolation = "standard") -> SandboxProfile:
    return sandbox_profile(
        PYTHON,
        isolation,
        PYTHON.defaults,
        uid=UID,
        image="i",
        runtime="r",
        binds={"/inputs": Path("/x")},
        name="n",
        labels={},
        agent_uid=None if isolation == "standard" else AGENT_UID,
    )


def report(isolation: Isolation = "standard") -> dict[str, Any]:
    """An agent's report of a container that follows the profile; the e2e tests compare it with a real report."""
    made = profile(isolation)
    standard = isolation == "standard"
    shared = "nosuid,nodev," if standard else ""
    tmpfs = [
        [
            mount.path,
            "tmpfs",
            f"rw,{shared}{'' if mount.executable else 'noexec,'}relatime,"
            + (
                f"size={mount.size_bytes // 1024}k,nr_inodes={mount.inodes}" if standard else f"size={mount.size_bytes}"
            ),
        ]
        for mount in made.tmpfs
    ]
    shm = f"size={made.shm_bytes // 1024}k" if standard else f"size={made.shm_bytes}"
    tmpfs.append(["/dev/shm", "tmpfs", f"rw,{shared}noexec,relatime,{shm}"])
    sets = ["CapInh", "CapPrm", "CapEff", "CapBnd"] + (["CapAmb"] if standard else [])
    uid = UID if standard else AGENT_UID
    granted = {} if standard else dict.fromkeys(("CapPrm", "CapEff"), f"{AGENT_CAPABILITIES:016x}")
    return {
        "uid": uid,
        "gid": uid,
        "groups": [],
        "caps": dict.fromkeys(sets, "0000000000000000") | granted,
        "kernel": os.uname().release if standard else "4.4.0",
        "seccomp": 2 if standard else 0,
        "no_new_privs": 1 if standard else 0,
        "mounts": [["/", "overlay", "ro,relatime"], ["/inputs", "ext4", "ro,relatime"], *tmpfs],
        "limits": {**{name: [bound, bound] for name, bound in made.ulimits.items()}, "cpu": [-1, -1]},
    }
