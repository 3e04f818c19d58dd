"""Sandboxes of tool servers, with a program of the test's in place of the server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.broker.declared.secrets import Secret
from orchestrator.broker.links.bounded_stdio import Command
from orchestrator.broker.sandboxes import SandboxLauncher
from orchestrator.models.tool_servers import ToolServer
from orchestrator.settings import Settings
from tests.harness import IMAGES, ROOT, UNPACKED
from tests.lanes import locked

EXAMPLES = ROOT / "deploy" / "examples" / "tool-servers"
SECRET = Secret(tenants=("t",), env={"TOKEN": "secret"})
# Evaluates each line of its input as an expression, and answers with a line.
PROBE = """
import ctypes, fcntl, mmap, os, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
long = ctypes.c_long
def filter_():
    filter_.code = (ctypes.c_uint64 * 1)(0x7FFF000000000006)  # take all
    return struct.pack("HP", 1, ctypes.addressof(filter_.code))
def acl(users):
    entries = [(1, 7, -1), *((2, 7, user) for user in range(users)), (4, 7, -1), (16, 7, -1), (32, 7, -1)]
    return struct.pack("I", 2) + b"".join(struct.pack("HHi", *entry) for entry in entries)
def page():
    page.map = mmap.mmap(-1, 4096)
    return ctypes.addressof(ctypes.c_char.from_buffer(page.map))
def read(path):
    try:
        yield from os.listdir(path) if os.path.isdir(path) else open(path)
    except OSError:
        pass
def code(result):
    return ctypes.get_errno() if result < 0 else 0
def failure(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
    return 0
def forks(most):
    children = []
    try:
        for _ in range(most):
            if not (child := os.fork()):
                sys.stdin.buffer.raw.read(1)
            children.append(child)
    except OSError as error:
        return error.errno
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
    return 0
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""
Weaken = Callable[[dict[str, Any]], object]


def launcher_in(directory: Path, images: Path) -> SandboxLauncher:
    """A launcher with all of its files below a directory, except the unpacked images, which tests share."""
    directory.chmod(0o755)
    oci, users = shared_images(directory), directory / "users"
    settings = Settings(state_dir=directory, images_dir=images, oci_dir=oci, tool_users_dir=users)
    made = SandboxLauncher(settings)
    made.bundles = directory / "bundles"
    return made


@cache
def built(name: str) -> Path:
    """The directory of images, after one of the examples was built."""
    command = [sys.executable, "-m", "sandbox_image.build", name, "--environments", str(EXAMPLES)]
    IMAGES.mkdir(parents=True, exist_ok=True)
    with locked(IMAGES / "tool-servers.lock"):
        subprocess.run([*command, "--output", str(IMAGES)], cwd=ROOT, check=True, timeout=1200)
    return IMAGES


def shared_images(directory: Path) -> Path:
    """A new ``oci_dir`` in a directory, with the unpacked images that tests share."""
    oci = directory / "oci"
    (oci / "tool-servers").mkdir(parents=True)
    UNPACKED.mkdir(parents=True, exist_ok=True, mode=0o700)
    (oci / "tool-servers" / "images").symlink_to(UNPACKED)
    return oci


def declared(environment: str = "time", **fields: Any) -> ToolServer:
    """The declaration of a tool server in a sandbox, by a file."""
    return ToolServer(**{"name": environment, "environment": environment, "origin": "file", **fields})


def bundle_of(launcher: SandboxLauncher) -> Path:
    """The only bundle that there is."""
    (found,) = launcher.bundles.iterdir()
    return found


class Probe:
    """A program that evaluates expressions in a sandbox."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, expression: str) -> Any:
        """The value of an expression, in which the functions and modules of ``PROBE`` are known."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(self.process.stderr.read() if self.process.stderr else "")
        return eval(line)


def started(command: Command) -> subprocess.Popen[str]:
    """A process of that command."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command.words, env=dict(command.environment), stdin=pipe, stdout=pipe, stderr=pipe, text=True,
        start_new_session=True,
    )  # fmt: skip


@contextmanager
def probe(launcher: SandboxLauncher, weaken: Weaken = lambda configuration: None, **fields: Any) -> Iterator[Probe]:
    """A probe in the sandbox of server ``time``; ``weaken`` changes the container's configuration."""
    command = launcher.command("t", declared(**fields), SECRET)
    path = bundle_of(launcher) / "config.json"
    configuration = json.loads(path.read_text())
    configuration["process"]["args"] = ["/usr/bin/python3", "-I", "-c", PROBE]
    weaken(configuration)
    path.write_text(json.dumps(configuration))
    process = started(command)
    try:
        yield Probe(process)
    finally:
        process.kill()
        process.communicate()
        command.clean()
