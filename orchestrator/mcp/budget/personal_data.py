"""Replaces personal data and keys in text with labels such as ``[EMAIL_1]``, the same value with the same label.

The filter finds e-mail addresses; payment cards (prefix and length of a known network, and Luhn's check digit);
accounts (IBAN, and its check digits); telephone numbers in international form (``+49 30 123456``) and North American
form; keys of well-known formats. It misses names, postal addresses, other national telephone numbers, numbers of
identity cards, and unusual spellings: a value over two lines, in base64, or with words in between. The filter protects
against accidental disclosure; a program can evade it.

Linear in its input: patterns start only where a run of their characters starts, or are short.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

HINT = re.compile(r"@|\d{3}|[A-Za-z0-9_/+-]{20}")  # every value matches; text without a match is skipped
EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,320}+@(?:[\w-]{1,63}\.){1,10}[\w-]{2,63}")
KEY = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}|glpat-[\w-]{20,255}"
    r"|xox[abeoprs]-[\w-]{10,255}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}|sk-[\w-]{20,255}|hf_[A-Za-z0-9]{30,255}"
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,255}|mfk_[\w-]{20,255}|SG\.[\w-]{16,64}\.[\w-]{16,64}"
    r"|eyJ[\w-]{10,4096}\.[\w-]{10,4096}\.[\w-]{0,4096})"
)
KEY_LINE = re.compile(
    r"^[ \t]{0,8}(?=[^\n]{0,76}[a-z])(?=[^\n]{0,76}[A-Z])(?=[^\n]{0,76}\d)[A-Za-z0-9+/]{60,76}={0,2}[ \t\r]{0,8}$",
    re.MULTILINE,
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
LONGEST = 13_000  # characters of a value, which a JSON web token may have


class Part(NamedTuple):
    """A part of a text: unchanged, or a label in place of ``text[begin:end]``."""

    shown: str
    begin: int
    end: int
    is_label: bool = False


class PersonalDataFilter:
    """Replaces personal data in one answer: labels are numbered in order, per kind. Not thread-safe."""

    def __init__(self) -> None:
        self._labels: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, text: str) -> str:
        """The text with labels in place of personal data."""
        return "".join(part.shown for part in self.parts(text)) if HINT.search(text) else text

    def parts(self, text: str) -> list[Part]:
        """The text in parts, with labels in place of personal data."""
        parts = [Part(text, 0, len(text))]
        for pattern, labelled in (
            (KEY, lambda found: self._label("KEY", found[0], found)),
            (KEY_LINE, lambda found: self._label("KEY", found[0].strip(), found)),
            (EMAIL, lambda found: self._label("EMAIL", found[0].lower(), found)),
            (IBAN, self._account),
            (CARD, self._card),
            (PHONE, lambda found: self._label("PHONE", _digits(found[0]), found)),
        ):
            if pattern is not EMAIL or "@" in text:
                parts = [new for part in parts for new in _split(part, pattern, labelled)]
        return parts

    def cut(self, text: str, begin: int, end: int) -> tuple[str, int]:
        """The filtered ``text[begin:end]``, and its end: after the end of a value that begins before ``end``.

        The text before ``begin`` and after ``end`` is context: a value that crosses an end becomes a label.
        """
        shown: list[str] = []
        for part in self.parts(text):
            if part.end <= begin or part.begin >= end:
                continue
            if not part.is_label:
                shown.append(text[max(begin, part.begin) : min(end, part.end)])
            else:
                shown.append(part.shown)
                end = max(end, part.end)
        return "".join(shown), end

    def _label(self, kind: str, value: str, found: re.Match[str]) -> Part:
        label = self._labels.get((kind, value))
        if label is None:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            label = self._labels[kind, value] = f"[{kind}_{self._counts[kind]}]"
        return Part(label, *found.span(), True)

    def _account(self, found: re.Match[str]) -> Part | None:
        text = found[0]
        for end in range(len(text), SHORTEST_IBAN - 1, -1):  # the following text may look like a part of the IBAN
            value = text[:end].replace(" ", "")
            if len(value) >= SHORTEST_IBAN and text[end - 1] != " " and is_iban(value):
                return self._label("ACCOUNT", value, found)._replace(end=found.start() + end)
        return None

    def _card(self, found: re.Match[str]) -> Part | None:
        digits = _digits(found[0])
        return self._label("CARD", digits, found) if NETWORKS.fullmatch(digits) and is_luhn(digits) else None


def _split(part: Part, pattern: re.Pattern[str], labelled: Callable[[re.Match[str]], Part | None]) -> list[Part]:
    """A part, split at the matches of a pattern."""
    if part.is_label:
        return [part]
    found, at = [], 0
    for match in pattern.finditer(part.shown):
        if (label := labelled(match)) is not None:
            if label.begin > at:
                found.append(Part(part.shown[at : label.begin], part.begin + at, part.begin + label.begin))
            found.append(label._replace(begin=part.begin + label.begin, end=part.begin + label.end))
            at = label.end
    if at < len(part.shown):
        found.append(Part(part.shown[at:], part.begin + at, part.end))
    return found


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
