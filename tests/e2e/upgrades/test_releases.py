"""This version on the data of every release: nothing that was kept is lost, and what was queued runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
import pytest

from mayfly import Client, Execution
from orchestrator import __version__
from tests.builders.processes.installed import installed
from tests.harness import ROOT, Process, Stack, bearer, eventually, free_port
from tests.releases.recorded import KEPT, RELEASES, Recorded, lost, read
from tests.releases.versions import COMMITS, code_of, command, tags

ARCHIVES = sorted(RELEASES.glob("v*.tar.xz"))


def test_each_release_has_an_archive_and_its_commit() -> None:
    """The commit of this version's own release is known from the next commit on."""
    assert tags()[:1] == ["v0.1.0"]
    assert set(tags()) - COMMITS.keys() <= {f"v{__version__}"}
    assert COMMITS.keys() <= set(tags())


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_data_of_a_release_is_read_and_continued_and_read_by_the_release_again(
    archive: Path, images: Path, tmp_path: Path
) -> None:
    with installed(images, **KEPT) as made:
        before = Recorded.unpack(archive, made.state)
        made.up("--no-sample")
        assert Path(made.state, "records-sealed").exists(), "the next start seals no record"
        url, key = (Path(made.state, name).read_text().strip() for name in ("url", "api-key"))
        for caller, secret in (("admin", key), ("user", before.key)):
            assert lost(before.answers[caller], read(url, secret, before.answers[caller])) == []
        with Client(url, key) as client:
            for id, printed in before.queued.items():
                ended = eventually(partial(finished, client, id), f"{id} ends", 60)
                assert (ended.state, ended.stdout) == ("succeeded", printed)
            assert client.log_in(before.user, before.password)["user"]["roles"] == ["admin"]
        with Client(url, before.key) as client:
            assert client.run("print(2)").stdout == "2\n"
        refused = httpx2.get(f"{url}/api/v1/executions", headers=bearer(before.revoked))
        assert refused.status_code == 401
        verified = made.mayfly("audit", "verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        back = made.mayfly("upgrade", "back")
        assert back.returncode == 0, back.stdout + back.stderr
        port, log = free_port(), made.state / "release.log"
        settings = {"MAYFLY_API_PORT": str(port), "MAYFLY_REDIS_URL": f"unix://{made.state / 'redis.sock'}"}
        code = code_of(archive.name.removesuffix(".tar.xz"), tmp_path)
        api = Process(command(code, "orchestrator.api"), {**made.env, **settings, "PYTHONPATH": ""}, log)
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: httpx_ok(f"{url}/livez"), "the API of the release answers", 120)
            for caller, secret in (("admin", key), ("user", before.key)):
                answers = {path: one for path, one in before.answers[caller].items() if not path.endswith("/quotas")}
                assert lost(answers, read(url, secret, answers)) == []
            with Client(url, key) as client:
                assert {client.get(id).stdout for id in before.queued} == set(before.queued.values())
                assert client.log_in(before.user, before.password)["user"]["roles"] == ["admin"]
        finally:
            api.stop()


def httpx_ok(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


def test_processes_of_the_last_release_work_with_those_of_this_version(
    own_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """This API with a worker of the release, and the reverse; executions of the one queue run in either."""
    old = code_of(tags()[-1], tmp_path)
    stack = own_stack(driver="oci", slots=1)
    programs = (
        {"code": "print(1)"},
        {"code": "1 + 1", "mode": "cell"},
        {"code": "print(open('a.txt').read())", "files": [{"path": "a.txt", "content": "x"}], "labels": {"a": "b"}},
        {"code": "print(input())", "stdin": "typed", "limits": {"memory_bytes": 2**27}},
    )

    def run_all() -> None:
        for program in programs:
            ended = stack.run(**program)
            assert ended["state"] == "succeeded", ended

    stack.redis.start()
    stack.start_api()
    log = stack.directory / "worker-old.log"
    worker = Process(command(old, "worker"), {**stack.env, "MAYFLY_METRICS_PORT": "0"}, log)
    try:
        stack.ready()
        run_all()
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", "upgrade", "check", "--json"],
            cwd=ROOT, env={**os.environ, **stack.env}, capture_output=True, check=False,
        )  # fmt: skip
        found = json.loads(done.stdout)
        versions = {(process["kind"], process["version"]) for process in found["processes"]}
        assert ("worker", "before 0.2.0") in versions
        assert found["refusals"] == []
    finally:
        worker.stop()
    queued = stack.submit(environment="python", code="print('queued')").json()["id"]
    assert stack.api is not None
    stack.api.stop()
    stack.api = Process(command(old, "orchestrator.api"), stack.env, stack.directory / "api-old.log")
    stack.start_worker()
    stack.ready()
    ended = stack.ended(queued)
    assert (ended["state"], ended["stdout"]) == ("succeeded", "queued\n")
    run_all()


def finished(client: Client, id: str) -> Execution | None:
    """The execution, once it has ended."""
    found = client.get(id)
    return found if found.finished_at else None


def test_comparison_names_every_loss() -> None:
    """The control: a changed value, a field and an item that are gone; a new field and a new item are no loss."""
    before = {"items": [{"id": "a", "n": 1, "last_used_at": 1}, {"id": "b"}], "kept": [1, 2]}
    assert lost(before, {"items": [{"id": "b", "new": 1}, {"id": "a", "n": 1}, {"id": "c"}], "kept": [1, 2]}) == []
    assert lost(before, {"items": [{"id": "a", "n": 2}], "kept": [2, 1]}) == [
        "/items/a/n: 2, was 1",
        "/items/b: None, was {'id': 'b'}",
        "/kept/0: 2, was 1",
        "/kept/1: 1, was 2",
    ]
    assert lost({"a": 1}, {}) == ["/a: gone, was 1"]
