"""An accepted credential is logged once in some minutes for each address, without end of the number of callers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from orchestrator.api.door import accepted
from orchestrator.api.door.accepted import AcceptedCredentials
from orchestrator.audit import ORIGIN, Origin
from orchestrator.identity import Principal


@pytest.fixture(autouse=True)
def origin() -> Iterator[None]:
    token = ORIGIN.set(None)
    yield
    ORIGIN.reset(token)


def lines(noted: AcceptedCredentials, *callers: tuple[str, str]) -> list[tuple[str, str, str]]:
    """The kinds, principals and addresses that are logged for requests of these principals and addresses."""
    with capture_logs() as found:
        for id, address in callers:
            ORIGIN.set(Origin(address, "r"))
            noted.note(Principal(id=id, tenant="t", scopes=frozenset()))
    assert all(line["event"] == "credential.accepted" and line["request_id"] == "r" for line in found)
    return [(line["kind"], line["principal"], line["address"]) for line in found]


def test_each_principal_and_address_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = AcceptedCredentials()
    key, user = ("key:k", "2001:db8::1"), ("user:u", "2001:db8::1")
    assert lines(noted, key, key, user) == [("key", *key), ("user", *user)]
    elsewhere = ("key:k", "2001:db8::2")
    assert lines(noted, key, elsewhere) == [("key", *elsewhere)]
    monkeypatch.setattr(accepted, "PAUSE_SECONDS", 0.0)
    assert lines(noted, key) == [("key", *key)]


def test_number_of_remembered_callers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted, "MOST_KNOWN", 2)
    noted = AcceptedCredentials()
    first, *others = [(f"oidc:https://login#{number}", "a") for number in range(3)]
    assert len(lines(noted, first, *others)) == 3
    assert lines(noted, others[0]) == []
    assert len(lines(noted, first)) == 1, "the oldest was forgotten"
