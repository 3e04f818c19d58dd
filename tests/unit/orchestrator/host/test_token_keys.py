"""The file of keys for access tokens: who signs when, until when older tokens count, and who may read it."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from orchestrator.host.token_keys import KEPT_SECONDS, TokenKeys, create, read, rotate


def age(path: Path, seconds: float) -> None:
    """Let so many seconds pass."""
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([{**row, "signs_from": row["signs_from"] - seconds} for row in rows]))


def test_older_key_counts_until_its_last_token_has_ended_and_is_dropped_by_the_next_rotation(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    old, new = rotate(path), rotate(path)
    keys = TokenKeys(path)
    current = keys.current()
    assert current is not None
    assert (current.kid, [key.kid for key in keys.counting()]) == (new, [old, new])
    age(path, KEPT_SECONDS - 60)
    assert TokenKeys(path).find(old) is not None
    age(path, 61)
    assert TokenKeys(path).find(old) is None
    assert [key.kid for key in TokenKeys(path).counting()] == [new]
    rotate(path)
    assert old not in [key.kid for key in read(path)]


def test_key_for_later_is_published_before_its_time(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    now, later = rotate(path), rotate(path, after_seconds=3600)
    keys = TokenKeys(path)
    current = keys.current()
    assert current is not None
    assert current.kid == now
    assert [key.kid for key in keys.counting()] == [now, later]
    assert keys.counting()[0].counts_until > time.time() + 3600


def test_forgotten_keys_end_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    rotate(path)
    only = rotate(path, forget=True)
    assert [key.kid for key in read(path)] == [only]


def test_file_is_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys"
    create(path)
    first = path.read_bytes()
    create(path)
    assert path.read_bytes() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert "d" not in read(path)[0].jwk()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"kid": "x"}]', '[{"kid": "x", "signs_from": 1, "pem": "x"}]'])
def test_another_file_is_refused_with_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(ValueError, match="rotate-keys"):
        read(path)
    assert TokenKeys(tmp_path / "none").current() is None
