"""The test suites of CPython, numpy and pandas as archives of inputs.

The images are delivered without tests, and it is the delivered images that are to be tested. So the tests travel as an
input: Debian's packages are unpacked by the image builder's own means, at the versions the images are made of, and
only what belongs to the tests is kept.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.environments import Environment
from sandbox_image import build


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
    suite = SUITES[environment]
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    kept = directory / f"suite-{environment}-{key}.tar.gz"
    if not kept.exists():
        with tempfile.TemporaryDirectory(prefix="mayfly-suite-") as scratch:
            asked = Environment(
                name="suite", version="", description="", packages=suite.packages, file_name="-", run=("-",)
            )
            unpacked = build.unpack(asked, build.host_source(None), Path(scratch))
            chosen = _choose(unpacked, suite)
        partial = kept.with_suffix(".partial")
        partial.write_bytes(chosen)
        partial.replace(kept)
    return kept.read_bytes()


def _choose(unpacked: Path, suite: Suite) -> bytes:
    file = io.BytesIO()
    with tarfile.open(unpacked) as source, tarfile.open(fileobj=file, mode="w:gz") as target:
        for member in source:
            name = member.name.removeprefix("./")
            path = name.removeprefix(suite.prefix)
            if path == name or "/__pycache__/" in path or not (member.isreg() or member.issym()):
                continue
            if any(fnmatch.fnmatchcase(path, glob) for glob in suite.globs):
                member.name, member.pax_headers = path, {}  # which else would keep a long name
                target.addfile(member, source.extractfile(member) if member.isreg() else None)
    return file.getvalue()
