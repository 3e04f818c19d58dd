"""The bill of materials of an image, in CycloneDX 1.5.

The listing comes from the packages themselves at build time (:data:`LISTING_SCRIPT`). A package is a component if at
least one of its files is in the image, not if it was only needed to install others.
"""

from __future__ import annotations

import fnmatch
import uuid
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, unquote

from sandbox_image.rootfs import merged

LISTING = "mayfly-packages"
# In the unpacked root ($1): for each package, its file name and digest, then every path in it.
LISTING_SCRIPT = f"""
for deb in "$1"/var/cache/apt/archives/*.deb; do
    printf '= %s %s\\n' "$(sha256sum < "$deb" | cut -d ' ' -f 1)" "${{deb##*/}}"
    dpkg-deb --fsys-tarfile "$deb" | tar --list --quoting-style=literal
done > "$1/{LISTING}"
"""


class Component(Protocol):
    """A component of the bill: a package of any kind, with the algorithm and digest of its archive."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def purl(self) -> str: ...

    @property
    def hash(self) -> tuple[str, str]: ...


@dataclass(frozen=True, order=True)
class Package:
    """A Debian package, with the digest of its archive and the paths of its files, merged as in the image."""

    name: str
    version: str
    architecture: str
    sha256: str
    paths: frozenset[str]

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:deb/debian/{quote(self.name)}@{quote(self.version, safe='~')}?arch={self.architecture}"

    @property
    def hash(self) -> tuple[str, str]:
        """The algorithm by its CycloneDX name, and the digest of its archive."""
        return "SHA-256", self.sha256


def parse_listing(text: str) -> list[Package]:
    """The packages of a listing."""
    packages = []
    for block in ("\n" + text).split("\n= ")[1:]:
        heading, *paths = block.splitlines()
        digest, file_name = heading.split(" ", 1)
        name, version, architecture = unquote(file_name).removesuffix(".deb").split("_")
        files = frozenset(merged(path) for path in paths if not path.endswith("/"))
        packages.append(Package(name, version, architecture, digest, files))
    return packages


def in_image(packages: Iterable[Package], root: Container[str]) -> list[Package]:
    """The packages with files in the root, sorted."""
    return sorted(package for package in packages if any(path in root for path in package.paths))


def files_of(packages: Sequence[Package], globs: Iterable[str]) -> set[str]:
    """The files that belong only to packages whose name matches a glob."""
    globs = list(globs)
    unwanted = [package for package in packages if any(fnmatch.fnmatchcase(package.name, glob) for glob in globs)]
    wanted = set().union(*(package.paths for package in packages if package not in unwanted))
    return set().union(*(package.paths for package in unwanted)) - wanted


def bill(name: str, version: str, image_id: str, timestamp: str, packages: Iterable[Component]) -> dict[str, Any]:
    """The CycloneDX document. Its serial number follows from the image's id."""
    components = [
        {
            "bom-ref": package.purl,
            "hashes": [dict(zip(("alg", "content"), package.hash, strict=True))],
            "name": package.name,
            "purl": package.purl,
            "type": "library",
            "version": package.version,
        }
        for package in packages
    ]
    image = {"bom-ref": image_id, "name": f"mayfly/{name}", "type": "container", "version": version}
    image_hash = {"alg": "SHA-256", "content": image_id.removeprefix("sha256:")}
    return {
        "bomFormat": "CycloneDX",
        "components": components,
        "metadata": {"component": {**image, "hashes": [image_hash]}, "timestamp": timestamp},
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, image_id)}",
        "specVersion": "1.5",
        "version": 1,
    }
