"""The sandbox profile is a function of bounded numbers, and its rendering holds every field that matters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.environments import load_environments
from orchestrator.errors import WeakContainer
from tests.harness import ROOT
from worker import seccomp
from worker.drivers.docker_config import container_config, refuse_weaker
from worker.profile import SandboxProfile, sandbox_profile

ENVIRONMENTS = load_environments([ROOT / "sandbox_image" / "environments", ROOT / "tests" / "environments"])


def profile_of(environment: str = "python", isolation: Any = "standard") -> SandboxProfile:
    declared = ENVIRONMENTS[environment]
    return sandbox_profile(
        declared,
        isolation,
        declared.defaults,
        uid=70_001,
        image="sha256:1",
        runtime="runc",
        inputs=Path("/somewhere/inputs"),
        name="mayfly-test",
        labels={},
    )


def rendered() -> dict[str, Any]:
    return container_config(profile_of())


def test_work_is_executable_only_where_programs_are_compiled() -> None:
    for name in ENVIRONMENTS:
        executable = {mount.path for mount in profile_of(name).tmpfs if mount.executable}
        assert executable == ({"/work"} if name == "c" else set())


def test_the_agent_has_room_beside_the_programs_processes() -> None:
    assert profile_of().pids == ENVIRONMENTS["python"].defaults.processes + 1
    assert profile_of(isolation="hardened").pids >= 100


def test_what_is_rendered() -> None:
    host = rendered()["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 512 * 2**20
    assert {"Name": "core", "Soft": 0, "Hard": 0} in host["Ulimits"]
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
]


def made_from(asked: dict[str, Any]) -> dict[str, Any]:
    config = {key: asked[key] for key in ("User", "OpenStdin", "Tty", "NetworkDisabled")}
    return {"Image": asked["Image"], "Config": config, "HostConfig": dict(asked["HostConfig"])}


@pytest.mark.parametrize(("field", "value"), WEAKER, ids=[field for field, _ in WEAKER])
def test_a_container_made_weaker_is_refused(field: str, value: Any) -> None:
    asked = rendered()
    made = made_from(asked)
    refuse_weaker(asked, made)  # as asked, it passes
    made["HostConfig"][field] = value
    with pytest.raises(WeakContainer, match=field):
        refuse_weaker(asked, made)


@pytest.mark.parametrize(("field", "value"), [("User", "0:0"), ("Tty", True), ("NetworkDisabled", False)])
def test_a_container_configured_weaker_is_refused(field: str, value: Any) -> None:
    asked = rendered()
    made = made_from(asked)
    made["Config"][field] = value
    with pytest.raises(WeakContainer, match=field):
        refuse_weaker(asked, made)


def test_the_seccomp_lists_do_not_contradict_each_other() -> None:
    allowed = {name for names in seccomp.ALLOW.values() for name in names.split()}
    tripwires = {name for names in seccomp.TRIPWIRES.values() for name in names.split()}
    assert allowed & tripwires == set()
    assert len(seccomp.profile()["architectures"]) == 1
    conditional = {"socket", "clone", "clone3", "personality", "prlimit64"}
    assert conditional & (allowed | tripwires) == set()
