"""The polls of a log-in by device code (RFC 8628), at an issuer with given answers, by a simulated clock."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from orchestrator.cli import oauth
from orchestrator.cli.commands.identity import flows
from orchestrator.cli.console import CommandFailed

TOKENS = {"access_token": "a-token", "expires_in": 300}
BEGUN = {
    "device_code": "a-device-code", "user_code": "ABCD-EFGH", "verification_uri": "https://login.example/device",
    "expires_in": 600, "interval": 7,
}  # fmt: skip
MISSING = "missing"
PENDING, SLOWER = {"error": "authorization_pending"}, {"error": "slow_down"}


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.pauses = 1000.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert len(self.pauses) < 100, "polls end"
        self.pauses.append(seconds)
        self.now += seconds


class ScriptedIssuer(HTTPServer):
    """An issuer with given answers: the first to the request for a code, each other to a poll; the last is repeated."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.answers: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []

    def log_in(self, *answers: dict[str, Any]) -> dict[str, Any]:
        """Log in at the issuer with these answers."""
        self.answers = list(answers)
        url = f"http://127.0.0.1:{self.server_port}"
        client = oauth.Client(url, "mayfly-cli", "https://mayfly.example", "openid")
        return dict(flows.by_code(client, oauth.Endpoints(f"{url}/token", f"{url}/device", "")))


class _Answers(BaseHTTPRequestHandler):
    server: ScriptedIssuer

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append({name: values[0] for name, values in parse_qs(form).items()})
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        content = json.dumps(answer).encode()
        self.send_response(400 if "error" in answer else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[ScriptedIssuer]:
    with ScriptedIssuer() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(flows, "time", made)
    return made


def test_polls_continue_while_pending_and_are_slower_when_asked(issuer: ScriptedIssuer, clock: Clock) -> None:
    assert issuer.log_in(BEGUN, PENDING, SLOWER, PENDING, SLOWER, TOKENS) == TOKENS
    assert clock.pauses == [7, 7, 12, 12, 17], "RFC 8628, 3.5: five seconds more from each slow_down on"
    begun, *polls = issuer.asked
    assert (begun["client_id"], begun["scope"]) == ("mayfly-cli", "openid")
    assert {poll["grant_type"] for poll in polls} == {"urn:ietf:params:oauth:grant-type:device_code"}
    assert {(poll["client_id"], poll["device_code"]) for poll in polls} == {("mayfly-cli", "a-device-code")}


def test_pause_without_an_interval_is_five_seconds(issuer: ScriptedIssuer, clock: Clock) -> None:
    begun = {name: value for name, value in BEGUN.items() if name != "interval"}
    assert issuer.log_in(begun, PENDING, TOKENS) == TOKENS
    assert clock.pauses == [5, 5]


def test_polls_end_with_the_code(issuer: ScriptedIssuer, clock: Clock) -> None:
    with pytest.raises(CommandFailed, match="not confirmed in time"):
        issuer.log_in({**BEGUN, "expires_in": 30}, PENDING)
    assert clock.now < 1000 + 30 + 7


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant"])
def test_other_errors_end_the_log_in_at_once(issuer: ScriptedIssuer, clock: Clock, error: str) -> None:
    with pytest.raises(oauth.Refused) as refused:
        issuer.log_in(BEGUN, PENDING, {"error": error}, TOKENS)
    assert (refused.value.code, len(issuer.asked)) == (error, 3)


@pytest.mark.parametrize(
    "changed",
    [{"device_code": MISSING}, {"verification_uri": MISSING}, {"interval": "often"}, {"expires_in": [1]}],
)
def test_answer_without_a_usable_code_fails_in_words(
    issuer: ScriptedIssuer, clock: Clock, changed: dict[str, Any]
) -> None:
    with pytest.raises(CommandFailed, match="no usable code"):
        issuer.log_in({name: value for name, value in {**BEGUN, **changed}.items() if value != MISSING}, TOKENS)
    assert (clock.pauses, len(issuer.asked)) == ([], 1)
