"""The command line's sources of the API's URL and key, and the doctor's list of settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mayfly import ApiUnreachable, Client, MayflyError
from orchestrator.cli.commands.local.doctor import setting_rows, shown
from orchestrator.cli.connection import DEFAULT_URL, Configuration, api_of, state_dir
from orchestrator.settings import PREFIX, Settings, inherited_environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which `up` has been, with the working directory somewhere below it."""
    for name in [name for name in inherited_environment() if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    state = tmp_path / ".mayfly"
    state.mkdir()
    (state / "url").write_text("http://127.0.0.1:8123\n")
    (state / "api-key").write_text("mfk_own\n")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    return tmp_path


def test_state_directory_is_found_upward(checkout: Path) -> None:
    assert state_dir(None) == checkout / ".mayfly"
    assert api_of(Configuration()) == ("http://127.0.0.1:8123", "mfk_own")


def test_the_local_key_goes_to_no_other_url(checkout: Path) -> None:
    assert api_of(Configuration(url="https://elsewhere.example")) == ("https://elsewhere.example", "")
    assert api_of(Configuration(url="http://127.0.0.1:8123/")) == ("http://127.0.0.1:8123/", "mfk_own")
    assert api_of(Configuration(url="https://elsewhere.example", token="t")) == ("https://elsewhere.example", "t")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_another_users_directory_is_not_taken(checkout: Path) -> None:
    os.chown(checkout / ".mayfly", 12345, 12345)
    assert state_dir(None) == checkout / "deep" / "er" / ".mayfly"


def test_configured_directory_is_used_unchanged(checkout: Path) -> None:
    assert state_dir(Path("elsewhere")) == checkout / "deep" / "er" / "elsewhere"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "MAYFLY_STATE_DIR": "state",
            "MAYFLY_URL": "https://elsewhere.example",
            "MAYFLY_TOKEN": "t",
            "MAYFLY_ADMIN_KEY_FILE": "/run/key",
            "MAYFLY_ENVIRONMENTS_DIRS": '["/etc/one", "two"]',
        },
    ],
)
def test_the_command_reads_its_settings_as_the_server_does(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    read, settings = Configuration.from_environment(), Settings()
    assert (read.state_dir or Path(".mayfly")) == settings.state_dir
    assert (read.url or DEFAULT_URL) == settings.url
    assert (read.token, read.admin_key_file) == (settings.token, settings.admin_key_file)
    assert list(read.environments_dirs) == settings.environments_dirs


def test_every_setting_is_shown_with_its_source(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAYFLY_SLOTS", "7")
    rows = {name: (value, source) for name, value, source in setting_rows(Settings())}
    assert set(rows) == {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    assert rows["MAYFLY_SLOTS"] == ("7", "environment")
    assert rows["MAYFLY_QUEUE_LIMIT"] == ("5000", "default")
    assert rows["MAYFLY_STATE_DIR"] == (str(checkout / ".mayfly"), "found upward from here")


def test_secrets_are_not_shown() -> None:
    assert shown("token", "mfk_secret") == "(secret, set)"
    assert shown("redis_url", "redis://user:hunter2@host:6379/0") == "redis://user:(secret)@host:6379/0"
    assert shown("redis_url", "redis://:hunter2@host:6379/0") == "redis://:(secret)@host:6379/0"
    assert shown("redis_url", "redis://:a:b@c@host/0") == "redis://:(secret)@host/0"
    assert shown("redis_url", "redis://user@host/0") == "redis://user@host/0"
    sentinels = "redis+sentinel://:hunter2@[::1]:1,two/main/0?sentinel_password=hunter3&x=y"
    assert (
        shown("redis_url", sentinels) == "redis+sentinel://:(secret)@[::1]:1,two/main/0?sentinel_password=(secret)&x=y"
    )


def test_unreachable_api_message_names_the_remedy() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(ApiUnreachable, match="make up"):
        client.get("x")
    with pytest.raises(MayflyError):
        Client("no url").get("x")


def test_help_and_version_need_no_api() -> None:
    for words in (["--help"], ["run", "--help"], ["version"]):
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *words],
            env=inherited_environment(MAYFLY_URL="http://127.0.0.1:1"),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
