"""The form of API keys: scanners find them, and the checksum shows mistyped keys."""

from __future__ import annotations

import re
import zlib
from itertools import pairwise

import pytest

from orchestrator.models.key_format import DIGITS, PATTERN, is_mistyped, new_secret
from tests.harness import ROOT


def test_documented_expression_finds_a_key_in_text() -> None:
    expression = r"\bmfk_[0-9A-Za-z]{49}\b"
    assert expression in (ROOT / "docs" / "api.md").read_text()
    for number in (None, 0, 2**256 - 1):
        secret = new_secret(number)
        assert re.findall(expression, f"MAYFLY_TOKEN={secret}\n") == [secret]
        assert PATTERN.fullmatch(secret)
        assert not is_mistyped(secret)


def test_checksum_is_the_documented_one() -> None:
    secret = new_secret()
    value = 0
    for character in secret[-6:]:
        value = value * 62 + DIGITS.index(character)
    assert value == zlib.crc32(secret[:-6].encode())


def test_every_change_of_one_character_is_noticed() -> None:
    secret = new_secret()
    for place in range(4, len(secret)):
        changed = secret[:place] + ("a" if secret[place] != "a" else "b") + secret[place + 1 :]
        assert is_mistyped(changed), place
    swapped = [secret[:n] + b + a + secret[n + 2 :] for n, (a, b) in enumerate(pairwise(secret)) if n > 4 and a != b]
    assert all(map(is_mistyped, swapped))


@pytest.mark.parametrize("secret", ["", "mfk_", "mfk_" + "a-" * 20 + "abc", "eyJ.eyJ.x", new_secret(7) + "0"])
def test_keys_of_other_forms_are_looked_up(secret: str) -> None:
    assert not is_mistyped(secret)


def test_numbers_keep_their_order_and_differ() -> None:
    assert len({new_secret() for _ in range(1000)}) == 1000
    assert new_secret(5) != new_secret(6)
    assert new_secret(5) == new_secret(5)
