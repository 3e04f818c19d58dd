"""Lines of ``deploy/setup.sh``: those that compile the product's modules, and those about the keys of Debian."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.settings import inherited_environment
from tests.harness import ROOT

SETUP = (ROOT / "deploy" / "setup.sh").read_text()
[COMPILE] = re.findall(r"^compile_modules\(\) \{.*\}$", SETUP, re.MULTILINE)


@pytest.mark.parametrize("command", [COMPILE, "compile_modules() { .venv/bin/python -c 'import orchestrator'; }"])
def test_modules_are_compiled_where_python_writes_no_bytecode(command: str, tmp_path: Path) -> None:
    """The second command is the control."""
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    for package in ("orchestrator", "worker"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("x = 1\n")
    subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{command}\ncompile_modules"],
        cwd=tmp_path,
        env=inherited_environment(PYTHONDONTWRITEBYTECODE="1"),
        check=True,
    )
    compiled = {path.parent.parent.name for path in tmp_path.glob("*/__pycache__/__init__.*.pyc")}
    assert compiled == ({"orchestrator", "worker"} if command == COMPILE else set())


def test_both_ends_of_the_script_compile() -> None:
    calls = re.findall(r"\bcompile_modules(?!\()", SETUP)
    ends = re.findall(r"\bexit 0\b", SETUP.partition("compile_modules()")[2])
    assert len(calls) == len(ends) + 1


@pytest.mark.parametrize(
    ("system", "there", "expected"),
    [
        ("ubuntu", ("apt-get",), "debian-archive-keyring gpg"),
        ("ubuntu", ("apt-get", "gpg", "keys"), ""),
        ("debian", ("apt-get", "keys"), ""),
        ("fedora", (), "gpg"),
    ],
)
def test_setup_needs_the_keys_of_debian_on_another_system(
    system: str, there: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    lines = re.findall(r"^if (?:.*debian-archive-keyring|.*has gpg).*$", SETUP, re.MULTILINE)
    script = "\n".join(["needed=()", 'has() { [ -e "$1" ]; }', *lines, 'echo "${needed[*]}"'])
    for path, own in (("/usr/share/keyrings/debian-archive-keyring.gpg", "keys"), ("/etc/os-release", "release")):
        assert path in script
        script = script.replace(path, own)
    (tmp_path / "release").write_text(f"ID={system}\nID_LIKE=debian\n")
    for name in there:
        (tmp_path / name).touch()
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{expected}\n"
