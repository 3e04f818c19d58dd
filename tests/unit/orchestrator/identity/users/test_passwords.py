"""Passwords: their bounds in bytes, the list of common ones, equal bytes for equal characters."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal

import pytest
from anyio import to_thread
from argon2 import PasswordHasher, extract_parameters

from orchestrator.errors import LoginSlowed, ValidationFailed
from orchestrator.identity.users.passwords import (
    MOST_HASHES,
    MOST_WAITING,
    NO_HASH,
    Passwords,
    check,
    is_common,
    normalised,
)


def code_of(password: str) -> str | None:
    try:
        check(password, "ann", "acme")
    except ValidationFailed as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("x7 q!zt4 mp2w9", "password_length"),
        ("x7 q!zt4 mp2w9k", None),
        ("only small letters of a sentence", None),
        ("\u00fc\u00e4\u00f6\u00fc\u00e4\u00f6\u00fcx", None),
        ("\U0001f98b\U0001f680\U0001f3b8\U0001f984", None),
        ("qz" + "ab7!" * 63, None),
        ("qzw" + "ab7!" * 63 + "xy", "password_length"),
        ("passwordpassword", "password_common"),
        ("PASSWORDPassword", "password_common"),
        ("1qaz2wsx3edc4rfv", "password_common"),
        ("aaaaaaaaaaaaaaaaaaaa", "password_common"),
        ("abcabcabcabcabcabc", "password_common"),
        ("Mayfly-Admin-2026", "password_guessable"),
        ("acme-ann-acme-26", "password_guessable"),
        ("ANN123 mayfly ACME!", "password_guessable"),
        ("anna, karla and acme", None),
    ],
)
def test_bounds_and_common_passwords(password: str, code: str | None) -> None:
    assert code_of(password) == code


def test_composed_and_decomposed_characters_are_one_password() -> None:
    assert normalised("cafe\u0301 au lait, please") == normalised("caf\u00e9 au lait, please")


def test_list_has_more_than_asvs_wants_of_passwords_that_the_bounds_allow() -> None:
    from orchestrator.identity.users.passwords import _common

    assert len(_common()) > 3000
    assert all(15 <= len(one) <= 256 and is_common(one) for one in _common())


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_hash_of_no_password_has_the_parameters_of_every_hash(anyio_backend: str) -> None:
    passwords = Passwords()
    made = await passwords.hash("x7 q!zt4 mp2w9k")
    assert made.startswith("$argon2id$")
    parameters = extract_parameters(made)
    assert parameters == extract_parameters(NO_HASH)
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (64 * 1024, 3, 1)
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)
    assert await passwords.matches(made, "x7 q!zt4 mp2w9k")
    assert not await passwords.matches(made, "x7 q!zt4 mp2w9K")
    assert not await passwords.matches(None, "x7 q!zt4 mp2w9k")
    assert not await passwords.matches("no hash at all", "x7 q!zt4 mp2w9k")
    assert MOST_HASHES == 2


class BlockedHasher(PasswordHasher):
    """Computes no hash before it may; ``most``: computed at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end, self.lock = threading.Event(), threading.Lock()
        self.now = self.most = self.begun = 0

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self._compute()
        return NO_HASH

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self._compute()
        return True

    def _compute(self) -> None:
        assert threading.current_thread() is not threading.main_thread(), "the event loop has other requests"
        with self.lock:
            self.now, self.begun = self.now + 1, self.begun + 1
            self.most = max(self.most, self.now)
        assert self.may_end.wait(60)
        with self.lock:
            self.now -= 1


async def _meet_crowd(hasher: BlockedHasher) -> list[bool | str]:
    """The answers to as many as may hash and wait; meanwhile another is refused, and other requests have threads."""
    passwords = Passwords()
    passwords._hasher, limiter = hasher, passwords._limiter
    crowd: list[asyncio.Task[bool | str]] = []
    try:
        for number in range(MOST_HASHES + MOST_WAITING):
            call = passwords.matches(None, "x") if number % 2 else passwords.hash("x7 q!zt4 mp2w9k")
            crowd.append(asyncio.create_task(call))
        async with asyncio.timeout(60):
            while hasher.begun + limiter.statistics().tasks_waiting < len(crowd):
                assert not any(task.done() for task in crowd)
                await asyncio.sleep(0.001)
        assert hasher.begun == MOST_HASHES
        for call in (passwords.matches(None, "x"), passwords.hash("x7 q!zt4 mp2w9k")):
            with pytest.raises(LoginSlowed):
                await asyncio.wait_for(call, 20)
        others = threading.Barrier(30, timeout=60)  # of the forty threads for all requests
        async with asyncio.timeout(60):
            await asyncio.gather(*(to_thread.run_sync(others.wait) for _ in range(others.parties)))
        assert (hasher.begun, hasher.most) == (MOST_HASHES, MOST_HASHES)
    finally:
        hasher.may_end.set()
    return await asyncio.gather(*crowd)


def test_crowd_of_hashes_takes_two_threads_and_others_requests_go_on() -> None:
    hasher = BlockedHasher()
    assert set(asyncio.run(_meet_crowd(hasher))) == {True, NO_HASH}
    assert (hasher.begun, hasher.most) == (MOST_HASHES + MOST_WAITING, MOST_HASHES)
