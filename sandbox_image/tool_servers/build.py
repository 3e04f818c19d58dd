"""Builds the image of a tool server; ``python -m sandbox_image.build`` calls it for files of kind ``tool-server``.

Debian's packages are unpacked as for a sandbox. The locked packages of PyPI and npm are fetched by the host's pip and
npm, which verify the digests, and put below ``/usr/lib/tool-server``. The image has no agent: it starts with ``run``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from orchestrator.tool_environments import (
    TOOL_SERVER_IMAGES,
    ToolEnvironment,
    ToolServerImage,
    load_tool_environment,
)
from sandbox_image import image, registry, rootfs, sbom
from sandbox_image.debian import BuildError, Source, kept, links_of, packages_only, python_version, unpack
from sandbox_image.tool_servers import node_modules, wheels

HERE = Path(__file__).resolve().parent
HOME = "usr/lib/tool-server"
AGENT_FILES = ("usr/lib/mayfly", "usr/lib/python3*/mayfly.py", "usr/lib/python3*/__pycache__/mayfly.*")


def inputs_hash(declaration: Path, environment: ToolEnvironment, source: Source) -> str:
    """The digest of all inputs of a build, except the archives' own changes."""
    digest = hashlib.sha256(repr((source, sys.version_info[:2])).encode())
    locks = [declaration.with_name(name) for name in environment.locks]
    for path in (declaration, *locks, *sorted(HERE.parent.glob("*.py")), *sorted(HERE.glob("*.py"))):
        content = path.read_bytes()
        digest.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def build(declaration: Path, source: Source, output: Path, shared: Path, force: bool = False) -> ToolServerImage:
    """Build one image below ``output``, unless it exists already; the content of its NAME.json. Images of one run with
    the same packages of Debian have these unpacked once, into the directory ``shared``.

    Raises :class:`BuildError` (also for packages that cannot be fetched), :class:`registry.RegistryError`, or
    :class:`rootfs.RootError`.
    """
    environment = load_tool_environment(declaration)
    if missing := [name for name in environment.locks if not declaration.with_name(name).is_file()]:
        raise BuildError(f"{declaration} names {missing[0]}, which does not lie beside it")
    recipe = image.Recipe(
        name=environment.name,
        version=environment.version,
        inputs_hash=inputs_hash(declaration, environment, source),
        unpack=partial(_unpack_once, environment.packages, source, shared),
        config=config(environment),
        make_root=partial(make_root, environment, declaration, source),
        more={"description": environment.description, "limits": environment.limits.model_dump(mode="json")},
    )
    return ToolServerImage.model_validate(image.build(recipe, source, output / TOOL_SERVER_IMAGES, force))


def _unpack_once(packages: tuple[str, ...], source: Source, shared: Path, scratch: Path) -> Path:
    """The tar of the unpacked packages, which another image of this run may have made."""
    made = shared / hashlib.sha256(repr((packages, source)).encode()).hexdigest()
    if not made.exists():
        shutil.move(unpack(packages_only("tool-server", packages), source, scratch), made)
    return made


def config(environment: ToolEnvironment) -> dict[str, object]:
    """How containers of the image start."""
    return {
        "Entrypoint": list(environment.run),
        "Env": [f"{name}={value}" for name, value in sorted(environment.env.items())],
        "Labels": {"dev.mayfly.tool-server": environment.name, "dev.mayfly.version": environment.version},
        "WorkingDir": "/tmp",  # noqa: S108 - the one place in which it may write
    }


def make_root(
    environment: ToolEnvironment,
    declaration: Path,
    source: Source,
    raw: rootfs.Root,
    packages: Sequence[sbom.Package],
    scratch: Path,
) -> tuple[rootfs.Root, list[sbom.Component]]:
    """The image's root, without the sandbox's agent, and its packages that are not Debian's."""
    added, fetched = _fetch(environment, declaration, source, scratch, python_version(raw, packages))
    removed = (*rootfs.REMOVED, *AGENT_FILES, *environment.remove)
    links = links_of(environment.links, source)
    root = rootfs.complete({**kept(raw, packages, removed), **added}, links)
    rootfs.check(root, [environment.run[0], *links])
    return root, fetched


def _fetch(
    environment: ToolEnvironment, declaration: Path, source: Source, scratch: Path, python: str
) -> tuple[rootfs.Root, list[sbom.Component]]:
    """The files of packages that are not Debian's, by their path in the image, and the packages."""
    home = scratch / "root" / HOME
    home.mkdir(parents=True)
    listed: list[sbom.Component] = []
    try:
        if environment.python_lock:
            lock = declaration.with_name(environment.python_lock)
            listed += wheels.install(lock, python, os.uname().machine, home / "python", scratch)
            wheels.remove_scripts(home / "python")
            _compile(home / "python", python)
        if environment.node_lock:
            listed += node_modules.install(declaration.with_name(environment.node_lock), home, scratch)
    except (wheels.WheelsError, node_modules.NodeModulesError) as error:
        raise BuildError(str(error)) from error
    added = tree(scratch / "root")
    for package in registry.chosen(environment.npm, source.architecture):
        fetched = registry.fetch(package, scratch)
        listed.append(fetched)
        added |= fetched.files
    return added, listed


def _compile(directory: Path, python: str) -> None:
    """Write byte code, unless this interpreter is of another version than the image's."""
    if python.split(".")[:2] != [str(part) for part in sys.version_info[:2]]:
        image.report(
            f"no byte code: this is Python {sys.version_info[0]}.{sys.version_info[1]}, the image has {python}"
        )
        return
    command = ["env", "PYTHONHASHSEED=0", sys.executable, "-m", "compileall", "-qq", "-f", "-s", str(directory)]
    places = ["-p", f"/{HOME}/python", "--invalidation-mode", "unchecked-hash", str(directory)]
    subprocess.run([*command, *places], check=False, stdout=subprocess.DEVNULL)


def tree(directory: Path) -> rootfs.Root:
    """The regular files and links below a directory as entries of a root."""
    found: rootfs.Root = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = rootfs.entry(name, tarfile.SYMTYPE, 0o777, link=str(path.readlink()))
        elif path.is_file():
            mode = 0o755 if path.stat().st_mode & registry.EXECUTABLE else 0o644
            found[name] = rootfs.entry(name, mode=mode, content=path.read_bytes())
    return found
