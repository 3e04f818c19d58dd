"""The keys of an issuer: fetched once for all that wait, at most once a minute, and never waited for without need."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from orchestrator.errors import Unauthenticated
from orchestrator.identity import REFUSAL, Principal
from orchestrator.identity.issuers import Issuers, key_sets
from orchestrator.identity.issuers.key_sets import keys_of
from orchestrator.models.issuers import Issuer
from tests.builders.forged_tokens import forged
from tests.builders.issuers import AUDIENCE, SigningKey

OLD, NEW = SigningKey("old"), SigningKey("new")


class Settings:
    """The issuers of the settings."""

    def __init__(self, *issuers: Issuer) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}

    def find(self, url: str) -> Issuer | None:
        return self._issuers.get(url)

    def in_settings(self, url: str) -> bool:
        return url in self._issuers


class Served:
    """An issuer's documents over HTTP, which can be changed, withheld and counted."""

    def __init__(self) -> None:
        self.keys, self.fetched, self.is_down = [OLD], 0, False
        self.may_answer = threading.Event()
        self.may_answer.set()
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.fetched += self.path == "/jwks"
                served.may_answer.wait(30)
                documents: dict[str, Any] = {
                    "/.well-known/openid-configuration": {"issuer": served.url, "jwks_uri": f"{served.url}/jwks"},
                    "/jwks": {"keys": [key.jwk(private=False) for key in served.keys]},
                }
                body = json.dumps(documents[self.path.removeprefix("/other")]).encode()
                self.send_response(503 if served.is_down else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: the test counts."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self._thread.start()

    def issuers(self) -> Issuers:
        return Issuers(Settings(Issuer(issuer=self.url, audience=AUDIENCE, tenant="t", roles={"r": "developer"})))

    def token(self, key: SigningKey, kid: str | None = None) -> str:
        return key.sign(self.claims(), kid=kid or key.kid)

    def claims(self, **changed: Any) -> dict[str, Any]:
        made = {"iss": self.url, "aud": AUDIENCE, "sub": "s", "iat": time.time(), "exp": time.time() + 300}
        return {name: value for name, value in {**made, **changed}.items() if value is not None}

    def stop(self) -> None:
        self.may_answer.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


async def fetches_end() -> None:
    """Wait for the fetches that run behind the requests."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(*words: Any, **named: Any) -> None:
        async def whole() -> None:
            await test(*words, **named)
            await fetches_end()

        asyncio.run(whole())

    return run


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.stop()


async def principal_of(issuers: Issuers, token: str) -> Principal:
    await issuers.prepare(token)
    return issuers.principal(token)


async def is_taken(issuers: Issuers, token: str) -> bool:
    try:
        return (await principal_of(issuers, token)).tenant == "t"
    except Unauthenticated:
        return False


@in_loop
async def test_all_that_wait_share_one_fetch(served: Served) -> None:
    issuers = served.issuers()
    found = await asyncio.gather(*(is_taken(issuers, served.token(OLD)) for _ in range(50)))
    assert (all(found), served.fetched) == (True, 1)


@in_loop
async def test_unknown_keys_are_looked_for_once_a_minute(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    issuers = served.issuers()
    assert await is_taken(issuers, served.token(OLD))
    served.keys = [NEW, OLD]
    for n in range(20):
        assert not await is_taken(issuers, served.token(NEW, f"unknown-{n}"))
        assert not await is_taken(issuers, served.token(NEW))
    assert served.fetched == 1
    monkeypatch.setattr(key_sets, "PAUSE_SECONDS", 0)
    assert await is_taken(issuers, served.token(NEW))
    assert await is_taken(issuers, served.token(OLD)), "the old key continues while the issuer has it"
    assert served.fetched == 2


@in_loop
async def test_key_that_the_issuer_took_back_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    issuers = served.issuers()
    assert await is_taken(issuers, served.token(OLD))
    served.keys = [NEW]
    monkeypatch.setattr(key_sets, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(key_sets, "KEPT_SECONDS", -1)
    assert await is_taken(issuers, served.token(OLD)), "the fetch runs behind the request"
    await fetches_end()
    assert served.fetched == 2
    assert not await is_taken(issuers, served.token(OLD))


@in_loop
async def test_requests_with_known_keys_do_not_wait_for_a_slow_issuer(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuers = served.issuers()
    assert await is_taken(issuers, served.token(OLD))
    monkeypatch.setattr(key_sets, "PAUSE_SECONDS", 0)
    served.may_answer.clear()
    waiting = asyncio.create_task(is_taken(issuers, served.token(NEW)))
    await asyncio.sleep(0)
    for _ in range(10):
        assert await is_taken(issuers, served.token(OLD))
    assert not waiting.done()
    served.may_answer.set()
    assert not await waiting


@in_loop
async def test_known_keys_stay_valid_while_the_issuer_is_down(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    issuers = served.issuers()
    assert await is_taken(issuers, served.token(OLD))
    monkeypatch.setattr(key_sets, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(key_sets, "KEPT_SECONDS", 0)
    served.is_down = True
    assert not await is_taken(issuers, served.token(NEW))
    assert await is_taken(issuers, served.token(OLD))
    assert issuers.principal(served.token(OLD)).id == f"oidc:{served.url}#s"


@in_loop
async def test_documents_of_another_issuer_are_not_taken(served: Served) -> None:
    other = Issuer(issuer=f"{served.url}/other", audience=AUDIENCE, tenant="t")
    token = OLD.sign({"iss": other.issuer, "aud": AUDIENCE, "sub": "s", "iat": time.time(), "exp": time.time() + 300})
    assert not await is_taken(Issuers(Settings(other)), token)


@in_loop
async def test_every_forged_token_is_refused_with_the_same_words(served: Served) -> None:
    issuers = served.issuers()
    assert await is_taken(issuers, served.token(OLD)), "the control"
    for name, token in forged(OLD, served.claims).items():
        with pytest.raises(Unauthenticated) as refused:
            await principal_of(issuers, token)
        assert (refused.value.message, refused.value.wrong_key) == (REFUSAL, True), name


def test_unusable_keys_of_a_set_are_left_out() -> None:
    good = OLD.jwk(private=False)
    small = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
    bad: list[Any] = [
        OLD.jwk(private=True), {**good, "use": "enc"}, {**good, "kid": None}, {**good, "kid": "x" * 300},
        {**good, "kty": "oct", "k": "AAAA"}, {**good, "alg": "HS256"}, {**good, "crv": "secp256k1"}, {**good, "x": "!"},
        {**small, "kid": "small"}, None, 7,
    ]  # fmt: skip
    assert keys_of({"keys": bad}) == {}
    assert list(keys_of({"keys": [*bad, good]})) == ["old"]
    with pytest.raises(ValueError, match="has no keys"):
        keys_of({})
