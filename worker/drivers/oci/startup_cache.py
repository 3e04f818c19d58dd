"""Caches work that an OCI runtime repeats for each container: two thirds of crun's cost of a start.

*The runtime's program.* At every start crun and runc copy themselves to a place that no container can write
(CVE-2019-5736) and execute the copy, unless they already run from a sealed file in memory
(``libcrun/cloned_binary.c``). So this module starts them from such a file, and replaces the file when the program on
disk changes.

*The compiled seccomp filter.* crun compiles the profile into a BPF program, stores it in the container's directory, and
accepts it as an annotation instead of compiling the profile (crun(1), ``run.oci.seccomp_bpf_data``). Later containers
with an identical profile reuse the first container's filter. The profile stays in the configuration, so a crun without
support for the annotation compiles it.
"""

from __future__ import annotations

import base64
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

from orchestrator.host.oci import Runtime
from worker.sandbox.profile import SandboxProfile

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
FILTER_ANNOTATION = "run.oci.seccomp_bpf_data"
INSTRUCTION_BYTES = 8


class SealedProgram:
    """A runtime's program as a sealed, immutable file in memory. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._copied: tuple[int, ...] = ()
        self._sealed = -1

    def path(self) -> str:
        """The path to execute; the program on disk if this kernel executes no files in memory."""
        about = Path(self._path).stat()
        copied = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
        with self._lock:
            if copied != self._copied:
                self.close()
                self._sealed, self._copied = _sealed(self._path), copied
            return f"/proc/{os.getpid()}/fd/{self._sealed}" if self._sealed >= 0 else self._path

    def close(self) -> None:
        """Close the copy; running processes keep it."""
        if self._sealed >= 0:
            os.close(self._sealed)
            self._sealed = -1


def _sealed(path: str) -> int:
    sealed = os.memfd_create(Path(path).name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(sealed, "wb", closefd=False) as file:
        file.write(Path(path).read_bytes())
    os.fchmod(sealed, 0o755)
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, SEALS)
    if os.access(f"/proc/self/fd/{sealed}", os.X_OK):
        return sealed
    os.close(sealed)
    return -1


class CompiledFilter:
    """The filters that crun compiled from the profiles with and without a loopback.

    Thread-safe: an update replaces a single reference.
    """

    def __init__(self, runtime: Runtime, state: Path) -> None:
        self._state = state
        self._wanted = "crun" in Path(runtime.path).name
        self._known: tuple[tuple[dict[str, Any], str], ...] = ()

    def annotations(self, profile: SandboxProfile) -> dict[str, str]:
        """The annotations to add to a container's configuration."""
        known = next((program for made_of, program in self._known if made_of == profile.seccomp), None)
        return {FILTER_ANNOTATION: known} if known is not None else {}

    def learn(self, profile: SandboxProfile) -> None:
        """Cache the filter of a started container."""
        made = self._state / profile.name / "seccomp.bpf"
        if self._wanted and FILTER_ANNOTATION not in self.annotations(profile) and made.exists():
            program = made.read_bytes()
            if program and len(program) % INSTRUCTION_BYTES == 0:
                self._known += ((profile.seccomp, base64.b64encode(program).decode()),)
