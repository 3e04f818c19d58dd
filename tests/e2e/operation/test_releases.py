"""This version on the data of every release: nothing that was kept is lost, and what was queued runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx2
import pytest

from mayfly import Client, Execution
from tests.builders.processes.installed import installed
from tests.harness import bearer, eventually
from tests.releases.recorded import KEPT, RELEASES, Recorded, lost, read

ARCHIVES = sorted(RELEASES.glob("v*.tar.xz"))


def test_there_is_an_archive_of_a_release() -> None:
    assert [path.name for path in ARCHIVES][:1] == ["v0.1.0.tar.xz"]


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def test_data_of_a_release_is_read_and_continued(archive: Path, images: Path) -> None:
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
