"""Root directories of other releases of Debian, from this host's mirror of packages; one is described as an Ubuntu."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from deploy.service_image.suites import host_suites
from tests.harness import ROOT

# The requirements of deploy/install.sh, which names them where they are missing.
PACKAGES = (
    "systemd", "python3", "python3-venv", "redis-server", "dash", "mmdebstrap", "tcc", "binutils", "npm", "procps",
    "ca-certificates", "openssl", "gpg",
)  # fmt: skip
# How this host reaches the registries of Python and npm packages.
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs", "/etc/pip.conf", "/root/.config/pip", "/root/.npmrc")
KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"
KEYRING_OF_PACKAGE = "usr/share/debian-archive-keyring.of-package"  # in a dressed root, in place of the package's file
# Files by which programs tell an Ubuntu 24.04 from a Debian; its archive has no real address.
NOBLE = {
    "usr/lib/os-release": (
        'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nNAME="Ubuntu"\nVERSION_ID="24.04"\nVERSION="24.04.3 LTS (Noble Numbat)"\n'
        "VERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=noble\n"
    ),
    "etc/lsb-release": "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=24.04\nDISTRIB_CODENAME=noble\n",
    "etc/debian_version": "trixie/sid\n",
    "etc/dpkg/origins/ubuntu": "Vendor: Ubuntu\nVendor-URL: http://www.ubuntu.com/\nParent: Debian\n",
    "etc/apt/sources.list.d/ubuntu.sources": (
        "Types: deb\nURIs: http://archive.invalid/ubuntu/\nSuites: noble noble-updates\nComponents: main universe\n"
        "Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n"
    ),
}


def dress_as_ubuntu(root: Path) -> None:
    """Give a Debian's root directory the descriptions and package sources of an Ubuntu 24.04, and no keys of Debian.

    Packages and their versions stay Debian's. ``KEYRING_OF_PACKAGE`` is the file that Debian's keys come in.
    """
    (root / KEYRING_OF_PACKAGE).write_bytes((root / KEYRING).read_bytes())
    trusted = [*(root / "etc/apt/trusted.gpg.d").iterdir(), *(root / KEYRING).parent.glob("debian-*")]
    sources = [root / "etc/apt/sources.list", *(root / "etc/apt/sources.list.d").iterdir()]
    for path in (*trusted, *sources):
        path.unlink(missing_ok=True)
    for name, text in NOBLE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    vendor = root / "etc/dpkg/origins/default"
    vendor.unlink()
    vendor.symlink_to("ubuntu")


def make_root(suite: str, at: Path) -> Path:
    """Make the root directory of a release."""
    mirrors = sorted({uri for uri, found in host_suites() if "-" not in found})
    sources = [f"deb {uri} {suite} main" for uri in mirrors]
    command = ["mmdebstrap", "--variant=apt", f"--include={','.join(PACKAGES)}", suite, str(at), *sources]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=1200)
    return at


def paths() -> list[Path]:
    """The paths of this host that an installation there needs."""
    links = os.environ.get("PIP_FIND_LINKS", "")
    return [Path(one) for one in (str(ROOT), *NETWORK, links) if one and Path(one).exists()]
