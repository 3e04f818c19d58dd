"""Untrusted text is escaped in log lines and at terminals."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.logs import MAX_CHARACTERS, harmless, printable
from tests.harness import ROOT

HOSTILE = {
    "ANSI": "\x1b[2J\x1b]0;title\x07",
    "C1": "\x9b31m\x85",
    "DEL": "a\x7f\x08b",
    "new line": 'ok\n{"event": "forged"}\r',
    "bidi override": "\u202egnp.exe\u2066x\u2069\u200f",
    "separators": "a\u2028b\u2029c\xa0d",
    "zero width": "pay\u200bpal\ufeff\u00ad",
    "surrogate": "\ud800",
    "tags": "\U000e0041",
    "private use": "\ue000",
}
# Every character there is, those that Unicode leaves out or splits in half included, and more of those that bite.
ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from("".join(HOSTILE.values())))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_escaped(text: str) -> None:
    made = printable(text)
    assert made.isprintable()
    assert made != text


@given(ANY_TEXT)
def test_log_text_is_printable(text: str) -> None:
    made = printable(text)
    assert all(character == " " or unicodedata.category(character)[0] not in "CZ" for character in made)
    made.encode()
    assert printable(made) == made
    assert (made == text) == text.isprintable()


@given(ANY_TEXT, st.integers(1, 50))
def test_long_log_text_is_cut_and_marked(text: str, most: int) -> None:
    made = printable(text, most)
    if len(text) <= most:
        assert "more characters" not in made
    else:
        assert made.endswith(f"… ({len(text) - most} more characters)")
    assert len(made) <= 10 * most + 40


def test_ordinary_log_text_is_unchanged() -> None:
    for text in ("plain", "C:\\path", "naïve 日本語 🦋 שלום", "\\x1b is only text"):
        assert printable(text) == text


@given(st.recursive(ANY_TEXT | st.integers() | st.none() | st.booleans(), lambda inner: st.lists(inner, max_size=3)))
def test_values_keep_their_shape(value: object) -> None:
    made = harmless({"x": value})["x"]
    text = json.dumps(made, ensure_ascii=False)
    assert text.isprintable()
    assert type(made) is type(value)


def test_log_line_is_a_line_of_escaped_json() -> None:
    program = f"""
import structlog
from orchestrator.logs import configure_logging
configure_logging("info")
log = structlog.get_logger()
hostile = {HOSTILE!r}
log.info("security.event", data=hostile, **{{"na\\x1bme": ["x" * 5000]}})
try:
    raise ValueError("\\x1b[2Jbad\\n{{}}")
except ValueError:
    log.error("crashed", exc_info=True)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, timeout=60)
    lines = done.stderr.decode("ascii").splitlines()
    assert len(lines) == 2
    event, crash = (json.loads(line) for line in lines)
    assert all(text.isprintable() for text in event["data"].values())
    assert event["data"]["ANSI"] == "\\x1b[2J\\x1b]0;title\\x07"
    assert len(event["na\\x1bme"][0]) < MAX_CHARACTERS + 50
    assert "Traceback" in crash["exception"]
    assert len(crash["exception"].splitlines()) >= 4, "a trace keeps its lines"
    assert all(line.isprintable() for line in crash["exception"].splitlines())
    assert "\\x1b[2Jbad" in crash["exception"]
