"""The agent's report of its container against the profile: as asked it passes, and every field alone can fail."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.environments import load_environments
from orchestrator.errors import WeakContainer
from orchestrator.models import Isolation
from tests.harness import ROOT
from worker.profile import SandboxProfile, sandbox_profile
from worker.readback import refuse_weaker

PYTHON = load_environments([ROOT / "sandbox_image" / "environments"])["python"]
UID = 200123


def profile(isolation: Isolation = "standard") -> SandboxProfile:
    return sandbox_profile(
        PYTHON, isolation, PYTHON.defaults, uid=UID, image="i", runtime="r", inputs=Path("/x"), name="n", labels={}
    )


def report(isolation: Isolation = "standard") -> dict[str, Any]:
    """What an agent says in a container that is as the profile asks; checked against the real one in the e2e tests."""
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
    return {
        "uid": UID,
        "gid": UID,
        "groups": [],
        "caps": dict.fromkeys(sets, "0000000000000000"),
        "kernel": os.uname().release if standard else "4.4.0",
        "seccomp": 2 if standard else 0,
        "no_new_privs": 1 if standard else 0,
        "mounts": [["/", "overlay", "ro,relatime"], ["/inputs", "ext4", "ro,relatime"], *tmpfs],
        "limits": {**{name: [bound, bound] for name, bound in made.ulimits.items()}, "cpu": [-1, -1]},
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(report())
    *parents, last = path.split(".")
    place = made
    for name in parents:
        place = place[name]
    place[last] = value
    return made


def remounted(path: str, old: str, new: str) -> dict[str, Any]:
    made = report()
    made["mounts"] = [[at, kind, o.replace(old, new) if at == path else o] for at, kind, o in made["mounts"]]
    return made


@pytest.mark.parametrize("isolation", ["standard", "hardened"])
def test_what_was_asked_passes(isolation: Isolation) -> None:
    refuse_weaker(profile(isolation), report(isolation))


WEAKER = {
    "uid": changed("uid", 0),
    "gid": changed("gid", 0),
    "groups": changed("groups", [0]),
    "capabilities": changed("caps.CapBnd", "00000000a80425fb"),
    "seccomp": changed("seccomp", 0),
    "no_new_privs": changed("no_new_privs", 0),
    "mount /": remounted("/", "ro", "rw"),
    "mount /inputs": remounted("/inputs", "ro", "rw"),
    "mount /work": remounted("/work", "nodev", "dev"),
    "mount /dev/shm": remounted("/dev/shm", f"size={profile().shm_bytes // 1024}k", "size=8589934592k"),
    "mount /tmp": remounted("/tmp", "noexec", "exec"),
    "mount /output": remounted("/output", "nr_inodes=16384", "nr_inodes=0"),
    "limit core": changed("limits.core", [-1, -1]),
    "limit fsize": changed("limits.fsize", [1, 2**40]),
    "limit nofile": changed("limits.nofile", [2048, 2048]),
    "limit memlock": changed("limits.memlock", [65536, 65536]),
    "limit msgqueue": changed("limits.msgqueue", [819200, 819200]),
    "limit rtprio": changed("limits.rtprio", [1, 1]),
}


@pytest.mark.parametrize("what", WEAKER)
def test_what_is_weaker_is_refused_by_name(what: str) -> None:
    with pytest.raises(WeakContainer, match=rf"asked: {what}\.$"):
        refuse_weaker(profile(), WEAKER[what])


@pytest.mark.parametrize("kernel", [os.uname().release, None])
def test_a_hardened_sandbox_on_the_hosts_own_kernel_is_refused(kernel: str | None) -> None:
    with pytest.raises(WeakContainer, match=r"asked: kernel\.$"):
        refuse_weaker(profile("hardened"), {**report("hardened"), "kernel": kernel})


def test_a_missing_capability_set_is_refused() -> None:
    made = report()
    del made["caps"]["CapBnd"]
    with pytest.raises(WeakContainer, match="capabilities"):
        refuse_weaker(profile(), made)


def test_every_limit_of_the_profile_has_a_control() -> None:
    assert {f"limit {name}" for name in profile().ulimits} <= WEAKER.keys()
    assert {f"mount {mount.path}" for mount in profile().tmpfs} <= WEAKER.keys()


@pytest.mark.parametrize("nonsense", [{}, {"caps": 3, "mounts": {}, "limits": []}, {"mounts": [1, ["/", "x"]]}])
def test_a_report_that_says_nothing_is_refused(nonsense: dict[str, Any]) -> None:
    with pytest.raises(WeakContainer, match="capabilities"):
        refuse_weaker(profile(), nonsense)
