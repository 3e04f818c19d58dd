"""The checks of external auditors, asserted for containers of the engine; docs/audit.md has the other findings."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

from tests.harness import ROOT, Stack, eventually

Inspected = dict[str, Any]
ENGINE_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")  # which lie with the uid's, not with the engine's
SENSITIVE = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sys", "/usr", "/var/run")
# By the number docker-bench-security gives it: what must hold of a container, and an inspection in which it does not.
CHECKS: dict[str, tuple[Callable[[Inspected], bool], dict[str, Any]]] = {
    "5.3 security options": (
        lambda c: {o.split("=")[0] for o in c["HostConfig"]["SecurityOpt"]} == {"no-new-privileges", "seccomp"},
        {"HostConfig.SecurityOpt": []},
    ),
    "5.4 capabilities": (
        lambda c: c["HostConfig"]["CapDrop"] == ["ALL"] and not c["HostConfig"]["CapAdd"],
        {"HostConfig.CapAdd": ["NET_RAW"]},
    ),
    "5.5 not privileged": (lambda c: not c["HostConfig"]["Privileged"], {"HostConfig.Privileged": True}),
    "5.6 no sensitive directory is mounted": (
        lambda c: all(m["Source"].rstrip("/") not in SENSITIVE and not m["RW"] for m in c["Mounts"]),
        {"Mounts": [{"Source": "/etc", "Destination": "/x", "RW": False, "Propagation": "rprivate"}]},
    ),
    "5.8 5.9 5.14 no port is open": (
        lambda c: not c["NetworkSettings"]["Ports"] and not c["HostConfig"]["PublishAllPorts"],
        {"NetworkSettings.Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}]}},
    ),
    "5.10 5.30 no network is shared": (
        lambda c: c["HostConfig"]["NetworkMode"] == "none" and set(c["NetworkSettings"]["Networks"]) <= {"none"},
        {"HostConfig.NetworkMode": "host"},
    ),
    "5.11 memory": (
        lambda c: 0 < c["HostConfig"]["Memory"] == c["HostConfig"]["MemorySwap"],
        {"HostConfig.MemorySwap": -1},
    ),
    "5.12 cores": (lambda c: c["HostConfig"]["NanoCpus"] > 0, {"HostConfig.NanoCpus": 0}),
    "5.13 read-only root": (lambda c: c["HostConfig"]["ReadonlyRootfs"], {"HostConfig.ReadonlyRootfs": False}),
    "5.15 no restart": (
        lambda c: c["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0},
        {"HostConfig.RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
    ),
    "5.16 5.17 5.21 5.31 namespaces of its own": (
        lambda c: (
            not any(c["HostConfig"][f"{kind}Mode"] for kind in ("Pid", "UTS", "Userns"))
            and c["HostConfig"]["IpcMode"] == c["HostConfig"]["CgroupnsMode"] == "private"
        ),
        {"HostConfig.PidMode": "host"},
    ),
    "5.18 no devices": (
        lambda c: not any(c["HostConfig"][kind] for kind in ("Devices", "DeviceRequests", "DeviceCgroupRules")),
        {"HostConfig.DeviceCgroupRules": ["c 1:11 rmw"]},
    ),
    "5.19 resource limits": (
        lambda c: {one["Name"]: one["Hard"] for one in c["HostConfig"]["Ulimits"]}.get("core") == 1,
        {"HostConfig.Ulimits": []},
    ),
    "5.20 mounts do not propagate": (
        lambda c: all(m["Propagation"] == "rprivate" for m in c["Mounts"]),
        {"Mounts": [{"Source": "/x", "Destination": "/x", "RW": False, "Propagation": "rshared"}]},
    ),
    "5.22 seccomp": (
        lambda c: any(o.startswith("seccomp={") for o in c["HostConfig"]["SecurityOpt"]),
        {"HostConfig.SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]},
    ),
    "5.25 the engine's cgroup": (lambda c: not c["HostConfig"]["CgroupParent"], {"HostConfig.CgroupParent": "/x"}),
    "5.26 no new privileges": (
        lambda c: "no-new-privileges" in c["HostConfig"]["SecurityOpt"],
        {"HostConfig.SecurityOpt": ["seccomp={}"]},
    ),
    "5.27 no health check, which would execute something in it": (
        lambda c: not c["Config"].get("Healthcheck"),
        {"Config.Healthcheck": {"Test": ["CMD", "true"]}},
    ),
    "5.28 the image by its digest": (
        lambda c: c["Config"]["Image"] == c["Image"] and c["Image"].startswith("sha256:"),
        {"Config.Image": "python:latest"},
    ),
    "5.29 processes": (lambda c: 0 < (c["HostConfig"]["PidsLimit"] or 0) <= 1024, {"HostConfig.PidsLimit": None}),
    "5.32 the engine's socket": (
        lambda c: not any("docker" in m["Source"].rpartition("/")[2] for m in c["Mounts"]),
        {"Mounts": [{"Source": "/run/docker.sock", "Destination": "/s", "RW": False, "Propagation": "rprivate"}]},
    ),
    "the mounts there are": (
        lambda c: {m["Destination"] for m in c["Mounts"]} == {"/inputs", "/run/identity", *ENGINE_FILES},
        {"Mounts": []},
    ),
    "4.1 a user of its own": (
        lambda c: int(c["Config"]["User"].split(":")[0]) >= 100_000 and not c["HostConfig"]["GroupAdd"],
        {"Config.User": "0:0"},
    ),
}

LOOK_FOR_A_WAY_OUT = r"""
for path in /run/docker.sock /var/run/docker.sock /run/containerd /run/secrets /etc/shadow /etc/sudoers /home /root \
    /host /mnt/* /var/lib/kubelet /etc/kubernetes "$1"; do
  if [ -e "$path" ]; then echo "path $path"; fi
done
for tool in docker lxc rkt kubectl podman crictl nerdctl sudo su mount nsenter unshare curl wget nc ssh gcc "$2"; do
  if command -v "$tool" > /dev/null; then echo "tool $tool"; fi
done
env | sed -nE 's/^([^=]*(PASS|SECRET|KEY|TOKEN|MAYFLY|REDIS)[^=]*)=.*/variable \1/Ip'
if [ "$(id -u)" = 0 ] || [ "$(id -G)" != "$(id -u)" ]; then echo "ids $(id)"; fi
grep '^Cap' /proc/self/status | grep -v '0000000000000000$'
grep docker.sock /proc/self/mountinfo
# A mount of a disk that can be written to; every other one is the kernel's or in memory.
awk '$3 ~ /^(ext|xfs|btrfs|zfs|nfs|9p|overlay|fuse)/ && $4 !~ /^ro/ { print "writable " $2 }' /proc/self/mounts
find / -xdev -perm /6000 -printf 'setuid %p\n'
find / -xdev -writable ! -type l ! -fstype tmpfs -printf 'writable %p\n'
true
"""
PATIENT = {"wall_seconds": 60, "cpu_seconds": 60}


@pytest.fixture(scope="module")
def ask(engine: None) -> Iterator[Callable[..., Any]]:
    """Calls the engine."""
    client = docker.APIClient()
    yield lambda what, *args, **named: getattr(client, what)(*args, **named)
    client.close()


@pytest.fixture(scope="module")
def waiting(stack: Stack, ask: Callable[..., Any]) -> Inspected:
    """A warm container of the ``standard`` tier, as the engine describes it."""

    def running() -> Inspected | None:
        for name in stack.containers():
            try:
                made: Inspected = ask("inspect_container", name)
            except docker.errors.NotFound:  # it went between the two looks
                continue
            if made["State"]["Running"] and made["HostConfig"]["Runtime"] != "runsc":
                return made
        return None

    return eventually(running, "a container is warm", 60) or {}


@pytest.mark.parametrize("name", CHECKS)
def test_a_warm_container_passes(waiting: Inspected, name: str) -> None:
    holds, weakened = CHECKS[name]
    assert holds(waiting)
    weak = copy.deepcopy(waiting)
    for path, value in weakened.items():
        *parents, last = path.split(".")
        place = weak
        for parent in parents:
            place = place[parent]
        place[last] = value
    assert not holds(weak)  # the control


def test_apparmor_is_applied_where_available(waiting: Inspected, ask: Callable[..., Any]) -> None:  # 5.2
    available = any(option.startswith("name=apparmor") for option in ask("info")["SecurityOptions"])
    assert waiting["AppArmorProfile"] == ("docker-default" if available else "")


def test_engine_neither_execs_nor_copies_in_containers(stack: Stack, ask: Callable[..., Any]) -> None:
    """5.23, 5.24: no `exec` of any user, and no archive calls, which would follow a program's links."""
    began = int(time.time())
    ended = stack.run(code="open('/output/x', 'w').write('x')", files=[{"path": "in.txt", "content": "x"}])
    assert [one["path"] for one in ended["artifacts"]] == ["x"]
    label = {"label": f"dev.mayfly.installation={stack.installation}"}

    def seen() -> set[str]:
        events = ask("events", since=began, until=int(time.time()) + 1, filters=label, decode=True)
        return {event["Action"].split(":")[0] for event in events}

    eventually(lambda: "destroy" in seen(), "the engine reports the container's end")  # and would of the rest
    assert not seen() & {"exec_create", "exec_start", "archive-path", "extract-to-dir", "export", "commit", "copy"}


def test_escape_scanner_finds_no_starting_point(stack: Stack) -> None:
    """The findings of deepce, each with a control: a finding that deepce does report."""
    ended = stack.run(
        "bash", code=LOOK_FOR_A_WAY_OUT, args=["/usr/bin/bash", "bash"], env={"A_SECRET": "x"}, limits=PATIENT
    )
    assert (ended["state"], ended["stderr"]) == ("succeeded", ""), ended
    assert ended["stdout"].splitlines() == ["path /usr/bin/bash", "tool bash", "variable A_SECRET"]


def test_every_check_is_answered() -> None:
    answered = (ROOT / "docs" / "audit.md").read_text()
    for number in range(1, 33):
        assert re.search(rf"\b5\.{number}\b(?!\.)", answered), f"5.{number}"
