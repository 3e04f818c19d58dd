"""The cache of an OCI runtime's repeated start-up work (``worker/drivers/oci/startup_cache.py``)."""

from __future__ import annotations

import base64
import fcntl
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.host.oci import Runtime
from tests.builders.sandboxes.profiles import profile_of
from worker.drivers.oci.startup_cache import FILTER_ANNOTATION, SEALS, CompiledFilter, SealedProgram

CRUN = Runtime("crun", "/usr/bin/crun", ("/usr/bin/crun",))


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    return Path(shutil.copy("/bin/echo", tmp_path / "runtime"))


def test_sealed_program_runs_and_is_immutable(echo: Path) -> None:
    sealed = SealedProgram(str(echo))
    path = sealed.path()
    assert subprocess.run([path, "hello"], capture_output=True, check=True).stdout == b"hello\n"
    with open(path, "rb") as file:
        assert fcntl.fcntl(file, fcntl.F_GET_SEALS) == SEALS  # what crun and runc look for
    with pytest.raises(PermissionError), open(path, "r+b") as file:
        file.write(b"#!/bin/evil")
    assert path == sealed.path()
    sealed.close()


def test_next_run_uses_the_program_upgraded_on_disk(echo: Path) -> None:
    sealed = SealedProgram(str(echo))
    sealed.path()
    fresh = echo.with_name("fresh")
    fresh.write_text("#!/bin/sh\necho upgraded\n")
    fresh.chmod(0o755)
    fresh.replace(echo)
    assert subprocess.run([sealed.path()], capture_output=True, check=True).stdout == b"upgraded\n"
    sealed.close()


def test_cached_filter_is_used_only_for_the_identical_profile(tmp_path: Path) -> None:
    first, filters = profile_of(), CompiledFilter(CRUN, tmp_path)
    assert filters.annotations(first) == {}
    (tmp_path / first.name).mkdir()
    (tmp_path / first.name / "seccomp.bpf").write_bytes(b"12345678")
    filters.learn(first)
    assert filters.annotations(first) == {FILTER_ANNOTATION: base64.b64encode(b"12345678").decode()}
    weaker = replace(first, seccomp={"defaultAction": "SCMP_ACT_ALLOW"})
    assert filters.annotations(weaker) == {}


@pytest.mark.parametrize("content", [None, b"", b"1234567"])
def test_malformed_filter_is_not_cached(tmp_path: Path, content: bytes | None) -> None:
    profile, filters = profile_of(), CompiledFilter(CRUN, tmp_path)
    (tmp_path / profile.name).mkdir()
    if content is not None:
        (tmp_path / profile.name / "seccomp.bpf").write_bytes(content)
    filters.learn(profile)
    assert filters.annotations(profile) == {}


def test_only_crun_gets_the_cached_filter(tmp_path: Path) -> None:
    profile, filters = profile_of(), CompiledFilter(Runtime("runc", "/usr/sbin/runc", ()), tmp_path)
    (tmp_path / profile.name).mkdir()
    (tmp_path / profile.name / "seccomp.bpf").write_bytes(b"12345678")
    filters.learn(profile)
    assert filters.annotations(profile) == {}
