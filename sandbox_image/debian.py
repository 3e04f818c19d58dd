"""Packages of Debian: unpacked by mmdebstrap into one root, with the sandbox's agent, compiled and listed.

Hooks in the root run the environment's ``prepare``, compile Python's byte code and list the packages.
"""

# ruff: noqa: TID251 - a build has no settings of Mayfly's; it takes a standard variable as a default
from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from orchestrator.environments import Environment
from sandbox_image import rootfs, sbom

HERE = Path(__file__).resolve().parent
# Several folders in the source, one directory in the image: each further directory costs the agent's start a search.
AGENT = sorted((HERE / "agent").glob("*/*.[pj][ys]"), key=lambda path: path.name)
AGENT_PACKAGES = ("libc-bin", "python3-minimal", "libpython3-stdlib")  # libc-bin: the C.UTF-8 locale
# Programs in every language start commands by `sh`, and look up time zones by name. A shell weakens no wall: the
# program can make every system call of a shell itself.
TOOL_PACKAGES = (
    *("bash", "bzip2", "coreutils", "dash", "debianutils", "diffutils", "findutils", "grep", "gzip", "hostname"),
    *("mawk", "procps", "sed", "tar", "tzdata", "unzip", "xz-utils", "zip"),
)
DEFAULT_SUITE = "bookworm"
DEFAULT_MTIME = 1735689600  # 2025-01-01: any constant
ARCHITECTURES = {"x86_64": ("amd64", "x86_64-linux-gnu"), "aarch64": ("arm64", "aarch64-linux-gnu")}
PACKAGE_PREFIX = "package:"
PREPARE_FILE = "usr/lib/mayfly/prepare.sh"
PREPARE_SCRIPT = f"""
set -e
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 \\
    chroot "$1" /bin/dash -e /{PREPARE_FILE}
rm "$1/{PREPARE_FILE}"
"""
# Unchecked byte code, since nothing in an image changes after its build; the hash seed makes the order of sets
# repeatable. Python ignores cached byte code of a script on its command line, so the agent starts from a copy of it.
# Programs find their package `mayfly` beside the standard library.
COMPILE_SCRIPT = """
set -e
for library in "$1"/usr/lib/python3.[0-9]*; do
    mkdir "$library"/mayfly
    cp "$1"/usr/lib/mayfly/bundles.py "$library"/mayfly/__init__.py
    cp "$1"/usr/lib/mayfly/tools.py "$1"/usr/lib/mayfly/tool_calls.py "$library"/mayfly
done
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 PYTHONHASHSEED=0 chroot "$1" /usr/bin/python3 -B \\
    -m compileall -q -f -r 100 --invalidation-mode unchecked-hash -x '/(tests?|lib2to3|idlelib)/' /usr/lib \\
    > /dev/null || true
cp "$1"/usr/lib/mayfly/__pycache__/agent.*.pyc "$1"/usr/lib/mayfly/agent.pyc
"""


PYTHON = re.compile(r"usr/bin/python(3\.\d+)")


class BuildError(Exception):
    """An image could not be built."""


class Source(NamedTuple):
    """The source of packages, and the fixed parameters of a build."""

    suite: str
    mirror: str | None
    architecture: str
    multiarch: str
    mtime: int


def host_source(mirror: str | None) -> Source:
    """The host's own Debian suite, or the default one on another system."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    suite = release.get("VERSION_CODENAME") if release.get("ID") == "debian" else None
    try:
        architecture, multiarch = ARCHITECTURES[platform.machine()]
    except KeyError as error:
        raise BuildError(f"no images for {platform.machine()}; supported: {', '.join(ARCHITECTURES)}") from error
    mtime = int(os.environ.get("SOURCE_DATE_EPOCH", DEFAULT_MTIME))
    return Source(suite or DEFAULT_SUITE, mirror, architecture, multiarch, mtime)


def copy_agent(directory: Path) -> None:
    """Copy the agent's modules into the one directory in which they find each other by bare names."""
    for path in AGENT:
        shutil.copy(path, directory)


def unpack(environment: Environment, source: Source, scratch: Path) -> Path:
    """Have mmdebstrap unpack the packages and the agent, compile and list; returns the tar."""
    if shutil.which("mmdebstrap") is None:
        raise BuildError("mmdebstrap is not installed (Debian, Ubuntu: apt install mmdebstrap)")
    staged = scratch / "agent"
    staged.mkdir()
    copy_agent(staged)
    baked = environment.model_dump(include={"name", "version", "fork", "preload"}, mode="json")
    (staged / "environment.json").write_text(json.dumps(baked, sort_keys=True) + "\n")
    if environment.prepare:
        (staged / Path(PREPARE_FILE).name).write_text(environment.prepare)
    scratch.chmod(0o755)  # read from a user namespace
    root = scratch / "root.tar"
    packages = dict.fromkeys((*AGENT_PACKAGES, *TOOL_PACKAGES, *environment.packages))
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        '--aptopt=Acquire::Retries "3"',
        f"--architectures={source.architecture}",
        f"--include={','.join(packages)}",
        '--extract-hook=mkdir -p "$1/usr/lib/mayfly"',
        f"--extract-hook=sync-in {shlex.quote(str(staged))} /usr/lib/mayfly",
        *([f"--extract-hook={PREPARE_SCRIPT}"] if environment.prepare else []),
        f"--extract-hook={COMPILE_SCRIPT}",
        f"--extract-hook={sbom.LISTING_SCRIPT}",
        source.suite,
        str(root),
        *([source.mirror] if source.mirror else []),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        hint = "" if os.getuid() == 0 else "\nWithout root, mmdebstrap needs user namespaces and newuidmap (uidmap);"
        hint += " otherwise build as root." if hint else ""
        raise BuildError(f"mmdebstrap failed:\n{done.stderr.strip()[-4000:]}{hint}")
    return root


def kept(
    root: rootfs.Root, packages: Sequence[sbom.Package], removed: Iterable[str], unwanted: Iterable[str] = ()
) -> rootfs.Root:
    """An unpacked root without its listing, without paths that globs of ``removed`` match, and without the files of
    packages that ``package:GLOB`` in ``removed`` or ``unwanted`` name.
    """
    globs = tuple(removed)
    paths = [glob for glob in globs if not glob.startswith(PACKAGE_PREFIX)]
    names = [glob.removeprefix(PACKAGE_PREFIX) for glob in globs if glob.startswith(PACKAGE_PREFIX)]
    files = sbom.files_of(packages, [*names, *unwanted]) | {sbom.LISTING}
    return rootfs.strip({path: one for path, one in root.items() if path not in files}, paths)


def links_of(links: Mapping[str, str], source: Source) -> dict[str, str]:
    """An environment's links, with the architecture's name in place of ``{multiarch}``."""
    multiarch = source.multiarch
    return {name.format(multiarch=multiarch): target.format(multiarch=multiarch) for name, target in links.items()}


def python_version(root: rootfs.Root, packages: Sequence[sbom.Package]) -> str:
    """The full version of a root's Python, with which its package's version begins."""
    short = next(found[1] for path in root if (found := PYTHON.fullmatch(path)))
    package = next(one for one in packages if one.name == f"python{short}-minimal")
    return package.version.split("-")[0].split("~")[0]


def packages_only(name: str, packages: tuple[str, ...]) -> Environment:
    """An environment with which to unpack packages for an image that is not a sandbox's."""
    return Environment(name=name, version="1", description="", packages=packages, file_name="-", run=("-",))
