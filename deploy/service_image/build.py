"""Build the images of the services: ``python -m deploy.service_image.build --output DIR``.

``service`` (API and worker: Debian's Python, the locked packages, this checkout), ``redis``, ``proxy`` (Caddy) and
``monitoring`` (Prometheus and its exporters) are built by the tools of the sandbox images, without a registry. An image
has two layers: Debian's packages, kept in DIR for the next build, and ours. DIR gets NAME.tar (for ``docker load``),
NAME.json (the image and its inputs) and NAME.cdx.json.
"""

# ruff: noqa: TID251 - a build has no settings of Mayfly's; it takes a standard variable as a default
from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deploy.service_image import layers
from deploy.service_image.bytecode import compile_tree
from deploy.service_image.declarations import CHECKOUT, HERE, REDIS_UID, SERVICE_UID, USERS, Base, Service
from deploy.service_image.monitoring import MONITORING
from deploy.service_image.proxy import PROXY
from deploy.service_image.suites import SUITE, with_suites
from sandbox_image import archive, rootfs, sbom
from sandbox_image.debian import BuildError, Source, host_source, kept, packages_only, python_version, unpack
from sandbox_image.image import report
from sandbox_image.tool_servers import wheels

LOCK = CHECKOUT / "requirements.lock"
PROJECT = ("orchestrator", "worker", "sandbox_image")
SUFFIXES = (".lua", ".py", ".toml", ".txt", ".typed", ".xz")
# The sandboxes' agent, its library (whose name is the SDK's) and mount points; tar, which only dpkg needs; a
# configuration that is not ours.
REMOVED = (
    *("usr/lib/mayfly", "usr/lib/python3*/mayfly", "work", "output", "inputs", "mnt"),
    *("usr/bin/tar", "usr/bin/su", "etc/redis", "etc/prometheus", "etc/default", "usr/bin/promtool"),
)
# The dependencies that redis-server needs to run: neither Perl nor the packages that manage users.
REDIS_PACKAGES = (
    *("redis-server", "redis-tools", "dash", "libc6", "libgcc-s1", "libstdc++6", "libatomic1"),
    *("libjemalloc2", "liblzf1", "libssl3*", "libsystemd0", "libcap2", "libgcrypt20", "libgpg-error0"),
    *("liblz4-1", "liblzma5", "libzstd1"),
)
# Differences from a sandbox: there are users, and names are looked up.
FILES = {
    "etc/passwd": "root:x:0:0:root:/:/nonexistent\n"
    + "".join(f"{name}:x:{uid}:{uid}:{name}:/nonexistent:/nonexistent\n" for name, uid in USERS.items()),
    "etc/group": "root:x:0:\n" + "".join(f"{name}:x:{uid}:\n" for name, uid in USERS.items()),
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\nservices: files\n",
}


def project_files() -> list[Path]:
    """Every file of this checkout that goes into the image."""
    found = (path for name in PROJECT for path in (CHECKOUT / name).rglob("*") if path.suffix in SUFFIXES)
    return sorted(path for path in found if path.is_file())


def installed_path(path: Path) -> Path:
    """The path of a file of this checkout below a directory of packages, as in the wheel."""
    sdk = CHECKOUT / "orchestrator" / "client"
    return path.relative_to(sdk if path.is_relative_to(sdk) else CHECKOUT)


def fill_service(root: Path, base: Base, scratch: Path) -> None:
    """The locked packages and this checkout, with byte code."""
    version = ".".join(base.python.split(".")[:2])
    site = root / f"usr/local/lib/python{version}/dist-packages"
    site.mkdir(parents=True)
    wheels.install(LOCK, base.python, platform.machine(), site, scratch)
    shutil.rmtree(site / "bin", ignore_errors=True)  # for another interpreter's path
    for path in project_files():
        target = site / installed_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    compile_tree(root, site, base, scratch)


def fill_redis(root: Path, base: Base, scratch: Path) -> None:
    """The script that hands Redis its password."""
    (root / "usr/bin").mkdir(parents=True)
    shutil.copy(HERE / "redis.sh", root / "usr/bin/mayfly-redis")


SERVICES = (
    Service(
        name="service",
        packages=("libstdc++6", "crun", "util-linux"),  # for google-re2; for tool servers in sandboxes
        needed=("/usr/bin/python3", "/usr/bin/crun", "/usr/bin/setpriv", "/usr/bin/flock"),
        uid=SERVICE_UID,
        fill=fill_service,
        sources=lambda: [LOCK, *project_files()],
        owned=("var/lib/mayfly/blobs", "var/lib/mayfly/oci", "var/lib/mayfly/state"),
        config={"Env": ["LANG=C.UTF-8", "PATH=/usr/bin:/bin", "PYTHONUNBUFFERED=1"], "WorkingDir": "/"},
    ),
    Service(
        name="redis",
        packages=("redis-server", "dash"),
        needed=("/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/redis-check-aof", "/usr/bin/dash"),
        uid=REDIS_UID,
        fill=fill_redis,
        sources=lambda: [HERE / "redis.sh"],
        owned=("data",),
        only=REDIS_PACKAGES,
        config={"Entrypoint": ["/usr/bin/mayfly-redis"], "Env": ["PATH=/usr/bin:/bin"], "WorkingDir": "/data"},
    ),
    PROXY,
    MONITORING,
)


def digest_of(paths: Sequence[Path], *texts: object) -> str:
    """One digest of files, their names and some values."""
    digest = hashlib.sha256(repr(texts).encode())
    for path in paths:
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(CHECKOUT)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def base_layer(service: Service, source: Source, output: Path, force: bool) -> Base:
    """The layer from Debian, from ``output`` unless its inputs have changed."""
    layer, summary = output / f"{service.name}.base.tar", output / f"{service.name}.base.json"
    tooling = [HERE / f"{name}.py" for name in ("build", "declarations", "suites")]
    tooling += sorted(Path(archive.__file__).parent.glob("*.py"))
    wanted = digest_of(tooling, source, service.packages, service.only)
    if not force and layer.exists() and summary.exists():
        known = json.loads(summary.read_text())
        if known["inputs_hash"] == wanted:
            packages = tuple(sbom.Package(**{**one, "paths": frozenset()}) for one in known["packages"])
            return Base(layer, known["python"], packages)
    report(f"{service.name}: unpacking packages of {source.suite} …")
    with tempfile.TemporaryDirectory(prefix="mayfly-build-") as temporary, ExitStack() as opened:
        suites, names = with_suites(service, source, Path(temporary))
        packed = unpack(packages_only(service.name, names), suites, Path(temporary))
        unpacked = opened.enter_context(tarfile.open(packed))
        raw = rootfs.read(unpacked)
        packages = tuple(sbom.parse_listing(raw[sbom.LISTING].open().read().decode()))
        root = make_root(service, raw, packages)
        with (output / f".{layer.name}").open("wb") as file:
            rootfs.write(root, file, source.mtime)
    summary.unlink(missing_ok=True)  # it vouches for the layer
    (output / f".{layer.name}").replace(layer)
    python = python_version(raw, packages)
    listed = sbom.in_image(packages, root)
    described = [
        {"name": one.name, "version": one.version, "architecture": one.architecture, "sha256": one.sha256}
        for one in listed
    ]
    summary.write_text(json.dumps({"inputs_hash": wanted, "python": python, "packages": described}, indent=1) + "\n")
    return Base(layer, python, tuple(listed))


def make_root(service: Service, raw: rootfs.Root, packages: Sequence[sbom.Package]) -> rootfs.Root:
    """The service's root from the unpacked root. Raises :class:`rootfs.RootError` for an unsuitable root."""
    unwanted = [one.name for one in packages if not any(fnmatch.fnmatchcase(one.name, glob) for glob in service.only)]
    root = rootfs.complete(kept(raw, packages, (*rootfs.REMOVED, *REMOVED), unwanted), {})
    root = {path: one for path, one in root.items() if path not in REMOVED}
    root |= {path: rootfs.entry(path, content=text.encode()) for path, text in FILES.items()}
    rootfs.check(root, service.needed)
    return root


def build(service: Service, source: Source, output: Path, force: bool = False) -> dict[str, Any]:
    """Build one image unless it exists already; returns the content of NAME.json.

    Raises :class:`BuildError`, :class:`wheels.WheelsError`, or :class:`rootfs.RootError`.
    """
    output.mkdir(parents=True, exist_ok=True)
    summary_path, image_path = output / f"{service.name}.json", output / f"{service.name}.tar"
    base = base_layer(service, source, output, force)
    sources = [HERE / "layers.py", HERE / "bytecode.py", *service.sources()]
    wanted = digest_of(sources, archive.sha256(base.tar), service.config, service.owned)
    if not force and summary_path.exists() and image_path.exists():
        summary: dict[str, Any] = json.loads(summary_path.read_text())
        if summary["inputs_hash"] == wanted:
            report(f"{service.name}: unchanged, {summary['tag']}")
            return summary
    with (
        tempfile.TemporaryDirectory(prefix="mayfly-build-") as temporary,
        tempfile.TemporaryDirectory(prefix=".build-", dir=output) as staging,
    ):
        tree, layer, finished = Path(temporary, "root"), Path(staging, "layer.tar"), Path(staging, image_path.name)
        tree.mkdir()
        service.fill(tree, base, Path(temporary))
        wheels_in = wheels.components(tree)
        for path in service.owned:
            (tree / path).mkdir(parents=True)
        layers.write_layer(tree, dict.fromkeys(service.owned, service.uid), layer, source.mtime)
        config = {**service.config, "User": f"{service.uid}:{service.uid}"}
        made_of = [base.tar, layer]
        image = archive.write_image(service.name, config, source.architecture, made_of, finished, source.mtime)
        summary_path.unlink(missing_ok=True)  # it vouches for the archive
        finished.replace(image_path)
    document = sbom.bill(service.name, image.id[7:19], image.id, archive.created(source.mtime), base.packages)
    document["components"] += wheels_in
    (output / f"{service.name}.cdx.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    summary = {"name": service.name, "image_id": image.id, "tag": image.tag, "inputs_hash": wanted}
    summary_path.write_text(json.dumps(summary, indent=1) + "\n")
    report(f"{service.name}: {image.tag}, {image_path.stat().st_size / 1e6:.0f} MB")
    return summary


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit code 1: a build failed; 2: the arguments are wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.service_image.build", description="Build service images.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the archives go")
    parser.add_argument("--mirror", default=os.environ.get("MAYFLY_APT_MIRROR"), help="(default: $MAYFLY_APT_MIRROR)")
    parser.add_argument("--force", action="store_true", help="build unchanged images, too")
    parser.add_argument("--suite", default=SUITE, help=f"Debian's suite of the packages (default: {SUITE})")
    parser.add_argument("--proxy-suite", help="that of Caddy, may be one of backports (default: as the others)")
    parser.add_argument("--redis-suite", help="that of Redis (default: this host's)")
    options = parser.parse_args(arguments)
    try:
        source = host_source(options.mirror)
        suites = {"proxy": options.proxy_suite, "redis": options.redis_suite or source.suite}
        for service in SERVICES:
            suite = suites.get(service.name) or options.suite
            build(service, source._replace(suite=suite), options.output, options.force)
    except (BuildError, wheels.WheelsError, rootfs.RootError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
