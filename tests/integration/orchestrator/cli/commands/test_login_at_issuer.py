"""``mayfly login`` at a real OIDC issuer: by device code (RFC 8628), and by loopback with PKCE (RFC 8252)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests.builders.issuers import AUDIENCE, RealIssuer, SigningKey
from tests.builders.people.terminals import Browser, Terminal
from tests.harness import Stack

KEY = SigningKey("k1")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealIssuer]:
    made = RealIssuer(tmp_path_factory.mktemp("issuer"))
    made.start(KEY)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def api_settings(issuer: RealIssuer) -> dict[str, Any]:
    return {"issuers": [issuer.settings]}


@pytest.fixture
def terminal(api: Stack, tmp_path: Path) -> Terminal:
    return Terminal(api, tmp_path)


def address_in(line: str) -> str:
    found = re.search(r"http\S+", line)
    assert found, line
    return found[0]


def check_login(terminal: Terminal, issuer: RealIssuer) -> None:
    """The log-in works, and is refreshed when its token has ended."""
    assert terminal.login()["issuer"] == issuer.url
    assert terminal.call("ls").returncode == 0
    before = terminal.login()["access_token"]
    terminal.let_expire()
    done = terminal.call("ls")
    assert done.returncode == 0, done.stderr
    assert terminal.login()["access_token"] != before


@pytest.mark.parametrize("options", [[], ["--issuer", "{url}", "--client-id", "mayfly-cli", "--audience", AUDIENCE]])
def test_user_logs_in_by_device_code(terminal: Terminal, issuer: RealIssuer, options: list[str]) -> None:
    child, line = terminal.begin("login", *(word.format(url=issuer.url) for word in options))
    assert re.search(r"confirm the code [A-Z]{4}-[A-Z]{4}\.", line), line
    Browser().visit(address_in(line))
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert f"as a user of {issuer.url}" in out
    check_login(terminal, issuer)


def test_refused_device_code(terminal: Terminal) -> None:
    child, line = terminal.begin("login")
    Browser().visit(address_in(line), abort=True)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 2
    assert "access_denied" in err
    assert not terminal.file.exists()


def test_loopback_with_pkce(terminal: Terminal, issuer: RealIssuer) -> None:
    child, line = terminal.begin("login", "--browser")
    place = address_in(line)
    asked = parse_qs(urlsplit(place).query)
    assert asked["code_challenge_method"] == ["S256"]
    back = asked["redirect_uri"][0]
    assert urlsplit(back).hostname == "127.0.0.1"
    forged = httpx2.get(back, params={"code": "an-attackers-code", "state": "guessed"}, timeout=60)
    assert forged.status_code == 400, "another page's request does not end the log-in"
    assert "Mayfly has the answer" in Browser().visit(place)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    check_login(terminal, issuer)


@pytest.mark.parametrize("other", ["https://other.example", None])
def test_answer_of_another_issuer_is_dropped(terminal: Terminal, issuer: RealIssuer, other: str | None) -> None:
    """RFC 9207: the issuer says that its answers name it, so an answer with another name, or none, is not its own."""
    document = httpx2.get(f"{issuer.url}/.well-known/openid-configuration", timeout=60).json()
    assert document["authorization_response_iss_parameter_supported"] is True
    child, line = terminal.begin("login", "--browser")
    asked = parse_qs(urlsplit(address_in(line)).query)
    answer = {"code": "a-code", "state": asked["state"][0], **({"iss": other} if other else {})}
    assert httpx2.get(asked["redirect_uri"][0], params=answer, timeout=60).status_code == 200
    _, err = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "The answer is another issuer's" in err
    assert not terminal.file.exists()


def test_issuer_that_describes_itself_otherwise_is_refused(terminal: Terminal, issuer: RealIssuer) -> None:
    options = ("--client-id", "mayfly-cli", "--audience", AUDIENCE)
    done = terminal.call("login", "--issuer", f"{issuer.url}/", *options)
    assert (done.returncode, f"describes itself as '{issuer.url}'" in done.stderr) == (2, True), done.stderr


def test_code_alone_is_worth_nothing_without_the_verifier(terminal: Terminal, issuer: RealIssuer) -> None:
    """PKCE: a reader of the browser's address gets no tokens."""
    child, line = terminal.begin("login", "--browser")
    place = address_in(line)
    browser = Browser()
    browser.client.event_hooks = {"response": [lambda answer: seen.append(answer.headers.get("location", ""))]}
    seen: list[str] = []
    browser.visit(place)
    code = next(parse_qs(urlsplit(one).query)["code"][0] for one in seen if "code=" in one)
    form = {
        "grant_type": "authorization_code", "code": code, "client_id": "mayfly-cli", "code_verifier": "x" * 43,
        "redirect_uri": parse_qs(urlsplit(place).query)["redirect_uri"][0],
    }  # fmt: skip
    assert httpx2.post(f"{issuer.url}/token", data=form, timeout=60).status_code == 400
    child.communicate(timeout=60)


def test_log_out_revokes_the_refresh_token_at_the_issuer(terminal: Terminal, issuer: RealIssuer) -> None:
    answers = []
    for logs_out in (False, True):
        child, line = terminal.begin("login", "--browser")
        Browser().visit(address_in(line))
        child.communicate(timeout=60)
        token = terminal.login()["refresh_token"]
        if logs_out:
            done = terminal.call("logout")
            assert (done.returncode, "continues" in done.stdout) == (0, False), done.stderr
        form = {"grant_type": "refresh_token", "client_id": "mayfly-cli", "refresh_token": token}
        answers.append(httpx2.post(f"{issuer.url}/token", data=form, timeout=60))
    assert [answer.status_code for answer in answers] == [200, 400]
    assert answers[1].json()["error"] == "invalid_grant"
    assert json.loads(terminal.file.read_text()) == {}


def test_issuer_that_ended_the_grant_ends_the_log_in(terminal: Terminal, issuer: RealIssuer) -> None:
    child, line = terminal.begin("login")
    Browser().visit(address_in(line))
    child.communicate(timeout=60)
    issuer.stop()
    terminal.let_expire()
    away = terminal.call("ls")
    assert (away.returncode, "does not answer" in away.stderr) == (1, True), away.stderr
    assert terminal.login(), "an issuer that is away ends no log-in"
    issuer.start(KEY)  # which has forgotten every grant
    ended = terminal.call("ls")
    assert (ended.returncode, "Type: mayfly login" in ended.stderr) == (2, True), ended.stderr
