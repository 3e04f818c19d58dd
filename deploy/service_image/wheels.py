"""The locked Python packages, fetched on the host for the interpreter of the image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement  # the lock has it for hatchling, and ``limits`` needs it

# The lock file has them for the checkout's editable installation.
BUILD_ONLY = frozenset({"hatchling", "editables", "pathspec", "pluggy", "trove-classifiers"})
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")


class WheelsError(Exception):
    """The locked packages could not be fetched."""


def selected(lock: str, python: str, machine: str) -> str:
    """The entries of a lock file that Python ``python`` (``X.Y.Z``) needs on Linux, without their markers.

    pip would judge the markers by the interpreter that runs it, not by the one the packages are for.
    """
    target = {
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "implementation_name": "cpython",
        "implementation_version": python,
        "platform_python_implementation": "CPython",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "extra": "",
    }
    kept = []
    for line in lock.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        written, *hashes = line.split(" --hash=")
        requirement = Requirement(written.strip())
        if requirement.name in BUILD_ONLY or (requirement.marker and not requirement.marker.evaluate(target)):
            continue
        requirement.marker = None
        kept.append(" --hash=".join([str(requirement), *(one.strip() for one in hashes)]))
    return "\n".join(kept) + "\n"


def install(lock: Path, python: str, machine: str, target: Path, scratch: Path) -> None:
    """Unpack the wheels into ``target``. Only wheels, so nothing of them runs; raises :class:`WheelsError`.

    pip's own configuration holds: an index, ``PIP_CERT`` for a network that inspects TLS.
    """
    requirements = scratch / "requirements.txt"
    requirements.write_text(selected(lock.read_text(encoding="utf-8"), python, machine), encoding="utf-8")
    major, minor = python.split(".")[:2]
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--require-hashes", "--no-deps", "--no-compile", "--only-binary=:all:", "--implementation=cp"),
        *(f"--python-version={major}.{minor}", f"--abi=cp{major}{minor}", "--abi=abi3", "--abi=none"),
        *(f"--platform={platform}_{machine}" for platform in PLATFORMS),
        *("--target", str(target), "--requirement", str(requirements)),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise WheelsError(f"pip failed:\n{done.stderr.strip()[-4000:]}")


def components(root: Path) -> list[dict[str, str]]:
    """The Python packages below ``root``, as a CycloneDX document lists them."""
    named = (path.name.removesuffix(".dist-info").rsplit("-", 1) for path in sorted(root.rglob("*.dist-info")))
    found = ((name.replace("_", "-").lower(), version) for name, version in named)
    return [
        {"bom-ref": purl, "name": name, "purl": purl, "type": "library", "version": version}
        for name, version in found
        for purl in [f"pkg:pypi/{name}@{version}"]
    ]
