"""The comparison of the agent's report with the profile: an equal report passes, and each weaker field fails."""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest

from orchestrator.errors import WeakContainer
from orchestrator.models import Isolation
from tests.builders.sandboxes.profiles import profile_of
from tests.builders.sandboxes.reports import UID, profile, report
from worker.sandbox.profile import AGENT_CAPABILITIES
from worker.sandbox.readback import refuse_weaker


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
def test_container_equal_to_its_profile_passes(isolation: Isolation) -> None:
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
def test_weaker_property_is_refused_by_name(what: str) -> None:
    with pytest.raises(WeakContainer, match=rf"profile: {what}\.$"):
        refuse_weaker(profile(), WEAKER[what])


@pytest.mark.parametrize("kernel", [os.uname().release, None])
def test_a_hardened_sandbox_on_the_hosts_own_kernel_is_refused(kernel: str | None) -> None:
    with pytest.raises(WeakContainer, match=r"profile: kernel\.$"):
        refuse_weaker(profile("hardened"), {**report("hardened"), "kernel": kernel})


@pytest.mark.parametrize("name", ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
@pytest.mark.parametrize("mask", ["1e0", "1e1", "1000000e0", "60", "20", "0", "nonsense"])
def test_agent_of_a_hardened_sandbox_has_exactly_three_capabilities(name: str, mask: str) -> None:
    made = report("hardened")
    made["caps"][name] = mask
    if (mask, name in ("CapPrm", "CapEff")) == ("0", False):
        refuse_weaker(profile("hardened"), made)
        return
    with pytest.raises(WeakContainer, match=r"profile: capabilities\.$"):
        refuse_weaker(profile("hardened"), made)


def test_the_agents_capabilities_are_those_by_name() -> None:
    assert f"{AGENT_CAPABILITIES:b}" == "11100000"  # CAP_KILL 5, CAP_SETGID 6, CAP_SETUID 7
    assert profile_of().start_capabilities == ()
    for_a_moment = {"CAP_SETPCAP"}  # to empty the bounding set
    kept = {"CAP_KILL", "CAP_SETGID", "CAP_SETUID"}
    assert set(profile_of(isolation="hardened").start_capabilities) == kept | for_a_moment


@pytest.mark.parametrize("uid", [0, UID])
def test_agent_with_the_uid_of_its_program_or_root_is_refused(uid: int) -> None:
    with pytest.raises(WeakContainer, match=r"profile: gid, uid\.$"):
        refuse_weaker(profile("hardened"), {**report("hardened"), "uid": uid, "gid": uid})


def test_a_missing_capability_set_is_refused() -> None:
    made = report()
    del made["caps"]["CapBnd"]
    with pytest.raises(WeakContainer, match="capabilities"):
        refuse_weaker(profile(), made)


def test_every_limit_of_the_profile_has_a_control() -> None:
    assert {f"limit {name}" for name in profile().ulimits} <= WEAKER.keys()
    assert {f"mount {mount.path}" for mount in profile().tmpfs} <= WEAKER.keys()


@pytest.mark.parametrize("nonsense", [{}, {"caps": 3, "mounts": {}, "limits": []}, {"mounts": [1, ["/", "x"]]}])
def test_empty_report_is_refused(nonsense: dict[str, Any]) -> None:
    with pytest.raises(WeakContainer, match="capabilities"):
        refuse_weaker(profile(), nonsense)
