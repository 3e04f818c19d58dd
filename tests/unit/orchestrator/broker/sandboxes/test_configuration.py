"""The configuration of a tool server's container, and the paths that a declaration may give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.broker.sandboxes import seccomp
from orchestrator.broker.sandboxes.configuration import NETWORK_FILES, Bind, Sandbox, rendered
from orchestrator.broker.sandboxes.launching import declared_binds, is_proc_masked, network_binds
from orchestrator.tool_environments import ToolServerLimits
from tests.harness import ROOT
from worker.sandbox import profile

PROCESS = {"Entrypoint": ["/usr/bin/python3"], "Env": ["PATH=/usr/bin", "TOKEN=no"], "WorkingDir": "/tmp"}
LIMITS = ToolServerLimits(memory_bytes=2**26, processes=7, cpu_cores=0.5, scratch_bytes=2**20)


def configured(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": "time-1", "root": Path("/images/root"), "process": PROCESS, "uid": 2_000_100_007}
    return rendered(Sandbox(**{**fields, "limits": LIMITS, "env": {"TOKEN": "yes"}, **changes}))


def mount(configuration: dict[str, Any], destination: str) -> dict[str, Any]:
    (found,) = [one for one in configuration["mounts"] if one["destination"] == destination]
    assert isinstance(found, dict)
    return found


def test_process_has_no_privilege() -> None:
    process = configured()["process"]
    assert process["user"] == {"uid": 2_000_100_007, "gid": 2_000_100_007}
    assert process["noNewPrivileges"] is True
    assert set(map(tuple, process["capabilities"].values())) == {()}
    assert process["env"] == ["PATH=/usr/bin", "TOKEN=yes"]
    assert {"type": "RLIMIT_CORE", "soft": 0, "hard": 0} in process["rlimits"]


def test_root_is_read_only_and_scratch_is_bounded() -> None:
    configuration = configured()
    assert configuration["root"] == {"path": "/images/root", "readonly": True}
    assert {"nosuid", "nodev", "noexec", f"size={2**20}"} <= set(mount(configuration, "/tmp")["options"])
    assert all("nr_inodes=16384" in mount(configuration, each)["options"] for each in ("/tmp", "/dev/shm"))


def test_caps_are_the_images() -> None:
    linux = configured()["linux"]
    assert linux["cgroupsPath"] == "/mayfly-tools/time-1"
    assert linux["resources"]["memory"] == {"limit": 2**26, "swap": 2**26}
    assert linux["resources"]["pids"] == {"limit": 7}
    assert linux["resources"]["cpu"] == {"quota": 50_000, "period": 100_000}
    assert linux["resources"]["devices"] == [{"allow": False, "access": "rwm"}]


def test_rootless_container_is_in_a_user_namespace_and_has_no_cgroup() -> None:
    usual, rootless = configured(), configured(owner=(10001, 10002))
    assert {one["type"] for one in rootless["linux"]["namespaces"]} - {
        one["type"] for one in usual["linux"]["namespaces"]
    } == {"user"}
    inside = {"containerID": 2_000_100_007, "size": 1}
    assert rootless["linux"]["uidMappings"] == [{**inside, "hostID": 10001}]
    assert rootless["linux"]["gidMappings"] == [{**inside, "hostID": 10002}]
    assert not {"resources", "cgroupsPath"} & set(rootless["linux"])
    assert {"type": "RLIMIT_NPROC", "soft": 7, "hard": 7} in rootless["process"]["rlimits"]
    assert "uidMappings" not in usual["linux"]
    assert rootless["linux"]["seccomp"] == usual["linux"]["seccomp"]
    assert mount(rootless, "/proc")["type"] == "proc"
    assert mount(configured(shared_proc=True), "/proc")["options"][0] == "rbind"


@pytest.mark.parametrize(("mounted", "masked"), [("/proc", False), ("/proc/acpi", True), ("/process/x", False)])
def test_masked_proc_is_recognized(mounted: str, masked: bool) -> None:
    assert is_proc_masked(f"26 1 254:0 / / rw - ext4 x rw\n27 26 0:24 / {mounted} rw - proc proc rw\n") is masked


def test_profile_of_a_rootless_broker_allows_the_start_of_a_container() -> None:
    profile = seccomp.rootless_broker()
    assert json.loads((ROOT / "deploy" / "broker-seccomp.json").read_text()) == profile
    refused = {name for rule in profile["syscalls"] for name in rule["names"] if "args" not in rule}
    assert refused == {*seccomp.REFUSED, "clone3"} - set(seccomp.STARTING)
    assert {rule["args"][0]["index"] for rule in profile["syscalls"] if rule["names"] == ["socket"]} == {0}


def test_network_is_shared_only_if_declared() -> None:
    def kinds(**changes: Any) -> set[str]:
        return {one["type"] for one in configured(**changes)["linux"]["namespaces"]}

    assert kinds() == {"pid", "network", "ipc", "uts", "mount", "cgroup"}
    assert kinds(network=True) == kinds() - {"network"}
    assert network_binds(network=False) == ()
    assert {bind.target for bind in network_binds(network=True)} <= set(NETWORK_FILES)
    assert not any(bind.writable for bind in network_binds(network=True))


def test_binds_are_read_only_unless_declared() -> None:
    binds = (Bind("/srv/a", "/data"), Bind("/srv/b", "/state", writable=True))
    configuration = configured(binds=binds)
    assert mount(configuration, "/data")["source"] == "/srv/a"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(mount(configuration, "/data")["options"])
    assert "rw" in mount(configuration, "/state")["options"]


def test_filter_refuses_the_listed_calls() -> None:
    def families(network: bool) -> set[int]:
        rules = [rule for rule in seccomp.profile(network, writable=False)["syscalls"] if rule["names"] == ["socket"]]
        refused = {rule["args"][0]["value"] for rule in rules if rule["args"][0]["op"] == "SCMP_CMP_EQ"}
        return set(range(seccomp.LAST_FAMILY)) - refused

    assert families(network=False) == {seccomp.UNIX}
    assert families(network=True) == {seccomp.UNIX, seccomp.INET, seccomp.INET6, seccomp.NETLINK}
    assert len(seccomp.NAMESPACE_FLAGS) == 8
    assert len(seccomp.profile(network=True, writable=False)["architectures"]) == 1


def test_covered_paths_are_those_of_programs_sandboxes() -> None:
    """Except for devices and /sys, which tool servers do not have at all."""
    assert set(profile.MASKED_PATHS) - {"/dev/pts"} == set(configured()["linux"]["maskedPaths"])
    assert "/proc/sys" in configured()["linux"]["readonlyPaths"]


def test_declared_files_are_mounted_as_declared(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    given = declared_binds({str(tmp_path): "/data", str(tmp_path / "link"): "/state/:rw"})
    assert given == (Bind(str(tmp_path), "/data"), Bind(str(tmp_path), "/state", writable=True))


@pytest.mark.parametrize(
    "target",
    ["data", "", "/", "/.", "//", "/data/..", "/etc", "/usr/bin", "/proc/self", "/tmp", "/run/identity", "/dev/null",
     "/lib64/x", "/data/../etc", "//etc", ":rw"],
)  # fmt: skip
def test_system_paths_are_no_place_for_files(tmp_path: Path, target: str) -> None:
    with pytest.raises(ValueError, match="not a path for files"):
        declared_binds({str(tmp_path): target})


@pytest.mark.parametrize("source", ["relative", "", "/no/such/path"])
def test_files_exist_on_the_host(source: str) -> None:
    with pytest.raises(ValueError, match="not a path on the broker's host"):
        declared_binds({source: "/data"})
