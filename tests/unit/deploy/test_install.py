"""deploy/install.sh where it needs no engine and no systemd: commands of compose are recorded and not run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.settings import inherited_environment
from tests.harness import ROOT

INSTALL = ROOT / "deploy" / "install.sh"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("deploy/install.sh needs root")
    made = tmp_path / "home"
    made.mkdir()
    (made / "compose.env").write_text(f"MAYFLY_HOME={made}\n")
    return made


def uninstalled(data: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``true`` stands in for compose."""
    env = inherited_environment(DATA=data, COMPOSE="true")
    return subprocess.run([INSTALL, "uninstall"], cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("settings", ["", "MAYFLY_HOME=/var/lib/mayfly\n", None])
def test_uninstall_removes_no_directory_without_an_installation(home: Path, settings: str | None) -> None:
    if settings is None:
        (home / "compose.env").unlink()
    else:
        (home / "compose.env").write_text(settings)
    (home / "precious").touch()
    done = uninstalled(str(home), home)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Nothing was removed" in done.stderr
    assert (home / "precious").exists()


def test_uninstall_resolves_the_directory_where_it_was_typed(home: Path) -> None:
    (home.parent / "link").symlink_to(home)
    done = uninstalled("link", home.parent)
    assert done.returncode == 0, done.stderr
    assert not home.exists()
