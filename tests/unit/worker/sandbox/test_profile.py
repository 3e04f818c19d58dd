"""The sandbox profile is a function of bounded numbers, and its rendering holds every field that matters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import WeakContainer
from tests.builders.profiles import ENVIRONMENTS, profile_of
from worker import seccomp
from worker.drivers.docker_config import CONFIG_FIELDS, container_config, refuse_weaker


def rendered() -> dict[str, Any]:
    return container_config(profile_of())


def test_work_is_executable_only_where_programs_are_compiled() -> None:
    for name in ENVIRONMENTS:
        executable = {mount.path for mount in profile_of(name).tmpfs if mount.executable}
        assert executable == ({"/work"} if name == "c" else set())


def test_the_agent_has_room_beside_the_programs_processes() -> None:
    assert profile_of().pids == ENVIRONMENTS["python"].defaults.processes + 2


def test_gvisor_counts_the_programs_processes_and_the_host_counts_gvisors_threads() -> None:
    processes = ENVIRONMENTS["python"].defaults.processes
    hardened = profile_of(isolation="hardened")
    assert hardened.ulimits == profile_of().ulimits | {"nproc": processes + 2}
    assert hardened.pids >= 100 + 10 * processes


def test_what_is_rendered() -> None:
    host = rendered()["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 512 * 2**20
    assert {"Name": "core", "Soft": 1, "Hard": 1} in host["Ulimits"]
    assert host["SecurityOpt"][0] == "no-new-privileges"
    assert json.loads(host["SecurityOpt"][1].removeprefix("seccomp=")) == seccomp.profile()
    for options in host["Tmpfs"].values():
        assert {"nosuid", "nodev", "noexec", "uid=70001", "gid=70001"} <= set(options.split(","))


WEAKER: list[tuple[str, Any]] = [
    ("NetworkMode", "bridge"),
    ("ReadonlyRootfs", False),
    ("Privileged", True),
    ("CapDrop", []),
    ("SecurityOpt", ["no-new-privileges"]),
    ("IpcMode", "host"),
    ("PidMode", "host"),
    ("Memory", 0),
    ("MemorySwap", -1),
    ("NanoCpus", 0),
    ("PidsLimit", None),
    ("Tmpfs", {}),
    ("Mounts", []),
    ("MaskedPaths", []),
    ("ReadonlyPaths", []),
    ("Ulimits", None),
    ("Runtime", "other"),
    ("Binds", ["/:/host"]),
    ("CapAdd", ["SYS_ADMIN"]),
    ("Devices", [{"PathOnHost": "/dev/kmsg"}]),
    ("Sysctls", {"kernel.msgmax": "1"}),
    ("GroupAdd", ["docker"]),
    ("CgroupnsMode", "host"),
    ("UTSMode", "host"),
    ("UsernsMode", "host"),
    ("OomScoreAdj", 0),
    ("ShmSize", 2**30),
    ("LogConfig", {"Type": "json-file", "Config": {}}),
    ("RestartPolicy", {"Name": "always", "MaximumRetryCount": 0}),
    ("AutoRemove", True),
    # Fields that are never asked for
    ("CgroupParent", "/elsewhere"),
    ("CpuQuota", -1),
    ("DeviceCgroupRules", ["a *:* rwm"]),
    ("DeviceRequests", [{"Count": -1}]),
    ("Dns", ["192.0.2.1"]),
    ("ExtraHosts", ["a:192.0.2.1"]),
    ("Links", ["/other:/sandbox/other"]),
    ("OomKillDisable", True),
    ("PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
    ("PublishAllPorts", True),
    ("VolumesFrom", ["other"]),
    ("WhateverComesNext", True),
]


CONFIGURED_WEAKER: list[tuple[str, Any]] = [
    ("User", "0:0"),
    ("Hostname", "another"),
    ("OpenStdin", False),
    ("StdinOnce", False),
    ("Tty", True),
    ("NetworkDisabled", False),
    ("Volumes", {"/data": {}}),
    ("Healthcheck", {"Test": ["CMD", "true"]}),
    ("ExposedPorts", {"80/tcp": {}}),
]


def made_from(asked: dict[str, Any]) -> dict[str, Any]:
    config = {key: asked[key] for key in CONFIG_FIELDS}
    unasked: dict[str, Any] = {
        "ConsoleSize": [0, 0],
        "Binds": None,
        "CpuShares": 0,
        "PortBindings": {},
        "CgroupParent": "",
    }
    return {"Image": asked["Image"], "Config": config, "HostConfig": {**asked["HostConfig"], **unasked}}


def test_no_field_is_left_out_of_the_comparison() -> None:
    assert rendered()["HostConfig"].keys() <= {field for field, _ in WEAKER}


@pytest.mark.parametrize(("field", "value"), WEAKER, ids=[field for field, _ in WEAKER])
def test_a_container_made_weaker_is_refused(field: str, value: Any) -> None:
    asked = rendered()
    made = made_from(asked)
    refuse_weaker(asked, made)  # as asked, it passes
    made["HostConfig"][field] = value
    with pytest.raises(WeakContainer, match=field):
        refuse_weaker(asked, made)


@pytest.mark.parametrize(("field", "value"), CONFIGURED_WEAKER)
def test_a_container_configured_weaker_is_refused(field: str, value: Any) -> None:
    asked = rendered()
    made = made_from(asked)
    made["Config"][field] = value
    with pytest.raises(WeakContainer, match=field):
        refuse_weaker(asked, made)


def test_a_container_of_another_image_is_refused() -> None:
    asked = rendered()
    with pytest.raises(WeakContainer, match="Image"):
        refuse_weaker(asked, {**made_from(asked), "Image": "sha256:2"})


def test_the_seccomp_lists_do_not_contradict_each_other() -> None:
    allowed = {name for names in seccomp.ALLOW.values() for name in names.split()}
    tripwires = {name for names in seccomp.TRIPWIRES.values() for name in names.split()}
    assert allowed & tripwires == set()
    assert len(seccomp.profile()["architectures"]) == 1
    conditional = {"socket", "socketpair", "clone", "clone3", "io_uring_setup", "personality", "prctl", "prlimit64"}
    conditional.add("setrlimit")
    assert conditional & (allowed | tripwires) == set()
    # Of arguments with one index the engine makes alternatives, so no rule may have two.
    for rule in seccomp.profile()["syscalls"]:
        indices = [condition["index"] for condition in rule.get("args", [])]
        assert len(indices) == len(set(indices))
