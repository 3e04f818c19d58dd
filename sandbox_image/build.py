"""Build sandbox images from Debian packages: ``python -m sandbox_image.build [NAME ...] --output DIR``.

mmdebstrap fetches and unpacks an environment's packages; hooks in its root run the environment's ``prepare``, compile
Python's byte code and list the packages; ``registry`` fetches packages from other sources than Debian; then ``rootfs``
makes the layer, ``archive`` the image, ``sbom`` the bill of materials. For each environment the output directory gets
NAME.tar (for ``docker load``), NAME.cdx.json and NAME.json (the built image and its inputs).
"""

# ruff: noqa: TID251 - a build has no settings of Mayfly's; it takes two standard variables as defaults
from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.environments import Environment, load_environment, load_environments
from sandbox_image import archive, preload, registry, rootfs, sbom

HERE = Path(__file__).resolve().parent
AGENT = sorted((HERE / "agent").glob("*.[pj][ys]"))
ENVIRONMENTS = HERE / "environments"
AGENT_PACKAGES = ("libc-bin", "python3-minimal", "libpython3-stdlib")  # libc-bin: the C.UTF-8 locale
# Programs in every language start commands by `sh`, and ask for a time zone by its name. A shell is no part of the
# wall: whatever a shell could do, the program does by system calls of its own.
TOOL_PACKAGES = (
    *("bash", "bzip2", "coreutils", "dash", "debianutils", "diffutils", "findutils", "grep", "gzip", "hostname"),
    *("mawk", "procps", "sed", "tar", "tzdata", "unzip", "xz-utils", "zip"),
)
TOOL_LINKS = {"/usr/bin/awk": "mawk", "/usr/bin/sh": "dash", "/usr/bin/which": "which.debianutils"}
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
# Unchecked, since nothing in an image changes after its build; the hash seed makes the order of sets repeatable. Of a
# script on its command line Python never looks for cached byte code, so the agent is started from a copy of that.
# Programs find their module `mayfly` beside the standard library.
COMPILE_SCRIPT = """
set -e
for library in "$1"/usr/lib/python3.[0-9]*; do cp "$1"/usr/lib/mayfly/bundles.py "$library"/mayfly.py; done
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 PYTHONHASHSEED=0 chroot "$1" /usr/bin/python3 -B \\
    -m compileall -q -f -r 100 --invalidation-mode unchecked-hash -x '/(tests?|lib2to3|idlelib)/' /usr/lib \\
    > /dev/null || true
cp "$1"/usr/lib/mayfly/__pycache__/agent.*.pyc "$1"/usr/lib/mayfly/agent.pyc
"""


class BuildError(Exception):
    """An image could not be built."""


class Source(NamedTuple):
    """The source of packages, and the fixed parameters of a build."""

    suite: str
    mirror: str | None
    architecture: str
    multiarch: str
    mtime: int


def report(line: str) -> None:
    """Print one line of progress."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


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


def inputs_hash(declaration: Path, source: Source) -> str:
    """The digest of all inputs of a build, except the archive's own changes."""
    digest = hashlib.sha256(repr(source).encode())
    for path in (declaration, *AGENT, preload.SOURCE, *sorted(HERE.glob("*.py"))):
        digest.update(f"\0{path.name}\0{len(path.read_bytes())}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def unpack(environment: Environment, source: Source, scratch: Path) -> Path:
    """Have mmdebstrap unpack the packages and the agent, compile and list; returns the tar."""
    if shutil.which("mmdebstrap") is None:
        raise BuildError("mmdebstrap is not installed (Debian, Ubuntu: apt install mmdebstrap)")
    staged = scratch / "agent"
    staged.mkdir()
    for path in AGENT:
        shutil.copy(path, staged)
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


def make_root(
    environment: Environment,
    source: Source,
    raw: rootfs.Root,
    packages: Sequence[sbom.Package],
    fetched: Sequence[registry.Fetched],
) -> rootfs.Root:
    """The image's root from the unpacked root and the fetched packages. ``package:GLOB`` in ``remove`` stands for all
    files of such packages.
    """
    globs = (*rootfs.REMOVED, *environment.remove)
    paths = [glob for glob in globs if not glob.startswith(PACKAGE_PREFIX)]
    names = [glob.removeprefix(PACKAGE_PREFIX) for glob in globs if glob.startswith(PACKAGE_PREFIX)]
    unwanted = sbom.files_of(packages, names)
    links = {
        name.format(multiarch=source.multiarch): target.format(multiarch=source.multiarch)
        for name, target in {**TOOL_LINKS, **environment.links}.items()
    }
    raw[preload.PATH] = rootfs.entry(preload.PATH, content=preload.library())
    raw[preload.LIST] = rootfs.entry(preload.LIST, content=f"/{preload.PATH}\n".encode())
    kept = {path: one for path, one in raw.items() if path not in unwanted and path != sbom.LISTING}
    added = {path: one for package in fetched for path, one in package.files.items()}
    root = rootfs.complete({**rootfs.strip(kept, paths), **added}, links)
    commands = [argv[0] for argv in (environment.run, environment.compile) if argv and argv[0].startswith("/usr/")]
    rootfs.check(root, [archive.PYTHON, archive.AGENT, *commands, *links])
    return root


def build(declaration: Path, source: Source, output: Path, force: bool = False) -> dict[str, Any]:
    """Build one environment's image, unless it exists already; returns the content of NAME.json.

    Raises :class:`BuildError`, :class:`preload.CompileError`, :class:`registry.RegistryError`, or
    :class:`rootfs.RootError` when the result is not fit for a sandbox.
    """
    environment = load_environment(declaration)
    wanted = inputs_hash(declaration, source)
    summary_path, image_path = output / f"{environment.name}.json", output / f"{environment.name}.tar"
    if not force and summary_path.exists() and image_path.exists():
        summary: dict[str, Any] = json.loads(summary_path.read_text())
        if summary.get("inputs_hash") == wanted:
            report(f"{environment.name}: unchanged, {summary['image_id'][:19]}")
            return summary
    report(f"{environment.name}: unpacking packages of {source.suite} …")
    began = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="mayfly-build-") as temporary,
        tempfile.TemporaryDirectory(prefix=".build-", dir=output) as staging,
    ):
        scratch, finished = Path(temporary), Path(staging, image_path.name)
        layer = scratch / "layer.tar"
        fetched = [registry.fetch(one, scratch) for one in registry.chosen(environment.npm, source.architecture)]
        with tarfile.open(unpack(environment, source, scratch)) as unpacked:
            raw = rootfs.read(unpacked)
            packages = sbom.parse_listing(raw[sbom.LISTING].open().read().decode())
            root = make_root(environment, source, raw, packages, fetched)
            with layer.open("wb") as file:
                size = rootfs.write(root, file, source.mtime)
        image = archive.write_image(
            environment.name, archive.config(environment), source.architecture, [layer], finished, source.mtime
        )
        summary_path.unlink(missing_ok=True)  # it vouches for the archive
        finished.replace(image_path)
    listed: list[sbom.Component] = [*sbom.in_image(packages, root), *fetched]
    document = sbom.bill(environment.name, environment.version, image.id, archive.created(source.mtime), listed)
    (output / f"{environment.name}.cdx.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    summary = {
        "name": environment.name,
        "version": environment.version,
        "image_id": image.id,
        "tag": image.tag,
        "size_bytes": size,
        "packages": len(listed),
        "inputs_hash": wanted,
    }
    summary_path.write_text(json.dumps(summary, indent=1) + "\n")
    seconds = time.monotonic() - began
    report(f"{environment.name}: {image.id[:19]}, {size / 1e6:.0f} MB, {len(listed)} packages, {seconds:.0f} s")
    return summary


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit code 1: a build failed; 2: the arguments are wrong."""
    parser = argparse.ArgumentParser(prog="python -m sandbox_image.build", description="Build sandbox images.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="environments to build (default: all)")
    parser.add_argument(
        "--environments", action="append", type=Path, metavar="DIR", help=f"directories of *.toml ({ENVIRONMENTS})"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the archives go")
    parser.add_argument("--mirror", default=os.environ.get("MAYFLY_APT_MIRROR"), help="(default: $MAYFLY_APT_MIRROR)")
    parser.add_argument("--force", action="store_true", help="build also what has not changed")
    options = parser.parse_args(arguments)
    directories = options.environments or [ENVIRONMENTS]
    try:
        environments = load_environments(directories)
        files = {load_environment(path).name: path for one in directories for path in sorted(one.glob("*.toml"))}
        if unknown := [name for name in options.names if name not in environments]:
            parser.error(f"no environment {', '.join(unknown)}; there are {', '.join(files)}")
        source = host_source(options.mirror)
        for name in options.names or files:
            build(files[name], source, options.output, options.force)
    except (BuildError, preload.CompileError, registry.RegistryError, rootfs.RootError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
