"""The test suites of CPython, numpy and pandas as archives of inputs.

The images are delivered without tests, and it is the delivered images that are to be tested. So the tests travel as an
input: Debian's packages are unpacked as the image builder unpacks them, at the versions the images are made of, and
only what belongs to the tests is kept.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sandbox_image import debian


@dataclass(frozen=True)
class Suite:
    """Packages, and what of their files goes into the archive; below ``prefix``, by globs (``*`` crosses slashes)."""

    packages: tuple[str, ...]
    prefix: str
    globs: tuple[str, ...]


PURE_PYTHON = ("_pytest", "attr", "hypothesis", "iniconfig", "packaging", "pluggy", "py", "pytest", "sortedcontainers")
SUITES = {
    "python": Suite(
        packages=("libpython3.11-testsuite",),
        prefix="usr/lib/python3.11/",
        globs=("test/*", "ctypes/test/*", "unittest/test/*"),
    ),
    "python-data": Suite(
        packages=("python3-hypothesis", "python3-numpy", "python3-pandas", "python3-pytest"),
        prefix="usr/lib/python3/dist-packages/",
        globs=(
            "numpy/*/tests/*",
            "numpy/conftest.py",
            "pandas/conftest.py",
            "pandas/tests/*",
            "_hypothesis_*.py",
            *(f"{name}/*" for name in PURE_PYTHON),
        ),
    ),
}


def archive(environment: str, directory: Path) -> bytes:
    """The suite for an environment as a tar.gz. Kept in ``directory`` for as long as this file stays as it is."""
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    kept = {name: directory / f"suite-{name}-{key}.tar.gz" for name in SUITES}
    if not kept[environment].exists():
        with tempfile.TemporaryDirectory(prefix="mayfly-suite-") as scratch:
            unpacked = _unpacked(Path(scratch))
            for name, suite in SUITES.items():
                partial = kept[name].with_suffix(".partial")
                partial.write_bytes(_choose(unpacked, suite))
                partial.replace(kept[name])
    return kept[environment].read_bytes()


def _unpacked(scratch: Path) -> Path:
    """The packages of all suites, and theirs, unpacked once: without what images have besides, and not compiled."""
    source, root = debian.host_source(None), scratch / "root.tar"
    scratch.chmod(0o755)  # read from a user namespace
    packages = sorted({package for suite in SUITES.values() for package in suite.packages})
    options = ["--quiet", "--variant=extract", '--aptopt=Acquire::Retries "3"', f"--include={','.join(packages)}"]
    command = ["mmdebstrap", *options, f"--architectures={source.architecture}", source.suite, str(root)]
    subprocess.run(command, check=True)
    return root


def _choose(unpacked: Path, suite: Suite) -> bytes:
    wanted = re.compile("|".join(fnmatch.translate(glob) for glob in suite.globs))
    file = io.BytesIO()
    with tarfile.open(unpacked) as source, tarfile.open(fileobj=file, mode="w:gz", compresslevel=4) as target:
        for member in source:
            name = member.name.removeprefix("./")
            path = name.removeprefix(suite.prefix)
            if path == name or "/__pycache__/" in path or not (member.isreg() or member.issym()):
                continue
            if wanted.match(path):
                member.name, member.pax_headers = path, {}  # which else would keep a long name
                target.addfile(member, source.extractfile(member) if member.isreg() else None)
    return file.getvalue()
