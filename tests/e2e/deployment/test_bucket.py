"""An installation whose contents lie in a bucket: inputs, artifacts, output, large results, deletion, backups."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path

import obstore
import pytest

from orchestrator.store.content.bucket import connected
from tests.builders.backups.s3 import bucket_server, variables
from tests.harness import Stack, eventually

pytestmark = pytest.mark.thorough
LARGE = secrets.token_bytes(3 * 2**20)
PROGRAM = """
import sys
open("/output/out.bin", "wb").write(open("in.bin", "rb").read()[::-1])
print(len(sys.stdin.buffer.read()))
print("x" * 200_000)
"""


def test_contents_lie_in_a_bucket_alone(
    own_stack: Callable[..., Stack],
    only_python: list[str],
    need_runtime: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_runtime("crun", "oci")
    with bucket_server("contents", tmp_path) as url:
        stack = own_stack(
            driver="oci", environments_dirs=only_python, accept_weaker=True, blobs_url="s3://contents/installation"
        )
        stack.env |= variables(url)
        stack.start()
        reference = stack.client.put("/api/v1/blobs", content=LARGE).json()["blob"]
        files = [{"path": "main.py", "content": PROGRAM}, {"path": "in.bin", "blob": reference}]
        done = stack.run(files=files, entrypoint="main.py", stdin={"blob": reference})
        assert done["state"] == "succeeded", done
        path = f"/api/v1/executions/{done['id']}"
        assert stack.client.get(f"{path}/stdout").content == b"%d\n" % len(LARGE) + b"x" * 200_000 + b"\n"
        assert stack.artifact(done, "out.bin") == LARGE[::-1]
        part = stack.client.get(f"{path}/artifacts/out.bin", headers={"Range": "bytes=5-8"})
        assert (part.status_code, part.content) == (206, LARGE[::-1][5:9])
        assert done["artifacts"][0]["sha256"] == hashlib.sha256(LARGE[::-1]).hexdigest()

        for name, value in variables(url).items():
            monkeypatch.setenv(name, value)
        store = connected("s3://contents/installation")

        def found() -> set[str]:
            return {item["path"] for page in obstore.list(store) for item in page}

        assert any(name.startswith(f"artifacts/{done['id']}/1/") for name in found())
        kept = [path for path in (stack.directory / "state").rglob("*") if done["id"] in str(path)]
        assert kept == [], "a directory has contents, too"
        assert stack.client.delete(path).status_code == 204
        eventually(lambda: not any(done["id"] in name for name in found()), "the objects of the execution are gone")
        assert f"blobs/default/{reference.removeprefix('sha256:')}" in found()
