"""Three versions of compose read and run the same file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders.processes.composes import V2, VERSIONS, compose_of
from tests.builders.processes.deployment import CLEAN, SERVICES, Deployment
from tests.harness import ROOT, eventually

MONITORING = {"prometheus", "alertmanager", "redis-exporter", "host-exporter"}
HARDENED = ("image", "user", "read_only", "cap_drop", "security_opt", "logging")
PROGRAM = "print(6 * 7)"
ORDER = {
    "redis": [], "api": ["redis"], "engine-proxy": ["redis"], "broker": ["redis"], "proxy": ["api"],
    "worker": ["engine-proxy", "redis"],
}  # fmt: skip
HEALTHY = {(name, "service_healthy") for name in ("redis", "api", "engine-proxy")}


def printed(
    version: str,
    settings: Path,
    *words: str,
    first: str = "compose.yaml",
    files: tuple[str, ...] = (),
    profile: str = "",
) -> str:
    """The output of that version's command ``config``."""
    named = [part for file in (first, *files) for part in ("-f", f"deploy/{file}")]
    named += ["--profile", profile] if profile else []
    command = [compose_of(version), "-p", "test", "--env-file", str(settings), *named, "config", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=CLEAN)
    assert done.returncode == 0, done.stderr
    return done.stdout


def configuration(version: str, settings: Path, *files: str, profile: str = "") -> dict[str, Any]:
    """The services as that version understands them; docker-compose 1.29 prints those of all profiles."""
    found: dict[str, Any] = yaml.safe_load(printed(version, settings, files=files, profile=profile))["services"]
    return found if profile else {name: one for name, one in found.items() if not one.get("profiles")}


def check_walls(name: str, service: dict[str, Any]) -> None:
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
    assert "no-new-privileges:true" in service["security_opt"], name
    assert service["user"].split(":")[0].startswith("1000"), name
    assert service["restart"] == "unless-stopped", name
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
    assert service["mem_limit"], name
    assert service["pids_limit"] > 0, name
    assert service["healthcheck"]["test"], name
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & service.keys(), name


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Those of ``deploy/prepare.sh``, without images and secrets."""
    lines = (ROOT / "deploy" / "compose.env.example").read_text().splitlines()
    shutil.copy(ROOT / "deploy" / "broker-seccomp.json", tmp_path)
    written = tmp_path / "compose.env"
    written.write_text("".join(f"{line}{tmp_path}\n" if line.endswith("=") else f"{line}\n" for line in lines))
    return written


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_gives_each_service_the_same_walls(version: str, settings: Path) -> None:
    for files in ((), ("compose.sandboxes.yaml",), ("compose.backup.yaml",)):
        found = configuration(version, settings, *files)
        if backup := found.pop("backup", None):
            assert {name: backup[name] for name in HARDENED} == {name: found["api"][name] for name in HARDENED}
            assert (set(backup["networks"]), backup["restart"]) == ({"back"}, "no")
            assert ("healthcheck" not in backup, backup["dns"]) == (True, ["127.0.0.1"])
        assert (backup is not None) == (files == ("compose.backup.yaml",))
        assert sorted(found) == sorted(SERVICES)
        assert {name for name in found if "out" in found[name]["networks"]} == {"api", "broker"}
        for name, service in found.items():
            check_walls(name, service)
        waits = {name: found[name].get("depends_on", {}) for name in found}
        assert {(on, how["condition"]) for one in waits.values() for on, how in one.items()} == HEALTHY
        assert {name: sorted(on) for name, on in waits.items()} == ORDER
        assert {name for name in found if found[name].get("dns") != ["127.0.0.1"]} == {"api", "broker", "proxy"}
        assert found["api"]["scale"] == 2
        assert {name for name in found if found[name].get("ports")} == {"proxy"}


@pytest.mark.parametrize("version", VERSIONS)
def test_backup_of_a_stack_joins_its_network_and_blobs(version: str, settings: Path) -> None:
    text = printed(version, settings, first="compose.backup.yaml", files=("swarm/backup.yaml",))
    found = yaml.safe_load(text)
    stack = yaml.safe_load((ROOT / "deploy" / "swarm" / "stack.yaml").read_text())
    assert found["services"].keys() == {"backup"}
    network, volume = found["networks"]["back"], found["volumes"]["blobs"]
    assert (network["external"], network["name"]) == (True, stack["networks"]["back"]["name"])
    assert (volume["external"], volume["name"]) == (True, "mayfly_blobs")
    assert found["secrets"].keys() == {"redis-backup", "signing-key", "admin-key"}


@pytest.mark.parametrize("version", VERSIONS)
def test_profile_adds_monitoring_behind_the_same_walls(version: str, settings: Path) -> None:
    found = configuration(version, settings, profile="metrics")
    assert found.keys() == {*SERVICES, *MONITORING}
    for name in MONITORING:
        check_walls(name, found[name])
    assert {name for name in MONITORING if found[name].get("ports")} == {"prometheus"}
    assert {name for name in MONITORING if "out" in found[name]["networks"]} == set()
    assert {name for name in found if "receivers" in found[name]["networks"]} == {"alertmanager"}
    assert set(found["alertmanager"]["networks"]) == {"alerts", "receivers"}
    assert {name for name in MONITORING if found[name].get("dns")} == {"redis-exporter", "host-exporter"}
    assert {name for name in found if "alerts" in found[name]["networks"]} == {"alertmanager", "prometheus"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_closes_the_networks(version: str, settings: Path) -> None:
    """But for ``out``; where ports are published, no answer from outside finds its way in."""
    found = yaml.safe_load(printed(version, settings, profile="metrics"))["networks"]
    leading = {name for name, network in found.items() if not (network or {}).get("internal")}
    assert leading == {"front", "out", "receivers"}
    assert found["front"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}


@pytest.mark.parametrize("version", VERSIONS)
def test_port_of_redis_is_published_for_worker_hosts_alone(version: str, settings: Path) -> None:
    settings.write_text(f"{settings.read_text()}MAYFLY_PUBLISH_REDIS=10.0.0.1:6380\n")
    found = configuration(version, settings, "compose.hosts.yaml")
    assert {name for name in found if found[name].get("ports")} == {"proxy", "redis"}
    redis = found["redis"]
    check_walls("redis", redis)
    assert set(redis["networks"]) == {"back", "front"}
    (port,) = redis["ports"]
    expected = {"host_ip": "10.0.0.1", "published": "6380", "target": 6379}
    shown = port if isinstance(port, dict) else dict(zip(expected, (*port.split("/")[0].split(":"),), strict=True))
    assert {name: str(shown[name]) for name in expected} == {name: str(value) for name, value in expected.items()}


@pytest.mark.parametrize("version", V2)
def test_other_users_recreate_redis(version: str, settings: Path) -> None:
    """Compose makes a container anew whose hash has changed; docker-compose 1.29 hashes labels, too."""
    before = printed(version, settings, "--hash", "redis")
    assert printed(version, settings, "--hash", "redis") == before
    lines = settings.read_text().splitlines()
    settings.write_text("".join(f"{line}1\n" if "REDIS_USERS=" in line else f"{line}\n" for line in lines))
    assert printed(version, settings, "--hash", "redis") != before


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", ["2.26.1", pytest.param("2.40.3", marks=pytest.mark.complete)])
def test_second_version_starts_runs_and_ends_everything(
    version: str, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if os.getuid() != 0:
        pytest.skip("deploy/prepare.sh needs root")
    made = Deployment(tmp_path_factory.mktemp("compose"), images, version)
    made.prepare()
    made.configure()
    try:
        made("up", "-d", "--wait")
        eventually(lambda: made.healthy(workers=1), "every service is healthy", 240)
        with made.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 200, "a worker takes executions", 120)
            body = {"environment": "python", "code": PROGRAM}
            ended = client.post("/api/v1/executions", json=body, headers={"Prefer": "wait=60"}).json()
            assert (ended["state"], ended["stdout"]) == ("succeeded", "42\n"), ended
    except BaseException:
        print(made.logs())
        raise
    finally:
        made("down", "-v")
    assert made.left() == []
