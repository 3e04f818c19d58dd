"""Each check of a host's posture, with facts that pass and facts that fail."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.commands.local.stack import UIDS, Stack
from orchestrator.host.posture import EngineFacts, check_engine, facts, lines
from orchestrator.host.posture.finding import Finding
from orchestrator.host.posture.host import (
    DESCRIPTORS,
    check_attribution,
    check_cgroups,
    check_core_pattern,
    check_counters,
    check_cpu,
    check_engine_access,
    check_engine_address,
    check_engine_listeners,
    check_engine_package,
    check_runtimes,
    check_seccomp,
    check_security_modules,
    check_shared,
    check_sysctls,
    check_user_namespaces,
)
from orchestrator.host.posture.installation import (
    DiskSpace,
    PathMode,
    RedisFacts,
    check_api,
    check_directories,
    check_disk_space,
    check_neighbours,
    check_redis,
    check_redis_address,
    check_redis_socket,
    check_secrets,
    check_uids,
)
from orchestrator.settings import Settings
from worker.sandbox.profile import OPEN_FILES

CAPS = {"CgroupVersion": "2", "MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "SwapLimit": True}
SWAP = ["/dev/sda2 partition 1000 0 -2"]
ACTIONS = "kill_process kill_thread trap errno log allow"
FILTER = ["name=seccomp,profile=default"]
DURABLE = {"maxmemory_policy": "noeviction", "maxmemory": 10**9, "aof_enabled": 1}
CONFIG = {"bind": "127.0.0.1", "port": "6379", "tls-port": "0", "protected-mode": "yes"}
UNIX = "unix:///run/docker.sock"


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.status for finding in findings}


@pytest.mark.parametrize(
    ("changed", "swaps", "expected"),
    [
        ({}, [], ("ok", "ok")),
        ({"CgroupVersion": "1"}, [], ("weak", "ok")),
        ({"MemoryLimit": False}, [], ("broken", "ok")),
        ({"CpuCfsQuota": False}, [], ("broken", "ok")),
        ({"PidsLimit": False}, [], ("broken", "ok")),
        ({}, SWAP, ("ok", "ok")),
        ({"SwapLimit": False}, [], ("ok", "ok")),
        ({"SwapLimit": False}, SWAP, ("ok", "broken")),
    ],
)
def test_cgroups_and_swap(changed: dict[str, Any], swaps: list[str], expected: tuple[str, str]) -> None:
    assert tuple(finding.status for finding in check_cgroups(CAPS | changed, swaps)) == expected


@pytest.mark.parametrize(
    ("available", "logged", "options", "expected"),
    [
        (ACTIONS, ACTIONS, FILTER, ("ok", "ok")),
        ("kill_thread trap errno log allow", ACTIONS, FILTER, ("broken", "ok")),
        ("", "", FILTER, ("broken", "weak")),
        (ACTIONS, ACTIONS, ["name=apparmor"], ("broken", "ok")),
        (ACTIONS, ACTIONS, [], ("broken", "ok")),
        (ACTIONS, "errno log", FILTER, ("ok", "weak")),
    ],
)
def test_seccomp_support_has_its_finding(
    available: str, logged: str, options: list[str], expected: tuple[str, str]
) -> None:
    assert tuple(finding.status for finding in check_seccomp(available, logged, options)) == expected


@pytest.mark.parametrize(
    ("options", "modules", "namespaces"),
    [
        (["name=apparmor", "name=seccomp,profile=default"], "ok", "ok"),
        (["name=selinux"], "ok", "ok"),
        (FILTER, "weak", "ok"),
        (["name=userns"], "weak", "weak"),
        (["name=rootless", "name=cgroupns"], "weak", "ok"),
    ],
)
def test_security_modules_and_user_namespaces(options: list[str], modules: str, namespaces: str) -> None:
    assert check_security_modules(options).status == modules
    assert check_user_namespaces(options).status == namespaces


@pytest.mark.parametrize(
    ("info", "status"),
    [
        ({"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}, "weak"),
        ({"DockerRootDir": "/var/lib/docker"}, "ok"),
        ({}, "ok"),  # driver oci
    ],
)
def test_engine_of_a_snap_is_a_finding(info: dict[str, str], status: str) -> None:
    assert check_engine_package(info).status == status
    assert check_engine_package(info) in check_engine(Settings(), EngineFacts(info, {}, []))


@pytest.mark.parametrize(
    ("driver", "proxied", "options", "found"),
    [
        ("docker", False, FILTER, ("weak", "direct")),
        ("docker", True, FILTER, ("ok", "engine proxy")),
        ("docker", False, ["name=rootless"], ("ok", "rootless")),
        ("oci", False, FILTER, ("ok", "oci")),
        ("oci", True, [], ("ok", "oci")),
    ],
)
def test_engine_access_is_named(driver: str, proxied: bool, options: list[str], found: tuple[str, str]) -> None:
    finding = check_engine_access(driver, proxied, options)
    assert (finding.status, finding.detail.partition(":")[0]) == found


@pytest.mark.parametrize(
    ("pattern", "status"),
    [
        ("core\n", "ok"),
        ("/var/crash/core.%p", "ok"),
        ("|/usr/share/apport/apport -p%p", "ok"),
        ("|/usr/lib/systemd/systemd-coredump %P", "ok"),
        ("@/run/coredump.socket", "broken"),
    ],
)
def test_core_pattern_has_its_finding(pattern: str, status: str) -> None:
    found = check_core_pattern(pattern)
    assert (found.status, found.promise) == (status, 5 if status == "broken" else None)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("kernel.dmesg_restrict", "1\n", "0\n"),
        ("kernel.yama.ptrace_scope", "1", "0"),
        ("kernel.unprivileged_bpf_disabled", "2", "0"),
    ],
)
def test_sysctl_has_its_finding(name: str, good: str, bad: str) -> None:
    short = name.rpartition(".")[2]
    assert statuses(check_sysctls({name: good}))[short] == "ok"
    assert statuses(check_sysctls({name: bad}))[short] == "weak"
    assert statuses(check_sysctls({}))[short] == "ok"  # this kernel has none


@pytest.mark.parametrize(
    ("values", "kernel", "expected"),
    [
        ({}, "6.1.158", ("ok", "ok", "ok")),
        ({"vm.overcommit_memory": "1\n"}, "6.18", ("ok", "ok", "ok")),
        ({"vm.overcommit_memory": "2\n"}, "6.18", ("broken", "ok", "ok")),
        ({"fs.file-max": f"{300 * 1024}\n"}, "6.18", ("ok", "ok", "ok")),
        ({"fs.file-max": f"{300 * 1024 - 1}\n"}, "6.18", ("ok", "weak", "ok")),
        ({"kernel.modprobe": "/sbin/modprobe\n"}, "6.13.12-1", ("ok", "ok", "weak")),
        ({"kernel.modprobe": "/sbin/modprobe\n"}, "6.14.0-15-generic", ("ok", "ok", "ok")),
        ({"kernel.modprobe": "\n"}, "6.1.158", ("ok", "ok", "ok")),
    ],
)
def test_resource_shared_by_the_host_has_its_finding(
    values: dict[str, str | None], kernel: str, expected: tuple[str, ...]
) -> None:
    assert tuple(finding.status for finding in check_shared(values, 300, kernel)) == expected
    assert facts.sysctls()["vm.overcommit_memory"] is not None
    assert DESCRIPTORS == OPEN_FILES


def test_processor_flaw_has_its_finding() -> None:
    assert check_cpu({"mds": "Not affected", "spectre_v1": "Mitigation: usercopy"}).status == "ok"
    found = check_cpu({"mds": "Vulnerable: Clear CPU buffers attempted, no microcode", "l1tf": "Not affected"})
    assert found.status == "weak" and "mds" in found.detail and "l1tf" not in found.detail


def test_attribution_has_its_finding() -> None:
    assert check_attribution("full", "the kernel's log can be read").status == "ok"
    assert check_attribution("reduced", "neither").status == "weak"
    assert facts.attribution()[0] in ("full", "reduced")


@pytest.mark.parametrize(
    ("url", "mode", "members", "status"),
    [
        (UNIX, 0o660, ["root"], "ok"),
        (UNIX, 0o660, [], "ok"),
        (UNIX, 0o600, ["ann"], "ok"),
        (UNIX, 0o660, ["ann", "root"], "weak"),
        (UNIX, 0o666, [], "broken"),
        ("tcp://127.0.0.1:2375", None, [], "broken"),
        ("http://engine:2375", None, [], "broken"),
        ("https://engine:2376", None, [], "weak"),
        (UNIX, None, [], "weak"),
    ],
)
def test_the_engines_address(url: str, mode: int | None, members: list[str], status: str) -> None:
    assert check_engine_address(url, mode, "root", "docker", members).status == status


def test_engine_warning_becomes_a_finding() -> None:
    warning = "WARNING: API is accessible on http://0.0.0.0:2375 without encryption."
    assert check_engine_listeners({"Warnings": None}).status == "ok"
    assert check_engine_listeners({"Warnings": ["WARNING: No blkio throttle.read_bps_device support"]}).status == "ok"
    found = check_engine_listeners({"Warnings": [warning]})
    assert found.status == "broken" and "http://0.0.0.0:2375" in found.detail


@pytest.mark.parametrize(
    ("mode", "status"),
    [(0o600, "ok"), (0o400, "ok"), (0o440, "weak"), (0o620, "broken"), (0o604, "broken"), (0o644, "broken")],
)
def test_readable_secret_is_a_finding(mode: int, status: str) -> None:
    (found,) = check_secrets([PathMode("signing key", "/secret", mode, reachable=False)])
    assert (found.status, found.name) == (status, "signing key")


@pytest.mark.parametrize(
    ("mode", "reachable", "status"),
    [
        (0o700, True, "ok"),
        (0o755, True, "weak"),
        (0o711, True, "weak"),
        (0o770, True, "weak"),
        (0o2770, True, "ok"),
        (0o2775, True, "weak"),
        (0o2777, True, "broken"),
        (0o777, True, "broken"),
        (0o777, False, "ok"),
    ],
)
def test_writable_directory_is_a_finding(mode: int, reachable: bool, status: str) -> None:
    (found,) = check_directories([PathMode("sandboxes", "/sandboxes", mode, reachable)])
    assert found.status == status


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("unix:///run/redis.sock", "ok"),
        ("redis://localhost:6379/0", "ok"),
        ("redis://127.0.0.1:6379", "ok"),
        ("redis://localhost.example.org:6379", "broken"),
        ("redis://127.example.org:6379", "broken"),
        ("redis://[::1f]:6379", "broken"),
        ("redis://[::1]:6379", "ok"),
        ("redis://redis:6379/0", "broken"),
        ("rediss://redis:6379/0", "broken"),
        ("redis://:word@redis:6379/0", "weak"),
        ("rediss://:word@redis:6379/0", "ok"),
        ("redis+sentinel://127.0.0.1:1,[::1]:2/main", "ok"),
        ("redis+sentinel://127.0.0.1:1,redis/main", "broken"),
        ("redis+sentinel://redis/main?sentinel_password=word", "broken"),
        ("rediss+sentinel://:word@one,two/main/0", "weak"),
        ("redis+sentinel://:word@one,two/main?sentinel_password=word", "weak"),
        ("rediss+sentinel://:word@one,two/main?sentinel_password=word", "ok"),
    ],
)
def test_the_address_of_redis(url: str, status: str) -> None:
    assert check_redis_address(url).status == status


@pytest.mark.parametrize(
    ("info", "config", "anonymous", "expected"),
    [
        ({}, {"port": "0"}, True, ("ok", "ok", "ok", "ok")),
        ({}, {}, False, ("ok", "ok", "ok", "ok")),
        ({}, {}, True, ("weak", "ok", "ok", "ok")),
        ({}, {"bind": "0.0.0.0"}, True, ("weak", "ok", "ok", "ok")),  # protected mode refuses strangers from elsewhere
        ({}, {"bind": "0.0.0.0", "protected-mode": "no"}, True, ("broken", "ok", "ok", "ok")),
        ({}, {"bind": "127.0.0.1 10.0.0.1", "protected-mode": "no"}, True, ("broken", "ok", "ok", "ok")),
        ({}, {"bind": "* -::*", "protected-mode": "no"}, True, ("broken", "ok", "ok", "ok")),
        ({}, {"bind": "", "protected-mode": "no"}, True, ("broken", "ok", "ok", "ok")),
        ({}, {"bind": "127.0.0.1 -::1", "protected-mode": "no"}, True, ("weak", "ok", "ok", "ok")),
        ({}, {"bind": "0.0.0.0", "protected-mode": "no"}, False, ("ok", "ok", "ok", "ok")),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 1000}, {"port": "0"}, True, ("ok", "broken", "ok", "ok")),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, {"port": "0"}, True, ("ok", "weak", "weak", "ok")),
        ({"maxmemory_policy": None, "aof_enabled": None}, {"port": "0"}, True, ("ok", "weak", "ok", "weak")),
        ({"aof_enabled": 0}, {"port": "0"}, True, ("ok", "ok", "ok", "broken")),
        ({"maxmemory": 0}, {"port": "0"}, True, ("ok", "ok", "weak", "ok")),
        ({"maxmemory": None}, {"port": "0"}, True, ("ok", "ok", "weak", "ok")),
    ],
)
def test_configuration_of_redis_has_its_findings(
    info: dict[str, Any], config: dict[str, str], anonymous: bool, expected: tuple[str, ...]
) -> None:
    found = check_redis(RedisFacts(DURABLE | info, CONFIG | config, anonymous))
    assert tuple(finding.status for finding in found) == expected


def test_redis_that_hides_its_configuration() -> None:
    assert check_redis(RedisFacts(DURABLE, {}, True))[0].status == "weak"


def test_room_on_disks() -> None:
    full, free = check_disk_space([DiskSpace("blobs", "/b", 999_999_999), DiskSpace("state", "/s", 10**9)], 10**9)
    assert (full.name, full.status, free.status) == ("disk of blobs", "weak", "ok")
    assert full.remedy.startswith("free 1 MB")
    assert check_disk_space([DiskSpace("blobs", "/b", 0)], 0)[0].status == "ok"


def test_writable_socket_of_redis_is_a_finding() -> None:
    assert check_redis_socket("/redis.sock", 0o755).status == "ok"
    assert check_redis_socket("/redis.sock", 0o777).status == "broken"


def test_listener_beyond_the_loopback_is_a_finding() -> None:
    assert [check_api(host).status for host in ("127.0.0.1", "localhost", "::1")] == ["ok"] * 3
    assert [check_api(host).status for host in ("0.0.0.0", "", "::", "10.1.2.3")] == ["weak"] * 4


@pytest.mark.parametrize(
    ("first", "users", "lent", "status"),
    [
        (1_000_000, {"root": 0, "ann": 1000}, ["ann:100000:65536"], "ok"),
        (200_000, {"ann": 210_000}, [], "broken"),
        (200_000, {}, ["ann:165536:65536"], "weak"),
        (200_000, {}, ["# a comment"], "ok"),
        (2**31 - 10, {}, [], "broken"),
    ],
)
def test_range_of_uids_has_its_finding(first: int, users: dict[str, int], lent: list[str], status: str) -> None:
    assert check_uids(first, 50_000, users, lent).status == status


@pytest.mark.parametrize(
    ("labels", "status"),
    [
        ({}, "ok"),
        ({"dev.mayfly.installation": "mine", "dev.mayfly.uid": "200001"}, "ok"),
        ({"dev.mayfly.installation": "other", "dev.mayfly.uid": "250000"}, "ok"),
        ({"dev.mayfly.installation": "other", "dev.mayfly.uid": "200001"}, "broken"),
        ({"dev.mayfly.installation": "other", "dev.mayfly.uid": "none"}, "ok"),
    ],
)
def test_overlap_with_a_neighbour_is_a_finding(labels: dict[str, str], status: str) -> None:
    assert check_neighbours("mine", 200_000, 50_000, [{}, labels]).status == status


def test_each_finding_names_promise_and_remedy() -> None:
    printed = lines([*check_secrets([PathMode("signing key", "/secret", 0o644)]), check_api("127.0.0.1")])
    assert len(printed) == 2
    assert printed[0].startswith("broken  signing key: /secret, mode 644: others can read it (promise 6")
    assert "remedy: chmod 600 /secret" in printed[1]


def test_each_checkout_has_uids_of_its_own() -> None:
    def block(name: str, **settings: Any) -> tuple[int, int]:
        made = Stack(Settings(state_dir=Path("/srv") / name, **settings))
        return made.uid_first, made.uid_first + made.settings.uid_count

    blocks = sorted({block(f"checkout-{number}") for number in range(50)})
    assert len(blocks) == 50
    assert all(one[1] <= other[0] for one, other in pairwise(blocks))
    assert blocks[0][0] >= UIDS.start and blocks[-1][1] <= UIDS.stop
    assert block("checkout-1") == block("checkout-1")
    assert block("checkout-1", uid_first=300_000)[0] == 300_000
    started = Stack(Settings(state_dir=Path("/srv/checkout-1")))
    assert started.environment()["MAYFLY_UID_FIRST"] == str(started.uid_first) == str(started.as_started().uid_first)


def test_guessable_signing_key_is_a_finding(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    for bad in ("", "\n", "fifteen letters\n"):
        (tmp_path / "secret").write_text(bad)
        with pytest.raises(ValueError, match=f"secret holds {len(bad.strip())} bytes"):
            settings.secret()
    (tmp_path / "secret").write_text("16 letters, more\n")
    assert settings.secret() == b"16 letters, more"


def test_counters_are_checked_in_the_cgroups_read_later(tmp_path: Path) -> None:
    assert not facts.cgroups_visible(tmp_path / "nowhere")
    assert not facts.cgroups_visible(tmp_path)
    for version, name in (("1", "cpuacct"), ("2", "cgroup.controllers")):
        (tmp_path / version).mkdir()
        (tmp_path / version / name).mkdir() if version == "1" else (tmp_path / version / name).touch()
        assert facts.cgroups_visible(tmp_path / version)
    assert [check_counters("/cgroup", visible, True).status for visible in (True, False)] == ["ok", "broken"]


def test_cgroups_that_cannot_be_written_leave_kills_to_the_engine(tmp_path: Path) -> None:
    assert not facts.cgroups_writable(tmp_path)
    (tmp_path / "freezer").mkdir()
    (tmp_path / "freezer" / "cgroup.procs").touch()
    assert facts.cgroups_writable(tmp_path)
    found = check_counters("/cgroup", True, False)
    assert (found.status, found.promise) == ("weak", None)
    assert "signals only the first process" in found.detail


def test_unknown_runtime_is_reported_as_unknown(tmp_path: Path) -> None:
    info = {"Runtimes": {"runc": {"path": "runc"}, "mine": {"path": "/opt/wrapper"}, "gvisor": {"path": "/bin/runsc"}}}
    for standard, hardened, status in (
        ("runc", "gvisor", "ok"), ("runc", "absent", "ok"), ("mine", "gvisor", "weak"), ("runc", "mine", "weak"),
    ):  # fmt: skip
        settings = Settings(state_dir=tmp_path, standard_runtime=standard, hardened_runtime=hardened)
        assert check_runtimes(facts.strange_runtimes(settings, info)).status == status
