"""The sandbox profile is a function of bounded numbers, and its rendering has every required field."""

from __future__ import annotations

import json
import platform
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.errors import WeakContainer
from orchestrator.models import Isolation, RequestedLimits
from tests.builders.sandboxes.profiles import ENVIRONMENTS, profile_of
from worker.drivers.docker.config import CONFIG_FIELDS, container_config, refuse_other_limits, refuse_weaker
from worker.drivers.oci.config import caps_of, oci_config
from worker.drivers.oci.config import rendered as rendered_for_oci
from worker.host.cgroups import Caps
from worker.sandbox import arguments, seccomp
from worker.sandbox.profile import START_CAPABILITIES, cpu_cores

TIERS: tuple[Isolation, ...] = ("standard", "hardened")


def rendered(isolation: Isolation = "standard") -> dict[str, Any]:
    return container_config(profile_of(isolation=isolation))


@pytest.mark.parametrize("isolation", ["standard", "hardened"])
def test_only_the_working_directory_is_executable(isolation: Isolation) -> None:
    for name in ENVIRONMENTS:
        assert {mount.path for mount in profile_of(name, isolation).tmpfs if mount.executable} == {"/work"}


def test_shared_memory_follows_the_memory_limit() -> None:
    declared = ENVIRONMENTS["python"]
    assert profile_of().shm_bytes == declared.maxima.memory_bytes  # a container that waits may be given so much
    assert profile_of(isolation="hardened").shm_bytes == declared.defaults.memory_bytes
    for isolation in ("standard", "hardened"):
        assert profile_of(isolation=isolation).ulimits["fsize"] >= profile_of(isolation=isolation).shm_bytes


def test_only_a_loopback_has_tcp_and_udp_sockets() -> None:
    closed, opened = seccomp.profile(), seccomp.profile(loopback=True)
    assert profile_of().seccomp == closed and profile_of(loopback=True).seccomp == opened
    more = [rule for rule in opened["syscalls"] if rule not in closed["syscalls"]]
    sockets = [rule for rule in more if rule["names"] == ["socket"]]
    values = [tuple(condition["valueTwo"] for condition in rule["args"]) for rule in sockets]
    assert sorted(values) == sorted((f, k, p) for f in (2, 10) for k, own in ((1, 6), (2, 17)) for p in (0, own))
    options = [rule for rule in more if rule not in sockets]
    assert {name for rule in options for name in rule["names"]} == {"setsockopt", "getsockopt"}
    levels = {rule["args"][0]["valueTwo"] for rule in options}
    assert levels == {0, 6, 41}  # IP, TCP and IPv6, option by option
    assert all(rule["action"] == "SCMP_ACT_ALLOW" and len(rule["args"]) == 2 for rule in options)
    assert [rule for rule in closed["syscalls"] if rule not in opened["syscalls"]] == []


def test_seccomp_profile_is_encoded_once_for_all_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    encode = json.dumps
    image = {"Env": [], "Entrypoint": ["/agent"], "WorkingDir": "/work"}

    def counted(value: object, **options: Any) -> str:
        texts.append(encode(value, **options))
        return texts[-1]

    monkeypatch.setattr(seccomp, "_texts", deque(maxlen=2))
    monkeypatch.setattr(json, "dumps", counted)
    for number in range(3):
        for loopback in (False, True):
            profile = replace(profile_of(loopback=loopback), name=f"sandbox-{number}")
            container_config(profile)
            rendered_for_oci(oci_config(profile, Path("/bundle/root"), image))
    assert len([text for text in texts if '"SCMP_ACT_KILL_PROCESS"' in text]) == 2, "with and without a loopback"


def test_a_loopback_has_names_and_bounded_buffers() -> None:
    assert profile_of().sysctls == {}
    host = container_config(profile_of(loopback=True))["HostConfig"]
    assert host["Sysctls"].keys() == {
        f"net.ipv4.tcp_{name}" for name in ("rmem", "wmem", "max_tw_buckets", "no_metrics_save")
    }
    assert all(mount["ReadOnly"] for mount in host["Mounts"])


def test_the_agent_has_room_beside_the_programs_processes() -> None:
    assert profile_of().pids == ENVIRONMENTS["python"].defaults.processes + 2


def test_gvisor_counts_the_programs_processes_and_the_host_counts_gvisors_threads() -> None:
    processes = ENVIRONMENTS["python"].defaults.processes
    hardened = profile_of(isolation="hardened")
    nproc = processes + 2
    assert hardened.ulimits == profile_of().ulimits | {"nproc": nproc, "fsize": hardened.shm_bytes}
    assert hardened.pids >= 100 + 10 * processes


def test_profile_renders_expected_options() -> None:
    host = rendered()["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 512 * 2**20
    assert {"Name": "core", "Soft": 1, "Hard": 1} in host["Ulimits"]
    assert host["SecurityOpt"][0] == "no-new-privileges"
    assert json.loads(host["SecurityOpt"][1].removeprefix("seccomp=")) == seccomp.profile()
    for path, options in host["Tmpfs"].items():
        execution = "exec" if path == "/work" else "noexec"
        assert {"nosuid", "nodev", execution, "uid=70001", "gid=70001"} <= set(options.split(","))


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
    config = {key: asked[key] for key in CONFIG_FIELDS if key in asked}
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


@pytest.mark.parametrize("capabilities", [None, ["CAP_SYS_ADMIN"], [*START_CAPABILITIES, "CAP_DAC_READ_SEARCH"]])
def test_a_hardened_container_with_other_capabilities_is_refused(capabilities: list[str] | None) -> None:
    asked = rendered("hardened")
    made = made_from(asked)
    refuse_weaker(asked, made)
    made["HostConfig"]["CapAdd"] = capabilities
    with pytest.raises(WeakContainer, match="CapAdd"):
        refuse_weaker(asked, made)


def test_only_a_hardened_container_starts_as_root_and_outside_of_the_programs_directories() -> None:
    started = {isolation: (rendered(isolation)["User"], rendered(isolation).get("WorkingDir")) for isolation in TIERS}
    assert started == {"standard": ("70001:70001", None), "hardened": ("0:0", "/")}
    for options in rendered("hardened")["HostConfig"]["Tmpfs"].values():
        assert {"uid=70001", "gid=70001", "mode=0700"} <= set(options.split(","))
    for isolation, agent_uid in (("standard", 70_002), ("hardened", None)):
        with pytest.raises(ValueError, match="uid of its own"):
            profile_of(isolation=isolation, agent_uid=agent_uid)


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


@pytest.mark.parametrize(("call", "argument"), [("setpriority", 1), ("sched_setaffinity", 0)])
def test_every_process_but_the_agent_can_be_scheduled(call: str, argument: int) -> None:
    alternatives = [one.conditions for one in arguments.classes(platform.machine()) if call in one.calls]
    for number in (*range(5000), *(2**bit for bit in range(12, 22)), 2**22 - 1, 2**32, 2**32 + 1, 2**40 + 1):
        given = [0, 0, 0]
        given[argument] = number
        met = any(all(given[at] & mask == value for at, mask, value in one) for one in alternatives)
        assert met == (number & 0xFFFFFFFF != 1), number


def test_engine_adds_no_mounts() -> None:
    mounts = {mount["Target"]: mount["Source"] for mount in rendered()["HostConfig"]["Mounts"]}
    for name in ("hosts", "hostname", "resolv.conf"):
        assert mounts[f"/etc/{name}"] == f"/somewhere/identity/{name}"


def test_the_seccomp_lists_do_not_contradict_each_other() -> None:
    allowed = {name for names in seccomp.ALLOW.values() for name in names.split()}
    tripwires = {name for names in seccomp.TRIPWIRES.values() for name in names.split()}
    assert allowed & tripwires == set()
    assert len(seccomp.profile()["architectures"]) == 1
    conditional = {call for one in arguments.classes(platform.machine(), True) for call in one.calls}
    conditional |= {*seccomp.NO_EFFECT, *seccomp.HIDDEN_ARGUMENTS}
    assert conditional & (allowed | tripwires) == set()
    # Of arguments with one index the engine makes alternatives, so no rule may have two.
    for rule in seccomp.profile()["syscalls"]:
        indices = [condition["index"] for condition in rule.get("args", [])]
        assert len(indices) == len(set(indices))


@pytest.mark.parametrize("asked", [1e-10, 0.0001, 0.005, 0.00999])
def test_every_container_has_a_cpu_bound(asked: float) -> None:
    """In the engine and in the runtimes 0 means no bound."""
    limits = ENVIRONMENTS["python"].defaults.model_copy(update={"cpu_cores": asked})
    assert cpu_cores(limits) == 0.01
    made = replace(profile_of(), cpu_cores=asked)
    assert container_config(made)["HostConfig"]["NanoCpus"] == 10**7
    assert caps_of(made).cpu_microseconds == 1000


CAPS = Caps.of(512 * 2**20, 0.29, 66)
MADE = {"Memory": 512 * 2**20, "MemorySwap": 512 * 2**20, "NanoCpus": 290_000_000, "PidsLimit": 66}


def test_rendered_limits_equal_the_requested_limits() -> None:
    refuse_other_limits(CAPS, MADE)


@pytest.mark.parametrize("field", MADE)
@pytest.mark.parametrize("value", [0, None, -1, 10**12])
def test_limits_are_compared_with_the_request_not_the_sent_values(field: str, value: int | None) -> None:
    with pytest.raises(WeakContainer, match=field):
        refuse_other_limits(CAPS, {**MADE, field: value})
    config = rendered()
    config["HostConfig"][field] = value  # a fault of ours: sent so, and made so
    made = {"HostConfig": config["HostConfig"], "Config": config, "Image": config["Image"]}
    refuse_weaker(config, made)  # the control: what was sent was made
    with pytest.raises(WeakContainer, match=field):
        refuse_other_limits(caps_of(profile_of()), made["HostConfig"])


@pytest.mark.parametrize(("cap", "field"), [("cpu_microseconds", "NanoCpus"), ("pids", "PidsLimit")])
def test_limit_of_zero_is_refused_though_requested(cap: str, field: str) -> None:
    with pytest.raises(WeakContainer, match=field):
        refuse_other_limits(CAPS._replace(**{cap: 0}), {**MADE, field: 0})


def test_environment_cannot_declare_too_small_a_cpu_share() -> None:
    RequestedLimits(cpu_cores=0.01)
    with pytest.raises(ValidationError, match=r"0\.01"):
        RequestedLimits(cpu_cores=0.009)
