"""JSON bodies: a bound on values, and duplicate names."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.bodies import FEW_SEPARATORS, MAX_TOKENS, JsonBody, refuse_repeated
from orchestrator.errors import ValidationFailed
from orchestrator.models.submission import Submission

SUBMISSION = JsonBody(Submission)
NAMES = st.text(max_size=3)
VALUES = st.recursive(st.none() | st.floats(allow_nan=False), lambda some: st.lists(some, max_size=3), max_leaves=5)


def body(text: str) -> bytes:
    """A submission with a text among its files."""
    return json.dumps({"environment": "python", "code": "1", "files": [{"path": "a", "content": text}]}).encode()


def test_separators_within_texts_are_no_values() -> None:
    text = "," * (2 * MAX_TOKENS)
    assert SUBMISSION.parse(body(text)).files[0].content == text


@pytest.mark.parametrize("value", ["[]", "{}", "1"])
def test_number_of_values_is_bounded_before_they_are_made(value: str) -> None:
    """Also where the first separators lie close together, and the rest far away."""
    for gap in ("", " " * 30 * FEW_SEPARATORS):
        many = f"[{f'{value},' * FEW_SEPARATORS}{gap}{f'{value},' * MAX_TOKENS}{value}]"
        with pytest.raises(ValidationFailed, match="has more than 1000000 values"):
            SUBMISSION.parse(f'{{"tools": {many}}}'.encode())


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_exactly_duplicate_names_are_refused(pairs: list[tuple[str, object]]) -> None:
    text = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs)
    document = f'[{{"outer": {{{text}}}}}]'.encode()
    if len({name for name, _ in pairs}) == len(pairs):
        refuse_repeated(document)
    else:
        with pytest.raises(ValidationFailed, match=re.escape("appears twice in an object")):
            refuse_repeated(document)


def test_duplicate_is_found_by_its_meaning_and_named() -> None:
    with pytest.raises(ValidationFailed, match="^ab: ") as refused:
        refuse_repeated(rb'{"ab": 1, "a\u0062": 2}')
    assert refused.value.code == "duplicate_field"
