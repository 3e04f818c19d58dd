"""``deploy/setup.sh`` installs exactly the lock, independent of newer releases: its own lines, another index."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pip
import pytest

from orchestrator.settings import inherited_environment
from tests.harness import ROOT

SETUP = (ROOT / "deploy" / "setup.sh").read_text()
[INSTALL] = re.findall(r'^\.venv/bin/python -m pip install .*-r "\$lock"$', SETUP, re.MULTILINE)
[CHECK] = re.findall(r"^\.venv/bin/python -m pip check\b.*$", SETUP, re.MULTILINE)
LOCKS = re.findall(r"\block=(\S+\.lock)", SETUP)


def wheel(index: Path, name: str, version: str, *about: str) -> str:
    """Put a release of a package without any module on the index; its line in a lock."""
    metadata = "\n".join(("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *about, ""))
    made = index / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(made.read_bytes()).hexdigest()}\n"


@pytest.fixture
def locked(tmp_path: Path) -> dict[str, str]:
    """An index with two releases of everything, and the older ones' lines in a lock, as ``uv pip compile`` writes them.

    ``measured`` asks for ``measure[colour]``, whose release is locked without naming its extra.
    """
    index = tmp_path / "index"
    index.mkdir()
    lines: dict[str, str] = {}
    for version in ("1.0", "2.0"):
        asked = ("Provides-Extra: colour", 'Requires-Dist: paint>=1; extra == "colour"')
        made = {
            "measure": wheel(index, "measure", version, *asked),
            "measured": wheel(index, "measured", version, "Requires-Dist: measure[colour]>=1"),
            "paint": wheel(index, "paint", version),
        }
        lines = lines or made
    return lines


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that has pip, and gets no package."""
    place = tmp_path_factory.mktemp("venv") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    [packages] = place.glob("lib/python*/site-packages")
    for part in Path(pip.__file__).parents[1].glob("pip*"):  # a copy takes a tenth of the time that ensurepip takes
        shutil.copytree(part, packages / part.name)
    return place


def set_up(directory: Path, python: Path, lock: str, install: str = INSTALL) -> tuple[int, dict[str, str], str]:
    """Install a lock file as setup.sh does: the exit code, the installed packages by name, and the output."""
    (directory / ".venv").symlink_to(python)
    script = f'set -euo pipefail\nlock="{lock}"\n{install}\n{CHECK}\n'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        env={
            **inherited_environment(),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(directory / "index"),
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    rows = (path.name.removesuffix(".dist-info").split("-") for path in python.glob("lib/*/site-packages/*.dist-info"))
    installed = {name: version for name, version in rows if name not in ("pip", "setuptools")}
    if installed:
        subprocess.run([python / "bin" / "python", "-m", "pip", "uninstall", "-qq", "-y", *installed], check=True)
    return done.returncode, installed, done.stdout + done.stderr


@pytest.mark.parametrize("lock", LOCKS)
def test_newer_releases_do_not_change_the_lock(lock: str, locked: dict[str, str], python: Path, tmp_path: Path) -> None:
    (tmp_path / lock).write_text("".join(locked.values()))
    code, installed, printed = set_up(tmp_path, python, lock)
    assert (code, installed) == (0, dict.fromkeys(locked, "1.0")), printed


def test_resolving_would_refuse_the_lock_for_its_extra(locked: dict[str, str], python: Path, tmp_path: Path) -> None:
    """The control: the failure of setup.sh before it had the option."""
    (tmp_path / "requirements.lock").write_text("".join(locked.values()))
    assert "--no-deps" in INSTALL
    code, installed, printed = set_up(tmp_path, python, "requirements.lock", INSTALL.replace(" --no-deps", ""))
    assert (code != 0, installed) == (True, {})
    assert "measure[colour]" in printed


@pytest.mark.parametrize(
    ("pattern", "digest"), [("sha256:..", "sha256:00"), (r" --hash=\S+", "")], ids=["other", "none"]
)
def test_file_with_another_digest_than_locked_is_refused(
    locked: dict[str, str], python: Path, tmp_path: Path, pattern: str, digest: str
) -> None:
    (tmp_path / "requirements.lock").write_text(re.sub(pattern, digest, "".join(locked.values())))
    code, installed, printed = set_up(tmp_path, python, "requirements.lock")
    assert (code != 0, installed) == (True, {})
    assert "HASHES" in printed.upper()


def test_incomplete_lock_fails_the_check(locked: dict[str, str], python: Path, tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text(locked["measured"])
    code, _, printed = set_up(tmp_path, python, "requirements.lock")
    assert code != 0
    assert "measure" in printed


def test_both_locks_are_tested() -> None:
    assert sorted(LOCKS) == ["requirements-dev.lock", "requirements.lock"]
