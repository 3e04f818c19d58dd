"""Replaces personal data and keys in text with labels such as ``[EMAIL_1]``, the same value with the same label.

Found are e-mail addresses; payment cards (prefix and length of a known network, and Luhn's check digit); accounts
(IBAN, and its check digits); telephone numbers in international form (``+49 30 123456``) and North American form; keys
of well-known shapes. Not found: names, postal addresses, national telephone numbers elsewhere, numbers of identity
cards, and anything that a program spells otherwise: a value over two lines, in base64, or with words in between. The
filter keeps personal data from a model by default; it stops no program that wants to send it.

Linear in its input: patterns start only where a run of their characters starts, or are short.
"""

from __future__ import annotations

import re

HINT = re.compile(r"@|\d{3}|[A-Za-z0-9_/+-]{20}")  # without one of these there is nothing to find
EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,320}+@(?:[\w-]{1,63}\.){1,10}[\w-]{2,63}")
KEY = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}|glpat-[\w-]{20,255}"
    r"|xox[abeoprs]-[\w-]{10,255}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}|sk-[\w-]{20,255}|hf_[A-Za-z0-9]{30,255}"
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,255}|mfk_[\w-]{20,255}|SG\.[\w-]{16,64}\.[\w-]{16,64}"
    r"|eyJ[\w-]{10,4096}\.[\w-]{10,4096}\.[\w-]{0,4096})"
)
KEY_LINE = re.compile(
    r"^\s{0,8}(?=[^\n]{0,76}[a-z])(?=[^\n]{0,76}[A-Z])(?=[^\n]{0,76}\d)[A-Za-z0-9+/]{60,76}={0,2}\s{0,8}$"
)
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")
CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?!\d)")
PHONE = re.compile(
    r"(?<![\w+])\+[1-9](?:[ ./-]?\(?\d\)?){6,14}(?!\d)"
    r"|(?<![\w.-])(?:\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}([.-])\d{3}\1\d{4})(?![\w-])"
)
NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|35\d{14}|6(?:011|4[4-9]\d|5\d\d)\d{12,15}"
)
SHORTEST_IBAN = 15


class PersonalDataFilter:
    """Replaces what it finds, for one answer: labels are numbered in order, per kind. Not thread-safe."""

    def __init__(self) -> None:
        self._labels: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, text: str) -> str:
        """The text with labels in place of personal data."""
        if not HINT.search(text):
            return text
        text = KEY.sub(lambda found: self._label("KEY", found[0]), text)
        text = KEY_LINE.sub(lambda found: self._label("KEY", found[0].strip()), text)
        if "@" in text:
            text = EMAIL.sub(lambda found: self._label("EMAIL", found[0].lower()), text)
        text = IBAN.sub(self._account, text)
        text = CARD.sub(self._card, text)
        return PHONE.sub(lambda found: self._label("PHONE", _digits(found[0])), text)

    def _label(self, kind: str, value: str) -> str:
        label = self._labels.get((kind, value))
        if label is None:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            label = self._labels[kind, value] = f"[{kind}_{self._counts[kind]}]"
        return label

    def _account(self, found: re.Match[str]) -> str:
        text = found[0]
        for end in range(len(text), SHORTEST_IBAN - 1, -1):  # what follows may look like more of it
            value = text[:end].replace(" ", "")
            if len(value) >= SHORTEST_IBAN and text[end - 1] != " " and is_iban(value):
                return self._label("ACCOUNT", value) + text[end:]
        return text

    def _card(self, found: re.Match[str]) -> str:
        digits = _digits(found[0])
        return self._label("CARD", digits) if NETWORKS.fullmatch(digits) and is_luhn(digits) else found[0]


def is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    doubled = (int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def is_iban(value: str) -> bool:
    """Whether the check digits are right (ISO 13616: remainder 1 modulo 97)."""
    moved = value[4:] + value[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)
