"""Addresses of registries, and files of credentials."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host.registry import Credentials, Registry, read_credentials


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://registry.example.com/mayfly", ", not http://registry.example.com."),
        ("registry.example.com/mayfly", "."),
        ("worker:precious@registry.example.com/mayfly", "."),
    ],
)
def test_refused_address_is_shown_without_its_password(address: str, shown: str) -> None:
    with pytest.raises(EnvironmentUnavailable) as refused:
        Registry(address)
    assert str(refused.value) == f"A repository has an https:// address{shown}"


@pytest.mark.parametrize("words", [("push", "python"), ("pull", f"python=sha256:{'0' * 64}")])
@pytest.mark.parametrize("user", ["worker:precious", "worker", ":precious"])
def test_address_with_credentials_is_refused_before_any_request(words: tuple[str, str], user: str) -> None:
    command, image = words
    done = CliRunner().invoke(app, ["images", command, f"https://{user}@127.0.0.1:1/mayfly", image])
    assert done.exit_code == 1
    assert "--credentials FILE" in done.output
    assert "precious" not in done.output


def test_credentials_come_from_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("worker:p@ss:word\n")
    file.chmod(0o600)
    assert read_credentials(file) == Credentials("worker", "p@ss:word")
    for mode in (0o640, 0o604, 0o660):
        file.chmod(mode)
        with pytest.raises(EnvironmentUnavailable, match="chmod 600"):
            read_credentials(file)


@pytest.mark.parametrize("content", [b"", b"precious", b"worker:", b":precious", b"\xffprecious"])
def test_file_without_credentials_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "credentials"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(EnvironmentUnavailable) as refused:
        read_credentials(file)
    assert "precious" not in str(refused.value)
    file.unlink()
    with pytest.raises(EnvironmentUnavailable, match="No such file"):
        read_credentials(file)
