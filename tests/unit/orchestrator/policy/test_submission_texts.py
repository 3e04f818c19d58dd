"""Variants of base64 and globs are normalised, or refused with a reason."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.base64_text import PIECE_CHARACTERS, canonical_base64
from orchestrator.policy.patterns import normalized_pattern
from sandbox_image.agent.files.globs import Glob

BLANKS = st.text(st.sampled_from(" \t\r\n"), max_size=2)


@given(st.binary(max_size=60), st.lists(BLANKS, min_size=90, max_size=90), st.booleans())
def test_base64_with_blanks_and_without_padding_is_the_same_bytes(data: bytes, blanks: list[str], pad: bool) -> None:
    text = base64.b64encode(data).decode()
    written = text if pad else text.rstrip("=")
    spread = "".join(digit + blank for digit, blank in zip(written, blanks, strict=False))
    assert canonical_base64(spread) == text
    assert canonical_base64(base64.encodebytes(data).decode()) == text


@given(st.text("AQgw+/=-_ %\n", max_size=12))
def test_accepted_base64_is_strict_base64(text: str) -> None:
    try:
        found = canonical_base64(text)
    except ValueError:
        return
    assert base64.b64encode(base64.b64decode(found, validate=True)).decode().rstrip("=")[:-1] in found


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("YQ==YQ==", "'=' at character 3 ends it"), ("%%%%", "'%' at character 1"),
        ("YW\nJj*A==", "'*' at character 6"),
        ("ü===", "'ü' at character 1"), ("YW_j", "'_' at character 3.*URL-safe"), ("Y", "one digit too few"),
        ("====", "too few"), ("YQ===", "more '='.*character 5"), ("YWJj=", "more '='.*character 5"),
        # Mistakes at and beyond the end of a piece, which by itself has none.
        (f"{'A' * (PIECE_CHARACTERS - 1)}=AAAA", f"'=' at character {PIECE_CHARACTERS} ends it"),
        (f"{'A' * PIECE_CHARACTERS}A%AA", f"'%' at character {PIECE_CHARACTERS + 2}"),
    ],
)  # fmt: skip
def test_a_mistake_in_base64_is_named_with_its_place(text: str, reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        canonical_base64(text)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("**", "**"), ("*.csv", "*.csv"), ("a/**/b.png", "a/**/b.png"), ("output/*.csv", "*.csv"),
        ("/output/*.csv", "*.csv"), ("/work/a.csv", "a.csv"), ("./a.csv", "a.csv"), ("plots/", "plots/**"),
        ("./plots//x/.", "plots/x/**"), ("/output", "**"), ("output/", "**"), ("/output/", "**"), (".", "**"),
        ("output", "output"), ("a..b", "a..b"), ("./output/plots/", "plots/**"), ("/output/output/x", "output/x"),
    ],
)  # fmt: skip
def test_pattern_is_normalised_as_meant(pattern: str, meant: str) -> None:
    assert normalized_pattern(pattern) == meant


@pytest.mark.parametrize(
    ("pattern", "reported"),
    [
        ("", "such as"), ("/etc/*", "/output and /work"), ("/*.csv", "relative"), ("../*", "relative to /output"),
        ("a/../b", "'..'"), ("a\nb", "control"), ("*" * 17, "at most 1024 characters, 16"),
        ("x" * 1025, "at most 1024"), ("/".join(["x"] * 33), "32"),
    ],
)  # fmt: skip
def test_unmatchable_pattern_is_refused_with_a_suggestion(pattern: str, reported: str) -> None:
    with pytest.raises(ValueError, match=reported.replace("*", r"\*").replace(".", r"\.")):
        normalized_pattern(pattern)


NAMES = st.text(st.sampled_from("ab.*"), min_size=1, max_size=3)


@given(
    st.lists(NAMES, min_size=1, max_size=4), st.sampled_from(["", "./", "/output/", "output/", "/work/"]), st.booleans()
)
def test_accepted_pattern_matches_its_literal_path(parts: list[str], before: str, below: bool) -> None:
    path = [part.replace("*", "a") for part in parts]
    if any(part in (".", "..") for part in [*parts, *path]):
        return
    pattern = normalized_pattern(before + "/".join(parts) + ("/" if below else ""))
    assert Glob(pattern).matches([*path, "x"] if below else path)
