"""Driver ``oci`` renders the sandbox profile for a runtime, field by field."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders.sandboxes.profiles import profile_of
from worker.drivers.oci.config import NAMESPACES, caps_of, oci_config, rendered
from worker.host import cgroups
from worker.sandbox import profile, seccomp

CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
IMAGE = {"Entrypoint": ["/usr/bin/agent"], "Env": ["PATH=/usr/bin"], "WorkingDir": "/work"}


def config(isolation: str = "standard") -> dict[str, Any]:
    asked = oci_config(profile_of(isolation=isolation), Path("/bundle/root"), IMAGE)
    found: dict[str, Any] = json.loads(json.dumps(asked))
    return found


def test_process_has_its_user_and_no_capabilities() -> None:
    process = config()["process"]
    assert process["user"] == {"uid": 70_001, "gid": 70_001}
    assert process["capabilities"] == {name: [] for name in CAPABILITY_SETS}
    assert process["cwd"] == "/work"
    in_gvisor = config("hardened")["process"]
    assert (in_gvisor["user"], in_gvisor["cwd"]) == ({"uid": 0, "gid": 0}, "/")
    started = {name: list(profile.START_CAPABILITIES) for name in ("bounding", "effective", "permitted")}
    assert in_gvisor["capabilities"] == {"inheritable": [], "ambient": [], **started}
    assert in_gvisor["noNewPrivileges"] is True
    assert process["noNewPrivileges"] is True
    assert process["args"] == ["/usr/bin/agent"]
    assert process["oomScoreAdj"] == profile.OOM_SCORE
    limits = {limit["type"]: (limit["soft"], limit["hard"]) for limit in process["rlimits"]}
    assert limits == {f"RLIMIT_{name.upper()}": (bound, bound) for name, bound in profile_of().ulimits.items()}
    assert "RLIMIT_NPROC" not in limits
    assert "RLIMIT_NPROC" in {limit["type"] for limit in config("hardened")["process"]["rlimits"]}


def test_each_configuration_is_rendered_with_its_own_seccomp_profile() -> None:
    edited = {**seccomp.profile(), "defaultAction": "SCMP_ACT_LOG"}
    asked = [seccomp.profile(), seccomp.profile(loopback=True), edited, {**edited, "syscalls": []}, seccomp.profile()]
    for one in asked:
        spoof = {"Env": ['X="seccomp": null'], "Entrypoint": ["/agent"], "WorkingDir": "/work"}
        made = oci_config(replace(profile_of(), seccomp=one), Path("/bundle/root"), spoof)
        assert json.loads(rendered(made)) == json.loads(json.dumps(made))


def test_configuration_has_namespaces_and_masks() -> None:
    linux = config()["linux"]
    assert [one["type"] for one in linux["namespaces"]] == list(NAMESPACES)
    assert not any("path" in one for one in linux["namespaces"])  # each is new and unshared
    assert linux["seccomp"] == seccomp.profile()
    assert tuple(linux["maskedPaths"]) == profile.MASKED_PATHS
    assert tuple(linux["readonlyPaths"]) == profile.READONLY_PATHS
    assert linux["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert linux["cgroupsPath"] == "/mayfly/mayfly-test"


def test_configuration_has_the_profiles_limits() -> None:
    resources = config()["linux"]["resources"]
    assert resources["memory"] == {"limit": 512 * 2**20, "swap": 512 * 2**20}
    assert resources["cpu"] == {"quota": 100_000, "period": 100_000}
    ahead = oci_config(replace(profile_of(), ahead=True), Path("/bundle/root"), IMAGE)["linux"]["resources"]
    assert ahead == {**resources, "cpu": {**resources["cpu"], "shares": 64}}
    assert resources["pids"] == {"limit": profile_of().pids}


def test_only_writable_mounts_are_bounded() -> None:
    asked = config()
    assert asked["root"] == {"path": "/bundle/root", "readonly": True}
    mounts = {mount["destination"]: mount for mount in asked["mounts"]}
    for path in ("/work", "/tmp", "/output"):
        execution = "exec" if path == "/work" else "noexec"
        assert {"nosuid", "nodev", execution, "uid=70001", "gid=70001", "mode=0700"} <= set(mounts[path]["options"])
        assert any(option.startswith("size=") for option in mounts[path]["options"])
        assert any(option.startswith("nr_inodes=") for option in mounts[path]["options"])
    assert {"ro", "rprivate", "nosuid", "nodev"} <= set(mounts["/inputs"]["options"])
    assert mounts["/inputs"]["source"] == "/somewhere/inputs"
    assert [path for path, mount in mounts.items() if mount["type"] == "bind"] == ["/inputs", "/run/identity"]
    for path in ("/sys", "/sys/fs/cgroup"):
        assert "ro" in mounts[path]["options"]


@pytest.mark.parametrize("version", [1, 2])
def test_caps_are_set_and_read_back(tmp_path: Path, version: int) -> None:
    """On files that only look like cgroups: order and names are tested."""
    files = {
        1: {
            "memory/mayfly/one/memory.limit_in_bytes": "1048576",
            "memory/mayfly/one/memory.memsw.limit_in_bytes": "1048576",
            "cpu/mayfly/one/cpu.cfs_quota_us": "50000",
            "pids/mayfly/one/pids.max": "7",
        },
        2: {
            "mayfly/one/memory.max": "1048576",
            "mayfly/one/memory.swap.max": "0",
            "mayfly/one/cpu.max": "50000 100000",
            "mayfly/one/pids.max": "7",
        },
    }[version]
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    caps = cgroups.Caps.of(2**20, 0.5, 7)
    assert len(cgroups.weaker_caps(tmp_path, "one", caps)) >= 3
    cgroups.set_caps(tmp_path, "one", caps)
    assert {name: (tmp_path / name).read_text() for name in files} == files
    assert cgroups.weaker_caps(tmp_path, "one", caps) == []
    for name, value in files.items():  # each alone is missed
        (tmp_path / name).write_text("max")
        assert cgroups.weaker_caps(tmp_path, "one", caps) == [Path(name).name]
        (tmp_path / name).write_text(value)
    assert cgroups.weaker_caps(tmp_path, "another", caps) != []


def test_container_without_swap_accounting_is_accepted(tmp_path: Path) -> None:
    for name in (
        "memory/mayfly/one/memory.limit_in_bytes",
        "cpu/mayfly/one/cpu.cfs_quota_us",
        "pids/mayfly/one/pids.max",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    caps = caps_of(profile_of())
    cgroups.set_caps(tmp_path, "one", caps)
    assert cgroups.weaker_caps(tmp_path, "one", caps) == []
    assert not (tmp_path / "memory/mayfly/one/memory.memsw.limit_in_bytes").exists()
