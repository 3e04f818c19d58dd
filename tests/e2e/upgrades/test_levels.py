"""A program that uses a field of the next version runs on workers that know it, and never on older ones.

The next version is this one with a further field of specifications; the older workers are the last release's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ROOT, Process, Stack, eventually
from tests.releases.versions import code_of, command, tags

pytestmark = pytest.mark.complete
# By file of the next version: a text, and what takes its place.
CHANGES = {
    "orchestrator/models/__init__.py": (
        "    tools: tuple[Granted, ...] =",
        '    note: str = Field("", exclude_if=lambda note: not note)\n    tools: tuple[Granted, ...] =',
    ),
    "orchestrator/features.py": (
        "FEATURES: dict[str, Feature] = {}",
        'FEATURES: dict[str, Feature] = {"Specification.note": Feature(2, lambda one: bool(one.note))}',
    ),
    "orchestrator/policy/submission.py": (
        "        retry=submission.retry,\n",
        '        retry=submission.retry,\n        note=submission.labels.get("note", ""),\n',
    ),
    "orchestrator/store/executions/submission.py": ("NOT_SHOWN = {", 'NOT_SHOWN = {"note", '),
}


def next_version(directory: Path) -> Path:
    """The directory of its code."""
    made = directory / "next"
    for name in ("orchestrator", "worker", "sandbox_image"):
        shutil.copytree(ROOT / name, made / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (before, after) in CHANGES.items():
        text = (made / name).read_text()
        assert text.count(before) == 1, name
        (made / name).write_text(text.replace(before, after))
    return made


def test_later_field_is_claimed_by_later_workers_alone(own_stack: Callable[..., Stack], tmp_path: Path) -> None:
    later, older = next_version(tmp_path), code_of(tags()[-1], tmp_path)
    stack = own_stack(driver="oci", slots=1, spare_slots=0)
    plain: dict[str, Any] = {"environment": "python", "code": "print(1)"}
    noted: dict[str, Any] = plain | {"labels": {"note": "a field that came later"}}
    stack.redis.start()
    stack.api = Process(command(later, "orchestrator.api"), stack.env, stack.directory / "api-later.log")
    env = {**stack.env, "MAYFLY_METRICS_PORT": "0"}
    old = Process(command(older, "worker"), env, stack.directory / "worker-old.log")
    new = None
    try:
        stack.ready()
        assert stack.run(**plain)["state"] == "succeeded"  # by the release's worker
        refused = stack.submit(**noted)
        assert (refused.status_code, refused.json()["code"]) == (422, "feature_unavailable"), refused.text
        assert "note" in refused.json()["detail"]
        new = Process(command(later, "worker"), env, stack.directory / "worker-new.log")
        eventually(lambda: sorted(w.get("level", 1) for w in stack.fleet()) == [1, 2], "both workers are alive", 120)
        (newer,) = [worker["id"] for worker in stack.fleet() if worker.get("level")]
        # While the later worker takes none, they wait, although the release's worker is idle.
        assert stack.client.post(f"/api/v1/workers/{newer}/drain").status_code == 202
        eventually(
            lambda: [w["draining"] for w in stack.fleet() if w["id"] == newer] == [True], "the later worker drains"
        )
        waiting = [stack.submit(**noted).json()["id"] for _ in range(3)]
        assert stack.run(**plain)["state"] == "succeeded"
        assert {stack.show(id)["state"] for id in waiting} == {"queued"}
        assert stack.client.delete(f"/api/v1/workers/{newer}/drain").status_code in (200, 202, 204)
        ended = [stack.ended(id) for id in waiting]
        assert [(one["state"], one["stdout"], one["attempt"]) for one in ended] == [("succeeded", "1\n", 1)] * 3
    finally:
        for process in (old, new):
            if process is not None:
                process.stop()
