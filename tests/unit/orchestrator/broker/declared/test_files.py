"""Declarations in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.broker.declared import files
from orchestrator.store.tools.calls import Upstream


def test_file_declares_a_server_for_its_tenants(tmp_path: Path) -> None:
    (tmp_path / "git.toml").write_text('command = ["git-server"]\ntenants = ["a", "b"]\n')
    (tmp_path / "web.toml").write_text('url = "https://web.example/mcp"\n[hints.get]\nread_only = true\n')
    (tmp_path / "notes.txt").write_text("no declaration")
    declared = files.read(tmp_path)
    assert declared.mistakes == {}
    assert set(declared.servers) == {Upstream("a", "git"), Upstream("b", "git"), Upstream("default", "web")}
    assert {server.origin for server in declared.servers.values()} == {"file"}
    assert declared.servers[Upstream("default", "web")].hints["get"].read_only is True


@pytest.mark.parametrize(
    ("name", "content", "mistake"),
    [
        ("a.toml", "url = 1", "url"),
        ("a.toml", "", "exactly one of url, command, environment"),
        ("a.toml", 'url = "https://x/"\ncommand = ["x"]', "exactly one of"),
        ("a.toml", 'url = "https://x/"\ntenants = []', "at least 1 item"),
        ("a.toml", 'url = "https://x/"\nunknown = 1', "unknown"),
        ("a.toml", "url = ", "Invalid value"),
        ("caller.toml", 'url = "https://x/"', "reserved"),
        ("mayfly.toml", 'url = "https://x/"', "reserved"),
        ("Bad.toml", 'url = "https://x/"', "name"),
        ("a.toml", 'name = "b"\nurl = "https://x/"', "must have the name b.toml"),
    ],
)
def test_mistake_is_named_and_leaves_other_files_alone(tmp_path: Path, name: str, content: str, mistake: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "good.toml").write_text('url = "https://x/"')
    declared = files.read(tmp_path)
    assert list(declared.servers) == [Upstream("default", "good")]
    assert list(declared.mistakes) == [name]
    assert mistake in declared.mistakes[name]


def test_state_changes_with_files(tmp_path: Path) -> None:
    states = [files.state(tmp_path / "none"), files.state(tmp_path)]
    (tmp_path / "a.toml").write_text("x = 1")
    states.append(files.state(tmp_path))
    (tmp_path / "a.toml").write_text("x = 12")
    states.append(files.state(tmp_path))
    assert states[0] == states[1] == frozenset()
    assert len(set(states)) == 3
    assert files.state(tmp_path) == states[-1]
