"""Installs the pinned clients of ``clients/``, each set once for a checkout; the lock files have the hashes.

Nothing that a package brings is run by its installation: Node comes as a package too, and Claude Code as a program.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.harness import IMAGES
from tests.lanes import locked

LOCKS = Path(__file__).parent / "clients"
CACHE = IMAGES.with_name("clients")
ARCHITECTURE = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
NPM = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
SECONDS = 1200


@dataclass(frozen=True)
class NodeClients:
    """Programs below ``node_modules``, as commands."""

    modules: Path

    @property
    def node(self) -> Path:
        """The directory with Node 22."""
        return self.modules / f"node-linux-{ARCHITECTURE}" / "bin"

    def script(self, path: str) -> list[str]:
        """The words that start a package's script."""
        return [str(self.node / "node"), str(self.modules / path)]

    @property
    def conformance(self) -> list[str]:
        """MCP's conformance suite."""
        return self.script("@modelcontextprotocol/conformance/dist/index.js")

    @property
    def inspector(self) -> list[str]:
        """The Inspector's command line."""
        return [*self.script(".bin/mcp-inspector"), "--cli"]

    @property
    def gemini(self) -> list[str]:
        """Gemini CLI."""
        return self.script("@google/gemini-cli/bundle/gemini.js")

    @property
    def mcporter(self) -> list[str]:
        """mcporter, which reads other clients' files."""
        return self.script("mcporter/dist/cli.js")

    @property
    def codex(self) -> list[str]:
        """Codex."""
        return self.script("@openai/codex/bin/codex.js")

    @property
    def opencode(self) -> list[str]:
        """opencode."""
        return [str(self.modules / f"opencode-linux-{ARCHITECTURE}" / "bin" / "opencode")]

    @property
    def claude(self) -> list[str]:
        """Claude Code."""
        return [str(self.modules / f"@anthropic-ai/claude-code-linux-{ARCHITECTURE}" / "claude")]


def node_clients() -> NodeClients:
    """The clients from npm; installed, if they are not."""

    def install(directory: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(LOCKS / name, directory)
        subprocess.run(NPM, cwd=directory, check=True, timeout=SECONDS)

    return NodeClients(_installed("npm", "package-lock.json", install) / "node_modules")


def python_clients() -> Path:
    """The directory of the programs from PyPI; installed, if they are not."""
    return _python("pypi", "fuzzers.lock") / "bin"


def adapter_python() -> Path:
    """The Python of an environment with what the adapters in ``deploy/integrations`` are for; it has no Mayfly."""

    return _python("adapters", "adapters.lock") / "bin" / "python"


def codemode() -> tuple[Path, Path]:
    """Node 22, and the ``node_modules`` of Cloudflare's code mode."""

    def install(directory: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(LOCKS / "codemode" / name, directory)
        subprocess.run(NPM, cwd=directory, check=True, timeout=SECONDS)

    modules = _installed("codemode", "codemode/package-lock.json", install) / "node_modules"
    return NodeClients(modules).node / "node", modules


def issuer_program() -> list[str]:
    """The command of the OIDC issuer from npm, without its configuration."""

    def install(directory: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(LOCKS / "issuer" / name, directory)
        subprocess.run(NPM, cwd=directory, check=True, timeout=SECONDS)

    program = _installed("issuer", "issuer/package-lock.json", install) / "issuer.mjs"
    fresh = program.with_name(f"issuer-{os.getpid()}.tmp")
    shutil.copy(LOCKS / "issuer" / "issuer.mjs", fresh)  # it changes without the packages
    fresh.replace(program)
    return ["node", str(program)]


def canaille_program() -> list[str]:
    """The command of the OIDC issuer from PyPI, without its configuration; its environment has no Mayfly."""

    python = _python("canaille", "canaille/requirements.lock") / "bin" / "python"
    return [str(python), str(LOCKS / "canaille" / "issuer.py")]


def s3_server() -> list[str]:
    """The command of a server that speaks S3's protocol; its environment has no Mayfly."""

    return [str(_python("moto", "moto/requirements.lock") / "bin" / "moto_server")]


def _python(name: str, lock: str) -> Path:
    """The directory of a virtual environment by that lock file, which is whole. It has no pip and no byte code, which
    would take most of the time.
    """

    def install(directory: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=SECONDS)
        words = ["--quiet", "--no-deps", "--no-compile", "--require-hashes", "--requirement", str(LOCKS / lock)]
        pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python")]
        subprocess.run([*pip, "install", *words], check=True, timeout=SECONDS)

    return _installed(name, lock, install)


def _installed(name: str, lock: str, install: Callable[[Path], None]) -> Path:
    """The directory of an installation by that lock file. One that was interrupted is made again."""
    digest = hashlib.sha256((LOCKS / lock).read_bytes()).hexdigest()[:12]
    directory = CACHE / f"{name}-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / f"{name}.lock"):
        if not (directory / "complete").exists():
            for stale in CACHE.glob(f"{name}-*"):
                shutil.rmtree(stale)
            directory.mkdir()
            install(directory)
            (directory / "complete").touch()
    return directory


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The variables of a client that has a home of its own, and sends nothing to its makers."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    quiet = {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_TELEMETRY_ENABLED": "false",
        "NO_COLOR": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
    }
    return {**kept, **quiet, "HOME": str(home), **variables}
