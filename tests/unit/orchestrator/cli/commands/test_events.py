"""The output of ``mayfly events`` for an event."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.commands.events import begin, line
from orchestrator.cli.console import json_text

ANY_TEXT = st.text(st.characters(exclude_categories=()))
ID = "0123456789abcdef" * 2


def event(**data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": "x", "source": "/mayfly/worker/w", "type": "dev.mayfly.security.oom_killed",
        "subject": ID, "time": "2026-01-31T12:00:00.123000Z", "datacontenttype": "application/json", "data": data,
    }  # fmt: skip


def test_an_event_is_a_line() -> None:
    found = line(event(kind="oom_killed", detail="Memory passed 96 MiB.", process="python3", count=2))
    assert found == (
        f"2026-01-31T12:00:00Z  oom_killed           {ID}  Memory passed 96 MiB. (process python3, count 2)"
    )


def test_a_state_is_a_line_too() -> None:
    state = {**event(state="running", attempt=2), "type": "dev.mayfly.execution.running"}
    assert line(state).endswith(f"running              {ID}  attempt 2")
    assert line({**state, "subject": None}).split()[2] == "-"


@given(ANY_TEXT, ANY_TEXT)
def test_no_event_drives_a_terminal(detail: str, path: str) -> None:
    hostile = event(detail=detail, path=path)
    assert line(hostile).isprintable()
    for text in (json_text(hostile), json_text(hostile, indent=2)):
        assert text.replace("\n", "").isprintable()
        assert json.loads(text) == json.loads(json.dumps(hostile))
    assert "\n" not in json_text(hostile)


@pytest.mark.parametrize(("text", "ago"), [("30s", 30), ("15m", 900), ("2h", 7200), ("7d", 7 * 86400)])
def test_durations_count_back(text: str, ago: int) -> None:
    found = datetime.fromisoformat(begin(text))
    assert abs(datetime.now(UTC) - timedelta(seconds=ago) - found) < timedelta(seconds=10)


def test_invalid_duration_is_passed_to_the_api() -> None:
    for text in ("2026-01-31T12:00:00Z", "yesterday", "", "5", "²h", "9" * 50 + "d"):
        assert begin(text) == text
