"""A host without disk space or working launches: its worker reports that, takes no executions, and resumes by
itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from tests.harness import Stack, eventually


def test_worker_without_disk_space_takes_no_execution(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=0)
    stack.start_worker(MAYFLY_DISK_FREE_BYTES=str(2**60))
    expected = [["blobs", "inputs", "engine"]]
    eventually(
        lambda: [[one.partition(" ")[0] for one in trouble] for trouble in stack.reported("trouble")] == expected,
        "the worker reports the disks",
    )
    eventually(lambda: "blobs (" in stack.client.get("/readyz").json()["details"].get("trouble", ""), "the API, too")
    id = stack.submit(environment="python", code="print(1)").json()["id"]
    assert stack.show(id, wait=2)["state"] == "queued"
    stack.start_worker()
    assert stack.ended(id)["state"] == "succeeded"


def test_uploads_are_refused_before_the_disk_is_full(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(disk_free_bytes=2**60).start(workers=0)
    answer = stack.client.put("/api/v1/blobs", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (503, "blobs_full")
    assert int(answer.headers["Retry-After"]) > 0
    answer = stack.submit(environment="python", code="print(1)")
    assert answer.status_code == 202


def test_submissions_are_refused_before_redis_is_full(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(redis_share=0.000_001).start(workers=0)
    assert stack.submit(environment="python", code="print(1)").status_code == 202  # as much as one wants
    with stack.redis.client() as client:
        client.config_set("maxmemory", 2**30)
    answer = eventually(
        lambda: (printed := stack.submit(environment="python", code="print(1)")).status_code == 503 and printed,
        "the API refuses submissions",
    )
    assert answer.json()["code"] == "store_full"
    assert int(answer.headers["Retry-After"]) > 0


def test_worker_that_cannot_launch_takes_no_execution(
    own_stack: Callable[..., Stack], need_runtime: Callable[..., None]
) -> None:
    need_runtime("crun", "oci")
    stack = own_stack(driver="oci", retry_seconds=0, pool_size=0, pool_sizes={}, max_attempts=5).start()
    (bundles,) = (stack.directory / "state" / "oci" / "bundles").iterdir()
    shutil.rmtree(bundles)
    bundles.touch()  # where it would make a directory for each container
    id = stack.submit(environment="bash", code="echo yes").json()["id"]
    (worker,) = eventually(
        lambda: [one for one in stack.fleet() if one["trouble"]], "the worker reports the trouble", 60
    )
    assert worker["trouble"] == ["launches of isolation 'standard' fail: The container runtime failed to create."]
    blocked = 'mayfly_worker_launches_blocked{isolation="standard"}'
    eventually(lambda: stack.worker_metrics()[blocked] == 1.0, "the worker's metrics have it")
    eventually(lambda: stack.client.get("/readyz").status_code == 503, "no worker is ready")
    eventually(lambda: stack.show(id)["state"] == "queued", "the spoilt attempt is over")
    spoilt = stack.show(id)["attempt"]
    assert (stack.show(id, wait=4)["state"], stack.show(id)["attempt"]) == ("queued", spoilt)
    bundles.unlink()
    ended = stack.ended(id)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "yes\n", spoilt + 1)
    eventually(lambda: stack.reported("trouble") == [[]], "the worker reports the end of the trouble")
