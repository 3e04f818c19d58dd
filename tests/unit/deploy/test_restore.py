"""deploy/restore.sh where compose cannot list the services that run: a command that fails stands in for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.settings import inherited_environment
from tests.harness import ROOT

COMPOSE = """#!/bin/sh
echo "$*" >> "$0.calls"
exit 3
"""


def test_nothing_is_restored_if_compose_does_not_answer(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("deploy/restore.sh needs root")
    compose = tmp_path / "compose"
    compose.write_text(COMPOSE)
    compose.chmod(0o700)
    (tmp_path / "compose.env").write_text(f"MAYFLY_DOCKER_SOCKET={tmp_path}/none.sock\n")
    command = [str(ROOT / "deploy" / "restore.sh"), str(tmp_path), "--identity", "identity.txt"]
    env = inherited_environment(COMPOSE=str(compose))
    assert subprocess.run(command, env=env, capture_output=True, timeout=60).returncode == 3
    calls = (tmp_path / "compose.calls").read_text().splitlines()
    assert calls == ["ps --services --filter status=running"], "nothing after the question that was not answered"
