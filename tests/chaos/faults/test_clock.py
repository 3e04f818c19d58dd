"""The clocks of the API and of a worker are moved by a day and more, both ways, while programs run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Stack, eventually

HOURS = 30  # more than an execution waits or is kept
NEAR_SECONDS = 120
PRELOADED = "faketime/libfaketime.so.1"
SLEEPS = "import time; print(1, flush=True); time.sleep(3); print(2)"


@pytest.fixture
def moved(tmp_path: Path, own_stack: Callable[..., Stack], missing: Callable[[str], None]) -> Any:
    """A stack without workers, and what moves the clocks of its processes; those of Redis and the engine stay."""
    found = sorted(Path("/usr/lib").glob(f"*/{PRELOADED}"))
    if not found:
        missing("there is no libfaketime")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    stack = own_stack()
    stack.env |= {
        "LD_PRELOAD": str(found[0]), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
    }  # fmt: skip

    def move(hours: int) -> None:
        offset.write_text(f"{hours:+d}h")
        eventually(lambda: abs(ahead_seconds(stack) - hours * 3600) < NEAR_SECONDS, "the clock is moved")

    return stack.start(workers=0), move


def ahead_seconds(stack: Stack) -> float:
    """By how much the API's clock is ahead of the machine's."""
    return parsedate_to_datetime(stack.client.get("/livez").headers["Date"]).timestamp() - time.time()


def logged_ahead_seconds(stack: Stack) -> float:
    """The offset of the worker's clock, as last reported."""
    last = (stack.directory / "worker-0.log").read_text().splitlines()[-1]
    return datetime.fromisoformat(json.loads(last)["timestamp"]).timestamp() - time.time()


def submit(stack: Stack, code: str, **more: Any) -> str:
    limits = {"wall_seconds": 60, **more.pop("limits", {})}
    answer = stack.submit(environment="python", code=code, limits=limits, **more)
    assert answer.status_code == 202, answer.text
    assert abs(datetime.fromisoformat(answer.json()["created_at"]).timestamp() - time.time()) < NEAR_SECONDS
    return str(answer.json()["id"])


def ended(stack: Stack, id: str) -> dict[str, Any]:
    """How it ended, in its first attempt, at times that can be true."""
    found = eventually(
        lambda: (execution := stack.show(id, wait=30))["finished_at"] and execution, "the execution ends", 120
    )
    times = [datetime.fromisoformat(found[name]) for name in ("created_at", "started_at", "finished_at")]
    assert times == sorted(times)
    assert max(abs((at - datetime.now(UTC)).total_seconds()) for at in times) < NEAR_SECONDS
    assert all(0 <= seconds < NEAR_SECONDS for seconds in found["timings"].values()), found["timings"]
    assert found["attempt"] == 1
    return dict(found)


@pytest.mark.complete
def test_clock_jumps_change_no_result(moved: tuple[Stack, Callable[[int], None]]) -> None:
    stack, move = moved
    blob = stack.client.put("/api/v1/blobs", content=b"kept").json()["blob"]
    waiting = submit(stack, "print('waited')")
    move(HOURS)
    assert stack.api is not None
    stack.api.stop()
    stack.start_api()  # whose janitor looks at everything in its first round
    assert ahead_seconds(stack) > 3600
    stack.start_worker()
    stack.ready()
    assert ended(stack, waiting)["stdout"] == "waited\n"
    files = [{"path": "it", "blob": blob}, {"path": "main.py", "content": "print(open('inputs/it').read())"}]
    answer = stack.submit(60, environment="python", files=files, entrypoint="main.py")
    assert answer.json()["stdout"] == "kept\n"
    for hours in (0, HOURS, -HOURS):
        sleeps = submit(stack, SLEEPS)
        eventually(lambda: stack.show(sleeps)["stdout"], "the execution runs")  # noqa: B023 - called at once
        loops = submit(stack, "print(1, flush=True)\nwhile True: pass", limits={"wall_seconds": 2})
        cancelled = submit(stack, "import time; time.sleep(60)", limits={"wall_seconds": 60})
        move(hours)
        assert ended(stack, sleeps)["stdout"] == "1\n2\n"
        assert abs(logged_ahead_seconds(stack) - hours * 3600) < NEAR_SECONDS
        stopped = ended(stack, loops)
        assert (stopped["reason"], 2 <= stopped["usage"]["wall_seconds"] < 30) == ("timed_out", True)
        eventually(lambda: stack.show(cancelled)["state"] == "running", "the execution runs")  # noqa: B023 - called at once
        assert stack.client.post(f"/api/v1/executions/{cancelled}/cancel").status_code == 202
        requested = datetime.fromisoformat(ended(stack, cancelled)["cancel_requested_at"])
        assert abs((requested - datetime.now(UTC)).total_seconds()) < NEAR_SECONDS
        assert stack.show(waiting)["state"] == "succeeded"  # kept
        assert len(stack.fleet()) == 1
