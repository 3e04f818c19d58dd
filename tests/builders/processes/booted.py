"""A systemd that is process 1 over this host's file system, or another release's. What it changes can be listed.

It has namespaces of its own but for the network, and no unit of the host's: a target of ours, and what is installed
then. Engine and cgroups are the host's; the engine's mounts are found at the same path, below ``shared``.
"""

from __future__ import annotations

import filecmp
import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from tests.harness import PATIENCE, ROOT, eventually

SCRIPT = Path(__file__).with_name("boot.sh")
COMMAND_SECONDS = 1500  # the installer makes a virtual environment
SYSTEMD = Path("/lib/systemd/systemd")
# Copies that useradd makes of what it changes, its lock, and the journal's and systemd's own files.
IGNORED = ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock", "etc/mtab")


class Booted:
    """The running systemd; ends with :meth:`close`."""

    def __init__(self, lower: Path = Path("/"), *paths: Path) -> None:
        """``lower`` is the root directory, / or that of another release, which gets these paths of this host."""
        self.lower = lower
        # Where the services' walls (PrivateTmp, ProtectHome) hide nothing.
        self.directory = Path(tempfile.mkdtemp(prefix="mayfly-boot-", dir="/srv"))
        self.directory.chmod(0o755)
        self.shared = self.directory / "shared"
        for name in ("upper", "work", "root", "shared"):
            (self.directory / name).mkdir()
        self.group = f"mayfly-test-{secrets.token_hex(4)}"
        self._log = (self.directory / "boot.log").open("wb")
        self._process = subprocess.Popen(
            ["bash", str(SCRIPT), str(self.directory), self.group, str(lower), *map(str, paths)],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            self.pid = eventually(self._init, "systemd is process 1")
            eventually(lambda: self.run("systemctl", "is-active", "boot.target") == "active\n", "systemd has booted")
        except BaseException:
            self.close()
            raise

    def __call__(self, *command: str, env: dict[str, str] | None = None) -> str:
        """Run a command, which must succeed, and return its output."""
        done = self.enter(*command, env=env)
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}\n{self.journal()}"
        return done.stdout

    def run(self, *command: str) -> str:
        """Run a command and return its output, also of a command that fails."""
        return self.enter(*command).stdout

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "--lines=60", "--output=cat")

    def left(self) -> list[str]:
        """Paths that differ from the host's: new, changed or removed."""
        upper, found = self.directory / "upper", []
        for path in sorted(upper.rglob("*")):
            name = path.relative_to(upper)
            there, now = self.lower / name, path.lstat()
            if str(name) in IGNORED or (not (there.exists() or there.is_symlink()) and _is_whiteout(now)):
                continue
            if stat.S_ISDIR(now.st_mode):
                same = there.is_dir() and _rights(now) == _rights(there.stat())
            elif stat.S_ISREG(now.st_mode):
                same = there.is_file() and _rights(now) == _rights(there.stat()) and filecmp.cmp(path, there, False)
            else:
                same = False
            if not same:
                found.append(str(name))
        return found

    def close(self) -> None:
        if psutil.pid_exists(self._process.pid):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                child.send_signal(signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._log.close()
        for hierarchy in Path("/sys/fs/cgroup").glob(f"*/{self.group}"):
            groups = sorted((path for path in hierarchy.rglob("*") if path.is_dir()), reverse=True)
            for group in (*groups, hierarchy):
                eventually(partial(_is_removed, group), f"the processes of {group} have ended")
        shutil.rmtree(self.directory)

    def enter(self, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command, which may fail."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAYFLY_", "PYTHON"))}
        words = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--uts", "--ipc", "--cgroup"]
        return subprocess.run(
            [*words, "--", "env", f"--chdir={ROOT}", *command],
            env={**clean, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS * PATIENCE,
        )

    def _init(self) -> int | None:
        assert self._process.poll() is None, (self.directory / "boot.log").read_text()
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # the script's commands come and go
                if child.name() == "systemd":
                    return int(child.pid)
        return None


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:  # a killed process is still in it
        return False
    return True


def _rights(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
