"""The units of deploy/systemd: systemd accepts them, and each keeps its walls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
# The exposure that systemd finds, from 0 to 10; below 2 it says "OK". Lower a bound where a unit gets better.
EXPOSURE = {
    "mayfly-api": 1.4,
    "mayfly-broker": 1.4,
    "mayfly-redis": 0.4,
    "mayfly-worker": 1.3,
    "mayfly-engine-proxy": 1.2,
}
WALLS = ("NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "SystemCallFilter=@system-service")


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI"):
            pytest.fail("there is no systemd-analyze: deploy/setup.sh --dev")
        pytest.skip("there is no systemd-analyze")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=120)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with commands of this checkout in place of an installation's."""
    for path in (ROOT / "deploy" / "systemd").iterdir():
        text = path.read_text().replace("/opt/mayfly/current/.venv/bin/python", sys.executable)
        text = text.replace("/opt/mayfly/redis.sh", str(ROOT / "deploy" / "service_image" / "redis.sh"))
        (tmp_path / path.name).write_text(text.replace("/opt/mayfly/current", str(ROOT)))
    return tmp_path


def test_systemd_accepts_every_unit(units: Path) -> None:
    named = [str(units / path.name) for path in (*UNITS, ROOT / "deploy" / "systemd" / "mayfly.target")]
    done = analyze("verify", *named)
    complaints = [line for line in done.stderr.splitlines() if str(units) in line or "mayfly" in line]
    assert (done.returncode, complaints) == (0, [])
    broken = units / "mayfly-api.service"
    broken.write_text(broken.read_text().replace("ProtectSystem=strict", "ProtectSystem=stern"))
    assert "stern" in analyze("verify", str(broken)).stderr, "the control: a mistake is found"


def values(unit: Path, name: str) -> list[str]:
    """The words of a setting, which may have several lines."""
    lines = [line.partition("=")[2] for line in unit.read_text().splitlines() if line.startswith(f"{name}=")]
    return [word for line in lines for word in line.split()]


def test_services_share_no_user_and_few_groups() -> None:
    """Processes of one user may read each other's memory, whatever else separates them."""
    users = {path.stem: values(path, "User") for path in UNITS}
    assert len({user for (user,) in users.values()}) == len(UNITS)
    groups = {path.stem: set(values(path, "SupplementaryGroups")) for path in UNITS}
    redis = {"mayfly-redis"}
    assert groups == {
        "mayfly-api": redis | {"mayfly-blobs"},
        "mayfly-broker": redis,
        "mayfly-engine-proxy": redis,
        "mayfly-redis": set(),
        "mayfly-worker": redis | {"mayfly-blobs", "mayfly-engine"},
    }


def test_each_service_sees_its_own_secrets_alone() -> None:
    homes = {path.stem: f"-/etc/mayfly/{path.stem.removeprefix('mayfly-')}" for path in UNITS}
    for path in UNITS:
        hidden = set(values(path, "InaccessiblePaths"))
        assert set(homes.values()) - hidden == {homes[path.stem]}, path.stem
        assert ("-/run/docker.sock" in hidden) == (path.stem != "mayfly-engine-proxy"), path.stem


def exposed(unit: Path) -> bool:
    threshold = round(EXPOSURE[unit.stem] * 10)
    done = analyze("security", "--offline=true", f"--threshold={threshold}", "--no-pager", str(unit))
    assert "Overall exposure level" in done.stdout, done.stderr
    return done.returncode != 0


def test_exposure_of_every_unit_is_bounded(units: Path) -> None:
    assert {path.stem for path in UNITS} == set(EXPOSURE)
    for path in UNITS:
        assert not exposed(units / path.name), path.stem
        for wall in WALLS:  # the control: without any one of them the bound is exceeded
            weaker = units / "weaker" / path.name
            weaker.parent.mkdir(exist_ok=True)
            weaker.write_text((units / path.name).read_text().replace(f"{wall}\n", ""))
            assert exposed(weaker), (path.stem, wall)
