"""Personal data and keys are replaced consistently, what only looks like them is not, and cost is linear."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.mcp.budget import Material, Stream, render
from orchestrator.mcp.budget.personal_data import PersonalDataFilter, is_iban, is_luhn

# In pieces: tools that look for leaked keys must not find any in this file.
AWS, GITHUB, STRIPE = "AKIA" + "IOSFODNN7EXAMPLE", "ghp_" + "a1B2" * 9, "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail to ann.b+x@mail.example.org.", "mail to [EMAIL_1]."),
        ("<ann@example.org>, bob@example.org, ANN@example.org", "<[EMAIL_1]>, [EMAIL_2], [EMAIL_1]"),
        ("jürgen@münchen.example", "[EMAIL_1]"),
        ("card 4111 1111 1111 1111 and 4111-1111-1111-1111", "card [CARD_1] and [CARD_1]"),
        ("amex 378282246310005, mc 5555555555554444", "amex [CARD_1], mc [CARD_2]"),
        ("IBAN DE89 3704 0044 0532 0130 00 AND MORE", "IBAN [ACCOUNT_1] AND MORE"),
        ("GB82WEST12345698765432;", "[ACCOUNT_1];"),
        ("call +49 30 1234567 or (212) 555-0123 or 212-555-0123", "call [PHONE_1] or [PHONE_2] or [PHONE_2]"),
        (f"key={AWS}", "key=[KEY_1]"),
        (f"{GITHUB} {STRIPE}", "[KEY_1] [KEY_2]"),
        ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0abc.c2lnbmF0dXJl", "Bearer [KEY_1]"),
        ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj", "[KEY_1]"),
    ],
)
def test_personal_data_is_replaced(text: str, shown: str) -> None:
    assert PersonalDataFilter()(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # Luhn's digit is wrong
        "9000000000000001", "0.4111111111111111", "12345678901234567890123",  # no card network, a fraction, too long
        "DE88 3704 0044 0532 0130 00",  # check digits are wrong
        "2026-11-28 23:59:59.123456", "192.168.100.200", "100 200 3000", "+12", "1,234,567,890",
        "user@localhost", "@decorator", "a @ b", "x@y", "sha256:" + "0a" * 32, "deadbeef" * 8, "id-1234567",
        "The quick brown fox jumps over the lazy dog",
    ],
)  # fmt: skip
def test_text_similar_to_personal_data_stays(text: str) -> None:
    assert PersonalDataFilter()(text) == text


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["@", ".", "a", "1", " ", "+", "-", "DE89", "4111", "sk-", "eyJ", "(", "é", "\n"])))
def test_no_text_raises_and_labels_are_stable(parts: list[str]) -> None:
    text = "".join(parts)
    once = PersonalDataFilter()(text)
    assert PersonalDataFilter()(text) == once


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "1",
        "@",
        "a@",
        "a@a.",
        "a.",
        "+1",
        "1 ",
        "1-",
        "DE89",
        "DE89 ",
        "eyJ",
        "eyJa.",
        "sk-",
        "(212) ",
        "AKIA",
        "é@",
        " ",
    ],
)
def test_cost_is_linear(unit: str) -> None:
    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        begin = time.thread_time()
        PersonalDataFilter()(text)
        return time.thread_time() - begin

    small = min(seconds(10_000) for _ in range(5))
    assert min(seconds(100_000) for _ in range(2)) < 40 * small + 0.001  # quadratic would be 100 times


def test_a_rendering_is_consistent_and_without_the_values() -> None:
    material = Material(
        "0" * 32,
        "failed",
        "nonzero_exit",
        explanation="There is no file 'ann@example.org'.",
        stdout=Stream.of(b"to ann@example.org\n" + b"x%d y\n" % 7 * 5000 + b"from ann@example.org, bob@example.org\n"),
        stderr=Stream.of(b'{"mail": "bob@example.org"}\n'),
        security=("denied to ann@example.org",),
    )
    text = render(material, 500, "text", PersonalDataFilter()).text
    assert "@" not in text
    mails = {line for line in text.splitlines() if "[EMAIL_" in line}
    first = next(line for line in mails if line.startswith("to "))
    last = next(line for line in mails if line.startswith("from "))
    assert first.removeprefix("to ") == last.removeprefix("from ").split(",")[0]
    assert "@" in render(material, 500, "text").text


@given(st.integers(0, 10**15 - 1))
def test_luhn_digit_is_unique(number: int) -> None:
    assert sum(is_luhn(f"{number}{digit}") for digit in range(10)) == 1


def test_iban_check_digits() -> None:
    assert is_iban("DE89370400440532013000") and not is_iban("DE89370400440532013001")
