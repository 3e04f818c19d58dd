"""What an OCI runtime does anew for each container, done once for all: two thirds of what starting one costs crun.

*Its program.* At every start crun and runc make a copy of themselves that no container can write to (CVE-2019-5736) and
execute themselves again, unless they find that they already run from one: a file in memory with every seal
(``libcrun/cloned_binary.c``). So they are started from such a file. It is made again when the program on disk is
another one.

*Its seccomp filter.* crun compiles the profile into a program for the kernel, leaves it in its directory of the
container, and takes it instead of the profile when it comes as an annotation (crun(1), ``run.oci.seccomp_bpf_data``).
What the first container was given, later ones with the very same profile get again. The profile stays in the
configuration, so a crun that does not know the annotation compiles it as ever.
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
    """A runtime's program in memory, where nobody can write to it. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._copied: tuple[int, ...] = ()
        self._sealed = -1

    def path(self) -> str:
        """What to execute; the program itself where this kernel executes no files in memory."""
        about = Path(self._path).stat()
        copied = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
        with self._lock:
            if copied != self._copied:
                self.close()
                self._sealed, self._copied = _sealed(self._path), copied
            return f"/proc/{os.getpid()}/fd/{self._sealed}" if self._sealed >= 0 else self._path

    def close(self) -> None:
        """Let go of the copy; what runs from it runs on."""
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
    """The seccomp filters that crun made of the profiles there are: with and without a loopback.

    Thread-safe: one word is replaced.
    """

    def __init__(self, runtime: Runtime, state: Path) -> None:
        self._state = state
        self._wanted = "crun" in Path(runtime.path).name
        self._known: tuple[tuple[dict[str, Any], str], ...] = ()

    def annotations(self, profile: SandboxProfile) -> dict[str, str]:
        """What to add to a container's annotations."""
        known = next((program for made_of, program in self._known if made_of == profile.seccomp), None)
        return {FILTER_ANNOTATION: known} if known is not None else {}

    def learn(self, profile: SandboxProfile) -> None:
        """Keep what a container that has started by now was given."""
        made = self._state / profile.name / "seccomp.bpf"
        if self._wanted and FILTER_ANNOTATION not in self.annotations(profile) and made.exists():
            program = made.read_bytes()
            if program and len(program) % INSTRUCTION_BYTES == 0:
                self._known += ((profile.seccomp, base64.b64encode(program).decode()),)
