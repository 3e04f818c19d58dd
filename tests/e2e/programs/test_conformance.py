"""Other projects' tests in Mayfly's sandboxes: only known failures fail, in either tier; see tests/conformance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conformance import known, suites
from tests.conformance.selection import GROUPS, LIMITS, Group
from tests.harness import ROOT, Stack

PROGRAMS = known.HERE / "programs"
MAIN = {"python": "cpython.py", "python-data": "data.py"}
RUNTIMES = {"standard": "runc", "hardened": "runsc"}
RUNS = [
    pytest.param(tier, name, id=f"{name}-{tier}", marks=[] if tier in group.always else [pytest.mark.complete])
    for tier in RUNTIMES
    for name, group in GROUPS.items()
    if tier not in group.never
]


@pytest.fixture(scope="module")
def chosen(request: pytest.FixtureRequest) -> list[pytest.Function]:
    """The groups of this run, as tests."""
    functions = (item for item in request.session.items if isinstance(item, pytest.Function))
    return [item for item in functions if item.originalname == "test_only_known_conformance_tests_fail"]


@pytest.fixture(scope="module")
def workbench(images: Path, chosen: list[pytest.Function], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose worker may be late: these programs take all the cores there are."""
    # Most groups do little but wait, so that two at a time cost neither much; but not those that take minutes alone.
    slots = 1 if any(item.get_closest_marker("complete") for item in chosen) else 2
    pools: dict[str, Any] = {"pool_size": 0, "pool_sizes": {}, "pool_max": 0}
    made = Stack(tmp_path_factory.mktemp("conformance"), **pools, slots=slots, lease_seconds=60)
    try:
        yield made.start()
    finally:
        made.stop()


def files_of(group: Group, stack: Stack, images: Path) -> list[dict[str, Any]]:
    """The program that runs the group's tests, and those tests."""
    if group.environment == "node":
        return [{"path": path.name, "content": path.read_text()} for path in sorted((PROGRAMS / "node").iterdir())]
    sent = stack.client.put("/api/v1/blobs", content=suites.archive(group.environment, images))
    assert sent.status_code == 201, sent.text
    program = (PROGRAMS / MAIN[group.environment]).read_text()
    return [{"path": "main.py", "content": program}, {"path": "suite.tar.gz", "blob": sent.json()["blob"]}]


@pytest.fixture(scope="module")
def submitted(workbench: Stack, images: Path, chosen: list[pytest.Function]) -> dict[tuple[str, str], httpx2.Response]:
    """The answer to each group's submission. They queue, so that the worker always has the next one."""
    asked = [(str(item.callspec.params["tier"]), str(item.callspec.params["name"])) for item in chosen]
    return {(tier, name): submit(workbench, images, tier, GROUPS[name]) for tier, name in asked}


def submit(stack: Stack, images: Path, tier: str, group: Group) -> httpx2.Response:
    return stack.submit(
        environment=group.environment,
        isolation=tier,
        files=files_of(group, stack, images),
        entrypoint="main.js" if group.environment == "node" else "main.py",
        args=[*group.options, *group.what],
        artifacts=["results.json"],  # and not the suite, which lies in the working directory
        limits=LIMITS,
    )


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("tier", "name"), RUNS)
def test_only_known_conformance_tests_fail(
    workbench: Stack,
    submitted: dict[tuple[str, str], httpx2.Response],
    need_runtime: Callable[[str], None],
    tier: str,
    name: str,
) -> None:
    need_runtime(RUNTIMES[tier])
    group, answer = GROUPS[name], submitted[tier, name]
    assert answer.status_code == 202, answer.text
    ended = answer.json()
    while ended["finished_at"] is None:
        ended = workbench.show(ended["id"], wait=60)
    assert ended["state"] == "succeeded", (ended["state"], ended["reason"], ended["stdout"], ended["stderr"])
    results = json.loads(workbench.artifact(ended, "results.json"))
    unexpected, missing = known.differences(group, tier, results["failed"])
    for test in unexpected:
        print(f"--- {test}\n{results['failed'][test]}")
    assert (unexpected, missing) == ([], []), "what failed and is not known to, and what is known to and did not"
    assert results["passed"] >= group.least_passed


def test_a_change_either_way_is_a_difference() -> None:
    group = GROUPS["python-system"]
    *rest, one = known.differences(group, "hardened", [])[1]
    assert known.differences(group, "hardened", [*rest, one]) == ([], [])
    assert known.differences(group, "hardened", rest) == ([], [one])
    assert known.differences(group, "hardened", [*rest, one, "test_os New.test"]) == (["test_os New.test"], [])
    sometimes = "test_time TimeTestCase.test_thread_time"
    assert known.differences(group, "hardened", [*rest, one, sometimes]) == ([], [])
    assert known.differences(group, "standard", rest) != ([], [])  # each tier has its own


def test_the_page_is_current() -> None:
    hint = "python -m tests.conformance > docs/compatibility.md"
    assert (ROOT / "docs" / "compatibility.md").read_text() == known.page(), hint
