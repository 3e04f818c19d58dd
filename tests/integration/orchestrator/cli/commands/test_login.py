"""``mayfly login`` and its tokens: own users at a real API."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import stat
import subprocess
import termios
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.logins import Logins
from tests.builders.people.own_users import OwnUser, OwnUsers
from tests.builders.people.terminals import Terminal
from tests.harness import Stack, free_port


@pytest.fixture(scope="module")
def users(api: Stack) -> OwnUsers:
    return OwnUsers(api)


@pytest.fixture
def terminal(api: Stack, tmp_path: Path) -> Terminal:
    return Terminal(api, tmp_path)


def test_log_in_status_use_and_log_out(terminal: Terminal, users: OwnUsers) -> None:
    user = users.create("developer")
    assert terminal.call("ls").returncode == 2, "no key, no log-in"
    assert terminal.call("login", "--status").returncode == 1
    refused = terminal.call("login", "--name", user.name, given="a wrong password\n")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert not terminal.file.exists()
    terminal.log_in(user)
    assert stat.S_IMODE(terminal.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(terminal.file.parent.stat().st_mode) == 0o700
    assert user.password not in terminal.file.read_text()
    assert terminal.call("ls").returncode == 0
    shown = json.loads(terminal.call("login", "--status", "--json").stdout)
    assert (shown["user"], shown["renewable"]) == (user.name, True)
    token = terminal.login()["access_token"]
    assert users.status(token) == 200
    assert terminal.call("logout").returncode == 0
    assert users.status(token) == 401
    assert json.loads(terminal.file.read_text()) == {}
    assert terminal.call("ls").returncode == 2


def test_log_out_forgets_a_log_in_only_after_its_end(terminal: Terminal, users: OwnUsers) -> None:
    user = users.create("developer")
    terminal.log_in(user)
    url, token = terminal.env["MAYFLY_URL"], terminal.login()["access_token"]
    away = f"http://127.0.0.1:{free_port()}"
    terminal.file.write_text(json.dumps({url: terminal.login(), away: terminal.login()}))
    terminal.env["MAYFLY_URL"] = away
    kept = terminal.call("logout")
    assert (kept.returncode, kept.stderr.count("\n")) == (1, 1), kept.stderr
    assert "is kept" in kept.stderr
    assert set(json.loads(terminal.file.read_text())) == {url, away}
    forgotten = terminal.call("logout", "--forget")
    assert (forgotten.returncode, forgotten.stdout.count("continues")) == (0, 1), forgotten.stderr
    assert set(json.loads(terminal.file.read_text())) == {url}
    assert users.status(token) == 200, "it has not ended"
    terminal.env["MAYFLY_URL"] = url
    assert terminal.call("logout").returncode == 0
    assert users.status(token) == 401
    terminal.log_in(user)
    terminal.file.write_text(json.dumps({url: {**terminal.login(), "refresh_token": "mfr_not_of_this_installation"}}))
    assert terminal.call("logout").returncode == 0, "there is no session to end"
    assert json.loads(terminal.file.read_text()) == {}


def test_token_that_ends_is_refreshed_once_by_users_of_the_file_at_the_same_time(
    terminal: Terminal, users: OwnUsers
) -> None:
    terminal.log_in(users.create("developer"))
    before, url = terminal.login(), terminal.env["MAYFLY_URL"]
    terminal.let_expire()
    found = [Logins(terminal.file).token_of(url) for _ in range(8)]  # each has read the token that has ended
    barrier = threading.Barrier(len(found))

    def ask(token: Any) -> str:
        barrier.wait(60)
        return str(token())

    with ThreadPoolExecutor(len(found)) as pool:
        tokens = set(pool.map(ask, found))
    after = terminal.login()
    assert tokens == {after["access_token"]}, "a second use of the refresh token would have ended the session"
    assert after["refresh_token"].split("_")[1:3] == [before["refresh_token"].split("_")[1], "1"]
    terminal.let_expire()
    assert terminal.call("ls").returncode == 0, "a command does the same"
    assert terminal.login()["refresh_token"].split("_")[2] == "2"


def test_log_in_that_was_ended_elsewhere_is_reported_and_forgotten(
    terminal: Terminal, users: OwnUsers, api: Stack
) -> None:
    user = users.create("developer")
    terminal.log_in(user)
    assert api.client.delete(f"/api/v1/users/{user.id}").status_code == 204
    terminal.let_expire()
    done = terminal.call("ls")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has ended. Type: mayfly login" in done.stderr
    assert json.loads(terminal.file.read_text()) == {}


def test_configured_token_goes_before_the_log_in(terminal: Terminal, users: OwnUsers, api: Stack) -> None:
    terminal.log_in(users.create("auditor"))
    assert terminal.call("ls").returncode == 126
    terminal.env["MAYFLY_TOKEN"] = api.key
    assert terminal.call("ls").returncode == 0


def test_password_is_asked_for_without_echo_at_a_terminal(terminal: Terminal, users: OwnUsers) -> None:
    user = users.create("developer")
    master, slave = pty.openpty()
    command = terminal.command("login", "--name", user.name)
    child = subprocess.Popen(
        command, env=terminal.env, cwd=terminal.home, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True, preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while b"Password: " not in seen:
        seen += os.read(master, 1000)
    os.write(master, f"{user.password}\n".encode())
    try:
        while piece := os.read(master, 1000):
            seen += piece
    except OSError:  # the other end of a terminal is closed
        pass
    assert child.wait(60) == 0, seen
    os.close(master)
    assert user.password.encode() not in seen
    assert b"Logged in at" in seen


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_users_are_administered_and_change_their_own_password(terminal: Terminal, users: OwnUsers, api: Stack) -> None:
    terminal.env["MAYFLY_TOKEN"] = api.key
    made = terminal.call(
        "users", "create", "ann", "--role", "operator", "--tenant", "t-cli", given="the first password\n"
    )
    assert made.returncode == 0, made.stderr
    listed = terminal.call("users", "list").stdout
    assert "ann\tt-cli\toperator\tFalse" in listed
    assert json.loads(terminal.call("users", "change", "ann", "--disable", "--json").stdout)["disabled"] is True
    assert json.loads(terminal.call("users", "change", "ann", "--enable", "--json").stdout)["disabled"] is False
    changed = terminal.call("users", "password", "ann", given="the first password\nanother long password\n")
    assert changed.returncode == 0, changed.stderr
    assert terminal.login()["user"] == "ann"
    assert terminal.call("users", "delete", "ann").returncode == 0
    assert terminal.call("users", "delete", "ann").returncode == 2


def test_sessions_are_listed_and_ended_by_their_user_and_by_an_administrator(
    terminal: Terminal, users: OwnUsers, api: Stack
) -> None:
    user = users.create("developer")
    first, second = users.session(user), users.session(user)
    ids = [session["refresh_token"].split("_")[1] for session in (first, second)]
    own = terminal.call("users", "sessions", user.name, "--own", "--end", ids[0], given=f"{user.password}\n")
    assert own.returncode == 0, own.stderr
    assert ids[1] in own.stdout
    assert ids[0] not in own.stdout
    assert [users.status(one["access_token"]) for one in (first, second)] == [401, 200]
    wrong = terminal.call("users", "sessions", user.name, "--own", given="another password\n")
    assert wrong.returncode == 2
    terminal.env["MAYFLY_TOKEN"] = api.key
    listed = json.loads(terminal.call("users", "sessions", user.name, "--json").stdout)["items"]
    assert [session["id"] for session in listed] == ids[1:]
    assert terminal.call("users", "sessions", user.name, "--end", ids[1]).returncode == 0
    assert users.status(second["access_token"]) == 401


def test_first_admin_is_made_with_a_random_password_and_keys_are_rotated(
    terminal: Terminal, users: OwnUsers, api: Stack
) -> None:
    terminal.env |= {"MAYFLY_TOKEN": api.key, "MAYFLY_STATE_DIR": api.env["MAYFLY_STATE_DIR"]}
    made = json.loads(terminal.call("admin", "create", "root", "--generate", "--json").stdout)
    assert made["roles"] == ["admin"]
    made_for_root = OwnUser(made["id"], "root", made["password"])
    assert users.log_in(made_for_root).json()["code"] == "password_change_required"
    given = f"{made['password']}\nquite another password\n"
    assert terminal.call("users", "password", "root", given=given).returncode == 0
    session = users.session(made_for_root._replace(password="quite another password"))
    assert users.status(session["access_token"], "/api/v1/users") == 200
    before = {key.kid for key in users.keys.counting()}
    assert terminal.call("admin", "rotate-keys").returncode == 0
    assert len({key.kid for key in users.keys.counting()} - before) == 1
    assert terminal.call("admin", "rotate-keys", "--if-missing").returncode == 0
    assert users.status(session["access_token"]) == 200, "tokens of the older key still count"
