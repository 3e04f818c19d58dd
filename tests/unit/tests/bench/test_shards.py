"""The simulation of shards: the share of a core that each Redis gets, and the published table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.bench.fleet import shards
from tests.harness import eventually

ROWS = [
    {"shards": 1, "workers": 1, "sum": 50.0, "rates": [50.0], "redis_ms": 0.4},
    {"shards": 2, "workers": 2, "sum": 98.0, "rates": [48.0, 50.0], "redis_ms": 0.41},
    {"shards": 1, "workers": 2, "sum": 51.0, "rates": [51.0], "redis_ms": 0.39},
]


@pytest.fixture
def busy() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def test_process_beyond_its_share_is_stopped_and_continues_afterwards(busy: psutil.Process) -> None:
    with shards.Throttle([busy.pid], 0.0):
        eventually(lambda: busy.status() == psutil.STATUS_STOPPED, "the process is stopped")
    used = shards.cpu_seconds(busy.pid)
    eventually(lambda: shards.cpu_seconds(busy.pid) > used, "the process runs again")


def test_share_is_of_the_elapsed_time() -> None:
    assert not shards.exceeds(0.1, 1.0, 0.1)
    assert shards.exceeds(0.1001, 1.0, 0.1)


def test_table_compares_each_row_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shards.table(ROWS, 0.02)
    assert [line.split(" | ")[-1] for line in text.splitlines()[-3:]] == ["1.0 |", "2.0 |", "1.0 |"]
    assert "| 2 | 2 | 98 | 48, 50 | 0.41 | 2.0 |" in text
    page = tmp_path / "docs" / "scaling.md"
    page.parent.mkdir()
    page.write_text(f"before\n{shards.BEGIN}old\n{shards.END}after\n", encoding="utf-8")
    monkeypatch.setattr(shards, "ROOT", tmp_path)
    shards.publish(text)
    assert page.read_text(encoding="utf-8") == f"before\n{shards.BEGIN}{text}{shards.END}after\n"
