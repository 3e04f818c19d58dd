"""`mayfly images`: copies of sandbox images on a host, and the removal of old ones."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cli.commands.local.engine import Engine, EngineImage, EngineUnreachable
from orchestrator.host.rootfs import UNUSED_SECONDS
from orchestrator.settings import inherited_environment
from tests.harness import Process

pytestmark = pytest.mark.thorough


def tar(name: str) -> bytes:
    """An archive with one file."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return written.getvalue()


def away(self: Engine, image: EngineImage) -> bool:
    raise EngineUnreachable("the engine is away")


def test_old_images_are_listed_and_removed(
    own_engine: tuple[str, Callable[..., Process]], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, start = own_engine
    start()
    unpacked = tmp_path / "state" / "oci" / "rootfs"
    for name, seconds in (("0" * 64, UNUSED_SECONDS + 60), ("1" * 64, 0)):
        (unpacked / name / "root").mkdir(parents=True)
        os.utime(unpacked / name, ns=(0, (unpacked / name).stat().st_mtime_ns - int(seconds * 1e9)))
    own_images = tmp_path / "images"
    own_images.mkdir()
    for name in ("python.json", "python.tar"):
        (own_images / name).symlink_to(images / name)
    for name, value in (("DOCKER_URL", url), ("STATE_DIR", tmp_path / "state"), ("IMAGES_DIR", own_images)):
        monkeypatch.setenv(f"MAYFLY_{name}", str(value))

    def called(*words: str) -> set[tuple[str, str]]:
        done = CliRunner().invoke(app, ["images", *words, "--json"])
        assert done.exit_code == 0, done.output
        items = json.loads(done.output)["items"]
        return {(one["place"], one["name"]) for one in items if one["old"]}

    client = docker.APIClient(url, timeout=600)  # a slow machine loads an image for minutes
    try:
        for name in ("mayfly/old", "mayfly/used", "mayfly/redis", "mayfly/monitoring", "mayfly/service", "other/thing"):
            client.import_image_from_data(tar(name), repository=name, tag="1")
        client.create_container("mayfly/used:1", "never")
        with (images / "python.tar").open("rb") as archive:
            for _ in client.load_image(archive):
                pass
        tag = json.loads((images / "python.json").read_text())["tag"]
        old = {("engine", "mayfly/old:1"), ("unpacked", "0" * 12)}
        assert called("ls") == old
        assert called("prune", "--dry-run") == old
        assert called("prune") == old
        assert called("prune") == set()
        left = {name for image in client.images() for name in image["RepoTags"]}
        services = {"mayfly/redis:1", "mayfly/monitoring:1", "mayfly/service:1"}
        assert left == {"mayfly/used:1", "other/thing:1", tag} | services, "another installation's services stay"
        (own_images / "services").mkdir()
        for name in ("redis", "monitoring"):
            id = client.inspect_image(f"mayfly/{name}:1")["Id"]
            (own_images / "services" / f"{name}.json").write_text(json.dumps({"name": name, "image_id": id}))
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "remove_image", away)
            failed = CliRunner().invoke(app, ["images", "prune"])
        assert (failed.exit_code, "the engine is away" in failed.output) == (1, True)
        assert called("prune") == {("engine", "mayfly/service:1")}, "of an earlier version of the services"
        assert {name for image in client.images() for name in image["RepoTags"]} == left - {"mayfly/service:1"}
    finally:
        client.close()
    assert [place.name for place in unpacked.iterdir()] == ["1" * 64]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_prune_fails_if_an_image_cannot_be_removed(tmp_path: Path) -> None:
    """A mount point below the image: the kernel refuses its removal."""
    own = {"DRIVER": "oci", "STATE_DIR": str(tmp_path / "state"), "IMAGES_DIR": str(tmp_path / "images")}
    environment = inherited_environment(**{f"MAYFLY_{name}": value for name, value in own.items()})

    def pruned() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "orchestrator.cli", "images", "prune", "--json"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)

    unpacked = tmp_path / "state" / "oci" / "rootfs"
    for name in ("0" * 64, "1" * 64):
        (unpacked / name / "root").mkdir(parents=True)
        os.utime(unpacked / name, (1, 1))
    left = f".removing-{'1' * 64}"
    subprocess.run(["mount", "-t", "tmpfs", "none", unpacked / ("1" * 64) / "root"], check=True)
    try:
        failed = pruned()
    finally:
        for place in unpacked.glob("*/root"):
            subprocess.run(["umount", place], check=True)
    assert (failed.returncode, left in failed.stderr) == (1, True), failed.stderr
    assert "Device or resource busy" in failed.stderr, "the reason"
    assert [one["name"] for one in json.loads(failed.stdout)["items"]] == ["0" * 12], "only the removed image"
    os.utime(unpacked / left, (1, 1))
    assert pruned().returncode == 0, "the control"
    assert list(unpacked.iterdir()) == []


def test_command_names_the_engine_that_does_not_answer(tmp_path: Path) -> None:
    done = subprocess.run(  # apart: the HTTP library leaves the socket of a failed connection to the garbage collector
        [sys.executable, "-m", "orchestrator.cli", "images", "ls"],
        env=inherited_environment(MAYFLY_DOCKER_URL=f"unix://{tmp_path}/none", MAYFLY_STATE_DIR=str(tmp_path)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, f"unix://{tmp_path}/none" in done.stderr) == (1, True)
