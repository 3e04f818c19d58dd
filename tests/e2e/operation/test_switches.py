"""Feature switches, as workers follow them."""

from __future__ import annotations

from collections.abc import Callable

from tests.builders.sandboxes.pauses import Pause
from tests.harness import LONG_LEASE_SECONDS, Stack, eventually


def switch(stack: Stack, feature: str, enabled: bool) -> None:
    answer = stack.client.put(f"/api/v1/switches/{feature}", json={"enabled": enabled})
    assert answer.status_code == 200, answer.text


def test_workers_follow_switches(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(slots=1, spare_slots=0, max_attempts=1, lease_seconds=LONG_LEASE_SECONDS).start()
    pause = Pause()
    running = stack.submit(environment="python", code=pause.code, limits={"wall_seconds": 90}).json()["id"]
    pause.begun()
    bash = stack.submit(environment="bash", code="echo").json()["id"]
    python = stack.submit(environment="python", code="print(1)").json()["id"]
    eventually(stack.waiting, "a warm container waits")
    switch(stack, "environment:bash", False)
    switch(stack, "isolation:standard", False)
    eventually(lambda: stack.waiting() == 0, "the worker follows: its warm containers are removed")
    pause.end()
    assert stack.ended(running)["state"] == "succeeded", "what runs goes on"
    eventually(lambda: stack.reported("busy") == [0], "the slot is free")
    assert [stack.show(id)["state"] for id in (bash, python)] == ["queued", "queued"]
    assert "'isolation:standard'" in stack.show(python)["wait_reason"]
    switch(stack, "isolation:standard", True)
    ended = stack.ended(bash)
    assert (ended["state"], ended["reason"], ended["fault"]) == ("errored", "environment_unavailable", "platform")
    assert stack.ended(python)["state"] == "succeeded"
    eventually(stack.waiting, "the pool is filled again")
    switch(stack, "warm-pool", False)
    eventually(lambda: stack.waiting() == 0, "nothing waits")
    assert stack.run(code="print(2)")["start"] == "cold"
