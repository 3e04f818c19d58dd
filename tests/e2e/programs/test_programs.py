"""Ordinary programs of some size, each in an execution of its own, in both tiers; see tests/programs."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import Stack
from tests.programs import bash_cases, data_cases, node_cases, python_cases
from tests.programs.cases import CASES, LIMITS, MAIN, Case, meets, source_of, sources

TABLES = (bash_cases, data_cases, node_cases, python_cases)
# gVisor makes a container in half a second: it runs these always, and the others with `make conformance`.
HARDENED = (
    *("bash/text_tools.sh", "bash/traps.sh", "node/async_files.js", "node/children.js", "node/workers.js"),
    *("python/file_organiser.py", "python/many_artifacts.py", "python/process_pool.py", "python/shared_memory.py"),
    *("python/sqlite_inventory.py", "python/subprocesses.py", "python/threads.py", "python-data/plots.py"),
)
RUNS = [pytest.param("standard", name, id=name) for name in CASES] + [
    pytest.param("hardened", name, id=f"{name}-hardened", marks=[] if name in HARDENED else [pytest.mark.complete])
    for name in CASES
]


def program_files(name: str, case: Case) -> tuple[str | None, list[dict[str, Any]], str | None]:
    """The program as (code, files, entrypoint): a single file goes as ``code`` unless its case names a path."""
    environment, _, file = name.partition(":")[0].partition("/")
    source = source_of(f"{environment}/{file}")
    if source.is_dir():
        files = [
            {"path": str(path.relative_to(source)), "content": path.read_text(encoding="utf-8")}
            for path in sorted(source.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        ]
        return None, files, case.path or MAIN[environment]
    code = source.read_text(encoding="utf-8")
    if case.path:
        return None, [{"path": case.path, "content": code}], case.path
    return code, [], None


def input_file(path: str, content: str | bytes) -> dict[str, Any]:
    if isinstance(content, str):
        return {"path": path, "content": content}
    return {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}


def upload(stack: Stack, content: bytes) -> str:
    response = stack.client.put("/api/v1/blobs", content=content)
    assert response.status_code == 201, response.text
    assert response.json()["size"] == len(content)
    return str(response.json()["blob"])


def output(stack: Stack, execution: dict[str, Any], stream: str) -> bytes:
    """The exact bytes of a stream, which the text in the execution must agree with."""
    response = stack.client.get(f"/api/v1/executions/{execution['id']}/{stream}")
    assert response.status_code == 200, response.text
    data = response.content
    assert execution[f"{stream}_bytes"] == len(data)
    if not execution[f"{stream}_truncated"]:
        assert execution[stream] == data.decode(errors="replace")
    return data


def test_every_program_is_run() -> None:
    assert {name.partition(":")[0] for name in CASES} == sources()
    by_environment = Counter(name.partition("/")[0] for name in sources())
    assert by_environment.keys() == MAIN.keys()
    assert by_environment.total() >= 30 and min(by_environment.values()) >= 5


@pytest.mark.parametrize(("isolation", "name"), RUNS)
def test_program_runs_as_expected(stack: Stack, need_runtime: Callable[[str], None], isolation: str, name: str) -> None:
    need_runtime("runsc" if isolation == "hardened" else "runc")
    case = CASES[name]()
    code, files, entrypoint = program_files(name, case)
    files += [input_file(path, content) for path, content in case.files.items()]
    files += [{"path": path, "blob": upload(stack, content)} for path, content in case.blobs.items()]
    execution = stack.run(
        name.partition("/")[0],
        isolation=isolation,
        code=code,
        files=files,
        entrypoint=entrypoint,
        args=case.args,
        env=case.env,
        stdin=case.stdin,
        limits={**LIMITS, **case.limits},
    )
    stderr, stdout = output(stack, execution, "stderr"), output(stack, execution, "stdout")
    meets(stderr, case.stderr)
    meets(stdout, case.stdout)
    ended = ("succeeded", None) if case.exit_code == 0 else ("failed", "nonzero_exit")
    assert (execution["state"], execution["reason"]) == ended
    ends = execution["exit_code"], execution["signal"], execution["attempt"]
    assert ends == (case.exit_code, None, 1), stack.failed_attempts(execution["id"])
    assert execution["security_events"] == 0
    listed = {artifact["path"]: artifact["size"] for artifact in execution["artifacts"]}
    left = listed.keys() - case.artifacts.keys()
    assert [path for path in left if not re.fullmatch(case.working_files, path)] == []
    assert case.artifacts.keys() <= listed.keys() and bool(left) == bool(case.working_files)
    for path, expected in case.artifacts.items():
        data = stack.artifact(execution, path)
        assert len(data) == listed[path]
        meets(data, expected)
