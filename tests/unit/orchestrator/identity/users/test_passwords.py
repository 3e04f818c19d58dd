"""Passwords: their bounds in bytes, the list of common ones, equal bytes for equal characters."""

from __future__ import annotations

import pytest
from argon2 import extract_parameters

from orchestrator.errors import ValidationFailed
from orchestrator.identity.users.passwords import MOST_HASHES, NO_HASH, Passwords, check, is_common, normalised


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
