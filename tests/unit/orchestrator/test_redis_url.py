"""The URL of Redis with the password and the certificate authorities of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.settings import Settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rediss://api@redis:6379/0", "rediss://api:s%2F@redis:6379/0?ssl_ca_certs={}"),
        ("rediss+sentinel://a,b/main/0?x=1", "rediss+sentinel://:s%2F@a,b/main/0?x=1&ssl_ca_certs={}"),
    ],
)
def test_url_has_password_and_authorities(url: str, expected: str, tmp_path: Path) -> None:
    password, authorities = tmp_path / "password", tmp_path / "ca.crt"
    password.write_text("s/\n")
    settings = Settings(redis_url=url, redis_password_file=password, redis_ca_file=authorities)
    assert settings.effective_redis_url == expected.format(authorities)


@pytest.mark.parametrize("url", ["redis://redis:6379/0", ""])
def test_authorities_without_encryption_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use rediss://"):
        _ = Settings(redis_url=url, redis_ca_file=tmp_path / "ca.crt").effective_redis_url
