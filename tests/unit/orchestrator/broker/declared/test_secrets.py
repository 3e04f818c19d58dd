"""Secrets go only where their file says, and nothing of them is in a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.broker.declared.secrets import NONE, SecretUnusable, secret_of
from orchestrator.models.tool_servers import ToolServer

GOOD = 'origin = "https://api.example"\ntenants = ["t"]\n[headers]\nAuthorization = "Bearer s3cret"\n'


def server(url: str = "https://api.example/mcp", **fields: Any) -> ToolServer:
    return ToolServer(name="s", url=url, **{"secret": "key", **fields})


def test_headers_go_to_the_origin_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "key.toml").write_text(GOOD)
    for url in ("https://api.example/mcp", "https://api.example:443/", "https://API.example/x"):
        assert secret_of(tmp_path, "t", server(url)).headers == {"Authorization": "Bearer s3cret"}
    assert secret_of(tmp_path, "t", server(secret=None)) == NONE


@pytest.mark.parametrize(
    "url",
    ["http://api.example/mcp", "https://api.example:8443/", "https://evil.example/", "https://api.example.evil/",
     "https://api.example@evil.example/"],
)  # fmt: skip
def test_headers_go_nowhere_else(tmp_path: Path, url: str) -> None:
    (tmp_path / "key.toml").write_text(GOOD)
    with pytest.raises(SecretUnusable, match="not for this URL"):
        secret_of(tmp_path, "t", server(url))


def test_secret_is_refused_to_other_tenants(tmp_path: Path) -> None:
    (tmp_path / "key.toml").write_text(GOOD)
    with pytest.raises(SecretUnusable, match="not for tenant 'u'"):
        secret_of(tmp_path, "u", server())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("s3cret", "not valid TOML"),
        ("tenants = []\nx = 's3cret'", "wrong fields: x"),
        ("origin = 's3cret'", "wrong fields: tenants"),
        ("tenants = ['t']\n[headers]\nA = 's3cret'", "not for this URL"),
    ],
)
def test_mistake_is_named_without_the_secret(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "key.toml").write_text(content)
    with pytest.raises(SecretUnusable) as caught:
        secret_of(tmp_path, "t", server())
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, OSError)


def test_secret_of_a_command_needs_no_origin(tmp_path: Path) -> None:
    (tmp_path / "key.toml").write_text("tenants = ['t']\n[env]\nTOKEN = 'x'\n")
    command = ToolServer(name="s", command=("x",), secret="key", origin="file")
    assert secret_of(tmp_path, "t", command).env == {"TOKEN": "x"}
