"""Programs from Debian's packages, pinned by digest, which need not be installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HELPER = "/usr/lib/apt/apt-helper"
ORIGIN = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm"]


def fetched(file: str, sha256: str, program: str, command: Path) -> bool:
    """Put a program of a package's ``file`` at ``command``; whether Debian has the package."""
    archive, unpacked = command.with_suffix(".deb"), command.with_suffix(".unpacked")
    (origin,) = subprocess.run(ORIGIN, check=True, capture_output=True, text=True).stdout.split()
    fetch = [HELPER, "-o", "APT::Sandbox::User=root", "download-file", f"{origin}{file}", str(archive)]
    done = subprocess.run([*fetch, f"SHA256:{sha256}"], capture_output=True, text=True)
    if "404" in done.stderr:
        return False
    assert done.returncode == 0, done.stderr
    subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked)], check=True)
    copied = command.with_suffix(".copied")
    shutil.copy(unpacked / program, copied)
    copied.rename(command)  # so that an interrupted copy is never taken for the command
    shutil.rmtree(unpacked)
    archive.unlink()
    return True
