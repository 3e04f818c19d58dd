"""Directories of a worker host that `mayfly host run --user` gives to the worker's user."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from orchestrator.cli.commands.hosts.group import FILES, TOKEN, _share

ACCOUNT = pwd.getpwuid(os.geteuid())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    (made / "images").mkdir(parents=True)
    for member in (*FILES, TOKEN):
        (made / member).touch()
    return made


@pytest.mark.parametrize("target", [".", "gone"])
def test_link_into_memory_of_an_earlier_worker_becomes_a_directory(state: Path, target: str) -> None:
    """It leads into a directory of root's, which is gone after a restart of the host."""
    sandboxes = state / "sandboxes"
    sandboxes.symlink_to(state.parent / target)
    _share(state, sandboxes, ACCOUNT)
    assert sandboxes.is_dir()
    assert not sandboxes.is_symlink()


def test_link_that_an_operator_named_stays(state: Path) -> None:
    link = state.parent / "sandboxes"
    link.symlink_to(state.parent)
    _share(state, link, ACCOUNT)
    assert link.readlink() == state.parent
