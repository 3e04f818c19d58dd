"""The locked Python packages, fetched on the host for the interpreter of the image."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement  # the lock has it for hatchling, and ``limits`` needs it

# The lock file has them for the checkout's editable installation.
BUILD_ONLY = frozenset({"hatchling", "editables", "pathspec", "pluggy", "trove-classifiers"})
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")


class WheelsError(Exception):
    """The locked packages could not be fetched."""


def selected(lock: str, python: str, machine: str) -> str:
    """The entries of a lock file that Python ``python`` (``X.Y.Z``) needs on Linux, without their markers.

    pip would judge the markers by the interpreter that runs pip, not by the packages' interpreter.
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
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        written, *hashes = line.split(" --hash=")
        requirement = Requirement(written.strip())
        if requirement.name in BUILD_ONLY or (requirement.marker and not requirement.marker.evaluate(target)):
            continue
        requirement.marker = None
        kept.append(" --hash=".join([str(requirement), *(one.strip() for one in hashes)]))
    return "\n".join(kept) + "\n"


@dataclass(frozen=True, order=True)
class Wheel:
    """A wheel that was unpacked, with the digest of its archive."""

    name: str
    version: str
    sha256: str

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"

    @property
    def hash(self) -> tuple[str, str]:
        """The algorithm by its CycloneDX name, and the digest of its archive."""
        return "SHA-256", self.sha256


def install(lock: Path, python: str, machine: str, target: Path, scratch: Path) -> list[Wheel]:
    """Unpack the wheels into ``target``, and list them, sorted.

    Only wheels are accepted, so no code of theirs runs. Raises :class:`WheelsError`.

    pip's own configuration holds: an index, ``PIP_CERT`` for a network that inspects TLS.
    """
    requirements, report = scratch / "requirements.txt", scratch / "installed.json"
    requirements.write_text(selected(lock.read_text(encoding="utf-8"), python, machine), encoding="utf-8")
    major, minor = python.split(".")[:2]
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--require-hashes", "--no-deps", "--no-compile", "--only-binary=:all:", "--implementation=cp"),
        "--ignore-requires-python",  # pip looks at this Python's version; the lock names versions for that of the image
        *(f"--python-version={major}.{minor}", f"--abi=cp{major}{minor}", "--abi=abi3", "--abi=none"),
        *(f"--platform={platform}_{machine}" for platform in PLATFORMS),
        *("--target", str(target), "--requirement", str(requirements), "--report", str(report)),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise WheelsError(f"pip failed:\n{done.stderr.strip()[-4000:]}")
    return sorted(
        Wheel(
            one["metadata"]["name"].replace("_", "-").lower(),
            one["metadata"]["version"],
            _digest(one["download_info"]),
        )
        for one in json.loads(report.read_text(encoding="utf-8"))["install"]
    )


def remove_scripts(target: Path) -> None:
    """Remove the scripts that pip has written, and their entries in RECORD files, since both have this host's paths."""
    shutil.rmtree(target / "bin", ignore_errors=True)
    for record in target.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith("../../bin/")), encoding="utf-8")


def _digest(download: dict[str, Any]) -> str:
    """The SHA-256 of an archive that pip has verified. For files on this host pip reports no digest."""
    if found := download["archive_info"].get("hashes", {}).get("sha256"):
        return str(found)
    return hashlib.sha256(Path(unquote(urlsplit(download["url"]).path)).read_bytes()).hexdigest()


def components(root: Path) -> list[dict[str, str]]:
    """The Python packages below ``root``, as a CycloneDX document lists them."""
    named = (path.name.removesuffix(".dist-info").rsplit("-", 1) for path in sorted(root.rglob("*.dist-info")))
    found = ((name.replace("_", "-").lower(), version) for name, version in named)
    return [
        {"bom-ref": purl, "name": name, "purl": purl, "type": "library", "version": version}
        for name, version in found
        for purl in [f"pkg:pypi/{name}@{version}"]
    ]
