"""Build sandbox images from Debian packages: ``python -m sandbox_image.build [NAME ...] --output DIR``.

``debian`` fetches and unpacks an environment's packages, ``registry`` those from other sources than Debian; ``rootfs``
makes the layer, ``archive`` the image, ``sbom`` the bill of materials, ``image`` all of it. For each environment the
output directory gets NAME.tar (for ``docker load``), NAME.cdx.json and NAME.json (the built image and its inputs).
"""

# ruff: noqa: TID251 - a build has no settings of Mayfly's; it takes a standard variable as a default
from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.environments import TOOL_SERVER, Environment, kind_of, load_environment, load_environments
from orchestrator.tool_environments import load_tool_environment
from sandbox_image import archive, image, preload, registry, rootfs, sbom
from sandbox_image.debian import AGENT, BuildError, Source, host_source, kept, links_of, unpack
from sandbox_image.tool_servers import build as tool_servers

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE / "environments"
TOOL_LINKS = {"/usr/bin/awk": "mawk", "/usr/bin/sh": "dash", "/usr/bin/which": "which.debianutils"}


def inputs_hash(declaration: Path, source: Source) -> str:
    """The digest of all inputs of a build, except the archive's own changes."""
    digest = hashlib.sha256(repr(source).encode())
    for path in (declaration, *AGENT, preload.SOURCE, *sorted(HERE.glob("*.py"))):
        digest.update(f"\0{path.name}\0{len(path.read_bytes())}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def make_root(
    environment: Environment, source: Source, raw: rootfs.Root, packages: Sequence[sbom.Package], scratch: Path
) -> tuple[rootfs.Root, list[registry.Fetched]]:
    """The image's root, and its packages that are not Debian's."""
    fetched = [registry.fetch(one, scratch) for one in registry.chosen(environment.npm, source.architecture)]
    added = {path: one for package in fetched for path, one in package.files.items()}
    added[preload.PATH] = rootfs.entry(preload.PATH, content=preload.library())
    added[preload.LIST] = rootfs.entry(preload.LIST, content=f"/{preload.PATH}\n".encode())
    links = links_of({**TOOL_LINKS, **environment.links}, source)
    root = rootfs.complete({**kept(raw, packages, (*rootfs.REMOVED, *environment.remove)), **added}, links)
    commands = [argv[0] for argv in (environment.run, environment.compile) if argv and argv[0].startswith("/usr/")]
    rootfs.check(root, [archive.PYTHON, archive.AGENT, *commands, *links])
    return root, fetched


def build(declaration: Path, source: Source, output: Path, force: bool = False) -> dict[str, Any]:
    """Build one environment's image, unless it exists already; returns the content of NAME.json.

    Raises :class:`BuildError`, :class:`preload.CompileError`, :class:`registry.RegistryError`, or
    :class:`rootfs.RootError` if the root must not be used for a sandbox.
    """
    environment = load_environment(declaration)
    recipe = image.Recipe(
        name=environment.name,
        version=environment.version,
        inputs_hash=inputs_hash(declaration, source),
        unpack=partial(unpack, environment, source),
        config=archive.config(environment),
        make_root=partial(make_root, environment, source),
    )
    return image.build(recipe, source, output, force)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit code 1: a build failed; 2: the arguments are wrong."""
    parser = argparse.ArgumentParser(prog="python -m sandbox_image.build", description="Build sandbox images.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="environments to build (default: all)")
    parser.add_argument(
        "--environments", action="append", type=Path, metavar="DIR", help=f"directories of *.toml ({ENVIRONMENTS})"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the archives go")
    parser.add_argument("--mirror", default=os.environ.get("MAYFLY_APT_MIRROR"), help="(default: $MAYFLY_APT_MIRROR)")
    parser.add_argument("--force", action="store_true", help="build unchanged images, too")
    options = parser.parse_args(arguments)
    directories = options.environments or [ENVIRONMENTS]
    try:
        load_environments(directories)
        paths = [path for one in directories for path in sorted(one.glob("*.toml"))]
        servers = {load_tool_environment(path).name: path for path in paths if kind_of(path) == TOOL_SERVER}
        files = {load_environment(path).name: path for path in paths if kind_of(path) != TOOL_SERVER} | servers
        if unknown := [name for name in options.names if name not in files]:
            parser.error(f"no environment {', '.join(unknown)}; there are {', '.join(files)}")
        source = host_source(options.mirror)
        with tempfile.TemporaryDirectory(prefix="mayfly-build-") as shared:
            for name in options.names or files:
                if name in servers:
                    tool_servers.build(servers[name], source, options.output, Path(shared), options.force)
                else:
                    build(files[name], source, options.output, options.force)
    except (BuildError, preload.CompileError, registry.RegistryError, rootfs.RootError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
