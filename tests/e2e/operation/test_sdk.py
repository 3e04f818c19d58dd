"""Both clients of the SDK against a real installation, one table of cases; the wheel; the snippets of its document."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mayfly
from mayfly import STREAMED, AsyncClient, Client
from tests.harness import ROOT, Stack

Ask = Callable[..., Any]  # a call by its name; an iteration gives a list
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OFFLINE = ("-qq", "--no-deps", "--no-index")
SLEEPER = {"code": "import time; time.sleep(60)", "limits": {"wall_seconds": 60}}


@pytest.fixture(params=["blocking", "asynchronous"])
def ask(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Ask]:
    url, key = stack.env["MAYFLY_URL"], stack.key
    if request.param == "blocking":
        with Client(url, key) as client:
            yield lambda name, *args, **options: _listed(getattr(client, name)(*args, **options))
        return
    with asyncio.Runner() as runner:
        awaiting = _in_loop(runner, url, key)
        yield lambda name, *args, **options: runner.run(_awaited(getattr(awaiting, name)(*args, **options)))
        runner.run(awaiting.close())


def _in_loop(runner: asyncio.Runner, url: str, key: str) -> AsyncClient:
    async def make() -> AsyncClient:
        return AsyncClient(url, key)

    return runner.run(make())


def _listed(result: Any) -> Any:
    return list(result) if isinstance(result, Iterator) else result


async def _awaited(result: Any) -> Any:
    return [item async for item in result] if isinstance(result, AsyncIterator) else await result


def test_run_gives_a_typed_result(ask: Ask) -> None:
    ended = ask(
        "run", "import sys; print(6 * 7); print('e', file=sys.stderr)", labels={"team": "x"}, timeout_seconds=60
    )
    assert (ended.state, ended.stdout, ended.stderr, ended.exit_code) == ("succeeded", "42\n", "e\n", 0)
    assert ended.labels == {"team": "x"}
    assert ended.limits.wall_seconds > 0
    assert ended.timings.run_seconds > 0
    assert ended.created_at <= ended.finished_at
    assert ask("get", ended.id) == ended
    assert ask("output", ended.id, "stderr") == b"e\n"
    assert ask("events", ended.id)[-1].subject == ended.id


def test_a_failure_is_a_result_with_a_reason(ask: Ask) -> None:
    ended = ask("run", "import time; time.sleep(60)", limits={"wall_seconds": 0.3})
    assert (ended.state, ended.reason, ended.fault) == ("failed", "timed_out", "user")
    with pytest.raises(mayfly.ExecutionFailed, match="timed_out"):
        ended.check()


def test_files_go_in_and_come_back(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(bytes(3 * 2**20))  # goes ahead as a blob
    code = "import os; os.mkdir('d'); open('d/out', 'wb').write(open('a', 'rb').read() + open('in.bin', 'rb').read())"
    files = {"a": "é", "in.bin": tmp_path / "in.bin"}
    ended = ask("run", code, files=files, stdin=b"\xff").check()
    expected = "é".encode() + bytes(3 * 2**20)
    assert [artifact.path for artifact in ended.artifacts] == ["d/out"]
    assert ask("save_artifacts", ended, tmp_path / "results") == [tmp_path / "results" / "d" / "out"]
    assert (tmp_path / "results" / "d" / "out").read_bytes() == expected
    assert ask("download", ended.id, "d/out", tmp_path / "here").read_bytes() == expected
    assert b"".join(ask("artifact", ended.id, "d/out")) == expected
    with pytest.raises(mayfly.NotFound):
        ask("download", ended.id, "nowhere", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_input_is_fed_and_output_followed(ask: Ask) -> None:
    id = ask("submit", "for line in open(0): print(line.upper(), end='', flush=True)", stdin=STREAMED).id
    ask("feed", id, [b"one\n", "é\n".encode()])
    events = ask("follow", id)
    assert b"".join(event.output for event in events if event.type == "stdout") == "ONE\nÉ\n".encode()
    assert events[-1].type == "done"
    behind = ask("follow", id, events[-2].id)
    assert [event.type for event in behind] == ["done"]


def test_cancel_wait_list_and_delete(ask: Ask) -> None:
    id = ask("submit", **SLEEPER).id
    with pytest.raises(mayfly.WaitTimeout):
        ask("wait", id, 0.1)
    ask("cancel", id)
    assert ask("wait", id, 60).reason == "cancelled_by_user"
    with pytest.raises(mayfly.Conflict) as caught:
        ask("cancel", id)
    assert caught.value.code == "already_finished"
    assert id in [execution.id for execution in ask("executions", state="cancelled")]
    page = ask("page", limit=1)
    assert len(page.items) == 1
    ask("delete", id)
    with pytest.raises(mayfly.NotFound):
        ask("get", id)


def test_lists_continue_over_cursors(ask: Ask, request: pytest.FixtureRequest) -> None:
    label = f"cursors:{request.node.callspec.id}"
    ids = [ask("submit", "1", labels=dict([label.split(":")])).id for _ in range(3)]
    first = ask("page", limit=2, label=[label])
    assert first.next_cursor
    second = ask("page", limit=2, label=[label], cursor=first.next_cursor)
    assert [execution.id for execution in (*first.items, *second.items)] == ids[::-1]
    assert [execution.id for execution in ask("executions", label=[label])] == ids[::-1]


def test_refusals_are_typed(ask: Ask) -> None:
    with pytest.raises(mayfly.InvalidRequest) as caught:
        ask("run", "1", limits={"wall_seconds": 1e6})
    assert caught.value.status == 422
    assert caught.value.errors[0][0] == "limits.wall_seconds"
    assert caught.value.request_id
    with pytest.raises(mayfly.InvalidRequest, match="environment"):
        ask("run", "1", environment="cobol")


def test_a_body_that_is_too_large_is_refused_with_its_bound(ask: Ask) -> None:
    with pytest.raises(mayfly.InvalidRequest, match="33554432 bytes") as caught:
        ask("put_blob", bytes(40 * 2**20))
    assert caught.value.code == "payload_too_large"


def test_one_key_makes_one_execution(ask: Ask) -> None:
    key = os.urandom(8).hex()
    assert ask("submit", "1", idempotency_key=key).id == ask("submit", "1", idempotency_key=key).id
    with pytest.raises(mayfly.InvalidRequest, match="another"):
        ask("submit", "2", idempotency_key=key)


def test_environments_versions_and_workers_are_listed(ask: Ask) -> None:
    python = {environment.name: environment for environment in ask("environments")}["python"]
    assert "standard" in python.isolation
    assert python.default_limits.wall_seconds <= python.maximal_limits.wall_seconds
    assert ask("ready")["status"] == "ok"
    assert ask("versions")["versions"]
    assert ask("document", "workers")["items"]


def test_security_events_are_listed(ask: Ask) -> None:
    ended = ask("run", "b'x' * 2**30", limits={"memory_bytes": 64 * 2**20})
    assert ended.reason == "oom_killed"
    found = [event for event in ask("watch", kind="oom_killed", follow=False) if event.subject == ended.id]
    assert [event.kind for event in found] == ["oom_killed"]


def test_a_wrong_key_is_named(stack: Stack) -> None:
    with Client(stack.env["MAYFLY_URL"], "mfk_wrong") as client, pytest.raises(mayfly.Unauthenticated):
        client.run("1")


def test_the_cases_are_for_both_clients() -> None:
    """The control: the fixture gives both clients, and each case uses it."""
    cases = [function for name, function in globals().items() if name.startswith("test_")]
    assert sum("ask" in inspect.signature(case).parameters for case in cases) >= 10


def test_the_snippets_of_the_document_run(stack: Stack, tmp_path: Path) -> None:
    snippets = SNIPPET.findall((ROOT / "docs" / "sdk.md").read_text())
    assert len(snippets) > 5
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(snippets)],
        cwd=tmp_path,
        env={**os.environ, **stack.env},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "succeeded 42" in done.stdout
    assert "ONE\nTWO\n" in done.stdout
    assert "cancelled_by_user" in done.stdout
    assert (tmp_path / "here.csv").read_text() == (tmp_path / "results" / "copy.csv").read_text() == "A,B\n"


def test_wheel_has_the_sdk_without_dependencies(stack: Stack, tmp_path: Path) -> None:
    """The wheel is built, installed without dependencies into a fresh environment, and used from there."""
    source = tmp_path / "source"
    _copy_project(source)
    _run([sys.executable, "-m", "pip", "wheel", *OFFLINE, "--no-build-isolation", "-w", tmp_path, source])
    (wheel,) = tmp_path.glob("*.whl")
    _run([sys.executable, "-m", "venv", tmp_path / "fresh"])
    python = tmp_path / "fresh" / "bin" / "python"
    _run([python, "-m", "pip", "install", *OFFLINE, wheel])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | stack.env
    blocking = "from mayfly import Client; print(Client().run('print(6 * 7)').check().stdout, Client.__module__)"
    assert _run([python, "-c", blocking], environment, tmp_path) == "42\n mayfly.client\n"
    # The rest of the dependencies as this environment has them, which are not looked up in its own editable install.
    (site,) = (tmp_path / "fresh" / "lib").glob("python3*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")) + "\n")
    both = """
import asyncio, mayfly
from mayfly import AsyncClient, Client
async def main():
    async with AsyncClient() as client:
        return (await client.run("print(1)")).check().stdout
print(asyncio.run(main()), mayfly.__file__)
"""
    printed = _run([python, "-c", both], environment, tmp_path)
    assert printed == f"1\n {site}/mayfly/__init__.py\n"
    assert (site / "mayfly" / "py.typed").exists()
    assert not (site / "orchestrator" / "client").exists()  # one copy, under one name
    assert _run([python.with_name("mayfly"), "run", "-c", "print(2)"], environment, tmp_path) == "2\n"


def _copy_project(target: Path) -> None:
    """Copy the committed packages for the build, without files of tests and builds."""
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (target / name).write_bytes((ROOT / name).read_bytes())
    for name in ("orchestrator", "worker", "sandbox_image"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))


def _run(words: list[Any], env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in words], env=env, cwd=cwd, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout
