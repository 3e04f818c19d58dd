"""Virtual environments for peers, one each, made once under the state directory."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.systems.child import Absent
from tests.harness import ROOT

INSTALL_SECONDS = 600


@dataclass(frozen=True)
class Peer:
    """A peer, what is installed for it, and its variants: what each is called here, by its name in the script."""

    script: str
    requirements: tuple[str, ...]
    variants: dict[str, str]
    languages: frozenset[str]

    @property
    def path(self) -> Path:
        return ROOT / "tests" / "bench" / "peers" / self.script


PEERS = (
    Peer(
        "epicbox_peer.py",
        ("epicbox==1.1.0", "urllib3<2"),
        {"run": "epicbox"},
        frozenset({"python", "python-data", "node", "bash"}),
    ),
    Peer(
        "llm_sandbox_peer.py",
        ("llm-sandbox[docker]",),
        {
            "session": "llm-sandbox",
            "pool, single use": "llm-sandbox, pool",
            "pool, reused": "llm-sandbox, pool, container reused",
        },
        frozenset({"python", "python-data", "node"}),
    ),
    Peer(
        "autogen_peer.py",
        ("autogen-ext[docker]",),
        {"executor": "autogen", "reused": "autogen, container reused"},
        frozenset({"python", "python-data", "bash"}),
    ),
)


def interpreter(peer: Peer, state: Path) -> str:
    """The interpreter of a peer's environment. Raises :class:`Absent` when it cannot be installed."""
    digest = hashlib.sha256("\n".join((sys.version, *peer.requirements)).encode()).hexdigest()[:12]
    directory = state / "venvs" / f"{peer.path.stem}-{digest}"
    python, done = directory / "bin" / "python", directory / "installed"
    if not done.exists():
        commands = (
            [sys.executable, "-m", "venv", "--clear", str(directory)],
            [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", *peer.requirements],
        )
        for command in commands:
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            except subprocess.CalledProcessError as error:
                printed = [line for line in error.stderr.strip().splitlines() if line.startswith("ERROR")]
                raise Absent(f"not installed: {printed[-1] if printed else error}") from error
            except subprocess.TimeoutExpired as error:
                raise Absent(f"not installed within {INSTALL_SECONDS} s") from error
        done.touch()
    return str(python)
