"""Root directories of other releases of Debian, from the mirror of this host's packages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from deploy.service_image.suites import host_suites
from tests.harness import ROOT

# The requirements of deploy/install.sh, which names them where they are missing.
PACKAGES = (
    "systemd", "python3", "python3-venv", "redis-server", "dash", "mmdebstrap", "tcc", "binutils", "npm", "procps",
    "ca-certificates", "openssl",
)  # fmt: skip
# How this host reaches the registries of Python and npm packages.
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs", "/etc/pip.conf", "/root/.config/pip", "/root/.npmrc")


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
