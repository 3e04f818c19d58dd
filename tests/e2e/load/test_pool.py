"""The warm pool on real containers: its size, what is retired, what is never taken warm (``docs/pool.md``)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors
import psutil
import pytest

from tests.harness import IMAGES, UIDS, Stack, eventually

CGROUPS = Path("/sys/fs/cgroup")
OTHER_LIMITS = {"memory_bytes": 300 * 2**20, "cpu_cores": 0.5, "processes": 20}


@contextmanager
def engine_api() -> Iterator[docker.APIClient]:
    """The container engine."""
    made = docker.APIClient()
    try:
        yield made
    finally:
        made.close()


def retired(stack: Stack, cause: str) -> float:
    return stack.worker_metrics().get(f'mayfly_pool_retired_total{{cause="{cause}"}}', 0)


def wanted(stack: Stack, environment: str = "bash") -> float:
    labels = f'environment="{environment}",isolation="standard"'
    return stack.worker_metrics().get(f"mayfly_pool_wanted_containers{{{labels}}}", 0)


def burst(stack: Stack, runs: int) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(runs) as clients:
        return list(clients.map(lambda _: stack.run("bash", code="echo 1"), range(runs)))


def test_the_pool_grows_with_demand_up_to_its_ceiling(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(pool_max=3, slots=4).start()
    assert stack.waiting("bash") == 0
    # Until it has once seen four within a second.
    eventually(lambda: burst(stack, 6) and wanted(stack) == 3, "the pool's target is three containers", 60)
    eventually(lambda: stack.waiting("bash") == 3, "three containers wait in the pool")
    assert burst(stack, 1)[0]["start"] == "warm"
    # Each burst's first ones were cold: there was none to take, and they did not wait for one.
    eventually(
        lambda: [min(one["warm_starts"], one["cold_starts"]) >= 1 for one in stack.fleet()] == [True],
        "warm and cold starts are reported",
    )


def test_pool_keeps_its_floor_without_a_higher_ceiling(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(slots=4).start()
    assert [found["start"] for found in burst(stack, 6)] == ["cold"] * 6
    eventually(lambda: stack.waiting() == 1, "the floor of another environment is kept")
    assert (stack.waiting("bash"), wanted(stack)) == (0, 0)


def awaits_start(stack: Stack) -> bool:
    """Whether a fork that waits for its program has loaded all that it loads before it reads from its descriptor 3."""
    first = int(stack.env["MAYFLY_UID_FIRST"])
    ours = (one.pid for one in psutil.process_iter(["uids"]) if one.info["uids"].real in range(first, first + UIDS))
    return any(map(reads_a_pipe, ours))


def reads_a_pipe(pid: int) -> bool:
    """From its descriptor 3, which is no module's file."""
    try:
        reading = Path(f"/proc/{pid}/syscall").read_text().split()[1:2] == ["0x3"]
        return reading and os.readlink(f"/proc/{pid}/fd/3").startswith("pipe:")
    except OSError:  # it has ended
        return False


def test_waiting_container_has_preloaded_modules(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(pool_sizes={"python": 1}, pool_size=0).start()
    see = "import sys; print(*sorted({'json', 'random', 'typing'} & sys.modules.keys()))"
    eventually(lambda: awaits_start(stack) and stack.waiting() == 1, "a container waits, and has loaded every module")
    warm, cold = stack.run("python", code=see), stack.run("python", code=see, limits={"disk_bytes": 2**20})
    assert (warm["start"], warm["stdout"]) == ("warm", "json random typing\n")
    assert (cold["start"], cold["stdout"]) == ("cold", "\n")


def shares(stack: Stack) -> list[int]:
    """Of CPU time, of each container, in percent of what the kernel gives to each by itself."""
    found = []
    for name in stack.containers():
        for path, unit in ((f"cpu/mayfly/{name}/cpu.shares", 1024), (f"mayfly/{name}/cpu.weight", 100)):
            with suppress(FileNotFoundError):  # of another version, or it has ended
                found.append(100 * int((CGROUPS / path).read_text()) // unit)
    return sorted(found)


def test_container_made_ahead_yields_cpu_to_programs(
    own_stack: Callable[..., Stack], need_runtime: Callable[..., None]
) -> None:
    need_runtime("crun", "oci")
    stack = own_stack(driver="oci", slots=2, drain_seconds=0).start()
    eventually(lambda: stack.waiting() == 1, "a container waits in the pool", 60)
    assert [share < 10 for share in shares(stack)] == [True]
    for changed in ({}, {"disk_bytes": 2**20}):  # warm and cold
        limits = {"wall_seconds": 290, **changed}
        begun = stack.submit(environment="python", code="import time; time.sleep(280)", limits=limits)
        assert begun.status_code == 202, begun.text
    # Of two programs that sleep, and of the next container made ahead.
    eventually(lambda: [share < 10 or share for share in shares(stack)] == [True, 100, 100], "each has its share")


def test_idle_containers_stay_within_the_memory_budget(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(pool_sizes={"bash": 12}, pool_memory_bytes=35 * 2**20).start()
    # By estimate two fit. More do once the first is measured: it takes some 5 to 10 MiB, and never so little as 3.
    eventually(
        lambda: 2 < wanted(stack) < 12 and stack.waiting("bash") == wanted(stack),
        "as many containers as fit wait in the pool",
        60,
    )


def test_pool_replaces_container_that_died_while_waiting(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    [victim] = eventually(
        lambda: stack.containers() if stack.waiting() == 1 else [], "a container waits in the pool", 60
    )
    with engine_api() as api:
        api.kill(victim)
    eventually(lambda: retired(stack, "dead") == 1, "the dead container is retired")
    eventually(lambda: stack.waiting() == 1 and victim not in stack.containers(), "another container waits in the pool")
    assert stack.run(code="print(1)")["start"] == "warm"


def test_pool_replaces_container_past_its_age(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(pool_age_seconds=3).start()
    first = eventually(lambda: stack.containers() if stack.waiting() == 1 else [], "a container waits in the pool", 60)
    eventually(lambda: retired(stack, "age") >= 1, "the old container is retired")
    eventually(
        lambda: stack.waiting() == 1 and not set(first) & set(stack.containers()), "another container waits in the pool"
    )


def test_containers_of_another_image_are_replaced(own_stack: Callable[..., Stack], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("bash.json", "bash.tar"):
        shutil.copy(IMAGES / name, images)
    stack = own_stack(images_dir=str(images), pool_sizes={"bash": 1}).start()
    [first] = eventually(
        lambda: stack.containers() if stack.waiting("bash") == 1 else [], "a container waits in the pool", 60
    )
    built = json.loads((images / "bash.json").read_text())
    with engine_api() as api:
        donor = api.create_container(built["image_id"], ["x"])["Id"]
        rebuilt = api.commit(donor, changes=["LABEL rebuilt=yes", "CMD []"])["Id"]
        api.remove_container(donor)
        try:
            (images / "new.json").write_text(json.dumps({**built, "image_id": rebuilt}))
            (images / "new.json").replace(images / "bash.json")
            eventually(lambda: retired(stack, "image") == 1, "the container of the old image is retired")
            eventually(
                lambda: stack.waiting("bash") == 1 and first not in stack.containers(),
                "a container of the new image waits",
            )
            assert api.inspect_container(stack.containers()[0])["Image"] == rebuilt
            assert stack.run("bash", code="echo 1")["start"] == "warm"
        finally:
            stack.workers[0].stop()
            api.remove_image(rebuilt, force=True)


@pytest.mark.parametrize(
    ("limits", "start"),
    [({}, "warm"), ({"wall_seconds": 99, "cpu_seconds": 3, "output_bytes": 99}, "warm"), (OTHER_LIMITS, "warm"),
     ({"disk_bytes": 2**20}, "cold")],
)  # fmt: skip
def test_limits_of_waiting_container_are_changed_where_possible(
    own_stack: Callable[..., Stack], limits: dict[str, Any], start: str
) -> None:
    stack = own_stack().start()
    eventually(lambda: stack.waiting() == 1, "a container waits in the pool", 60)
    id = stack.submit(
        environment="python", code="import time; print(1, flush=True); time.sleep(280)",
        limits={"wall_seconds": 290, **limits},
    ).json()["id"]  # fmt: skip
    execution = eventually(lambda: (e := stack.show(id))["state"] == "running" and e, "the execution runs")
    assert execution["limits"].items() >= limits.items()
    with engine_api() as api:
        made = []
        for name in stack.containers():
            with suppress(docker.errors.NotFound):  # it is gone meanwhile
                made.append(api.inspect_container(name)["HostConfig"])
    found = [(host["Memory"], host["NanoCpus"], host["PidsLimit"]) for host in made]
    assert ((300 * 2**20, 500_000_000, 22) in found) is (limits == OTHER_LIMITS)
    assert stack.client.post(f"/api/v1/executions/{id}/cancel").status_code == 202
    assert stack.ended(id)["start"] == start


def test_hardened_tier_is_kept_warm_after_its_first_use(
    own_stack: Callable[..., Stack], need_runtime: Callable[[str], None]
) -> None:
    need_runtime("runsc")
    stack = own_stack(pool_max=1).start()
    assert stack.waiting("python", "hardened") == 0
    assert stack.run(code="print(1)", isolation="hardened")["start"] == "cold"
    eventually(lambda: stack.waiting("python", "hardened") == 1, "a container waits in the pool", 60)
    other = stack.run(code="print(1)", isolation="hardened", limits={"processes": 20})
    assert (other["start"], other["stdout"]) == ("cold", "1\n")  # nothing of gVisor's sandbox can be changed
    both = {"python": 1, "python/hardened": 1}
    eventually(lambda: stack.reported("pool") == [both], "the worker reports both pools")
    found = stack.run(code="import os; print(os.uname().version)", isolation="hardened")
    assert (found["start"], "2016" in found["stdout"]) == ("warm", True)  # gVisor's date of itself


def test_tenant_above_its_share_leaves_last_container_to_others(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(slots=4, pool_sizes={"bash": 3}, pool_max=0).start()
    busy, other = (stack.headers_of(name, "executions:read", "executions:write") for name in ("busy", "other"))

    def start(headers: dict[str, str]) -> str:
        return str(stack.submit(60, headers, environment="bash", code="echo 1").json()["start"])

    def running() -> bool:
        listed = stack.client.get("/api/v1/executions", params={"state": "running"}, headers=busy).json()["items"]
        return len(listed) == 4

    eventually(lambda: stack.waiting("bash") == 3, "three containers wait in the pool", 60)
    assert start(other) == "warm"
    eventually(lambda: stack.waiting("bash") == 3, "three containers wait in the pool again", 60)
    flood = {"environment": "bash", "code": "sleep 280", "limits": {"wall_seconds": 290}}
    flooded = stack.client.post("/api/v1/executions/batch", json={"executions": [flood] * 4}, headers=busy).json()
    eventually(running, "the flooding tenant has every slot", 60)
    assert start(other) == "warm"
    for each in flooded:
        id = each["execution"]["id"]
        assert stack.client.post(f"/api/v1/executions/{id}/cancel", headers=busy).is_success
    starts = [
        stack.client.get(f"/api/v1/executions/{each['execution']['id']}?wait=30", headers=busy) for each in flooded
    ]
    assert "cold" in [answer.json()["start"] for answer in starts]
