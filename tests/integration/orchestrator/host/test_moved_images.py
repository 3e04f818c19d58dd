"""Images on their way to another host, in a file and through Debian's registry: complete, and by their digest."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host.image_files import PARTS, PROVENANCE, load_images, save_images
from orchestrator.host.registry import Credentials, Registry
from orchestrator.host.rootfs import unpacked
from sandbox_image.archive import write_image
from tests.builders.processes.packages import fetched
from tests.harness import ROOT, Process, eventually, free_port
from tests.lanes import locked

FILE = "pool/main/d/docker-registry/docker-registry_2.8.2+ds1-1_amd64.deb"
SHA256 = "a9bd06c0e006854608f8469b4371743f40604ad90975532bb3b7ceeb72fe2913"
CONFIGURATION = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}", secret: for-this-test{http}}}
"""
WITH_PASSWORD = "auth: {{htpasswd: {{realm: test, path: {file}}}}}\n"
PASSWORD = "worker:$2b$04$abcdefghijklmnopqrstuux1xldIMZ95v8jSLOpqCBZ5kZ5M/8v4G\n"  # of `p@ss`


def built(directory: Path, name: str, text: str) -> str:
    """An image of two layers with a file each, as the builder leaves it; returns its digest."""
    directory.mkdir(parents=True, exist_ok=True)
    layers = []
    for number in (1, 2):
        (directory / "file").write_text(f"{text} {number}")
        layers.append(directory / f"layer-{number}")
        with tarfile.open(layers[-1], "w") as layer:
            layer.add(directory / "file", f"file-{number}")
    image = write_image(name, {"Entrypoint": ["/x"]}, "amd64", layers, directory / f"{name}.tar", 0)
    for path in (*layers, directory / "file"):
        path.unlink()
    described = {"name": name, "image_id": image.id, "tag": image.tag, "size_bytes": 1}
    (directory / f"{name}.json").write_text(json.dumps(described))
    (directory / f"{name}.cdx.json").write_text(f'{{"components": ["{text}"]}}')
    (directory / f"{name}.{PROVENANCE}").write_text(f'{{"payload": "{text}"}}')
    return image.id


def contents(directory: Path, name: str) -> list[bytes]:
    return [(directory / f"{name}.{part}").read_bytes() for part in PARTS]


def spoil(archive: Path, member: str) -> None:
    """Change a byte of a member, whose length stays."""
    with tarfile.open(archive) as opened:
        found = next(one for one in opened if one.name.endswith(member))
        offset = found.offset_data + found.size // 2
    with archive.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def test_saved_images_are_the_same_on_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = built(tmp_path / "here", "python", "one")
    built(tmp_path / "here", "node", "two")
    there = tmp_path / "there"
    for place, words in (("here", ("save", "python")), ("there", ("load", "--image", digest))):
        monkeypatch.setenv("MAYFLY_IMAGES_DIR", str(tmp_path / place))
        command, *rest = words
        done = CliRunner().invoke(app, ["images", command, str(tmp_path / "images.tar"), *rest, "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.output) == {"items": [{"name": "python", "image": digest}]}
    assert contents(there, "python") == contents(tmp_path / "here", "python")
    assert sorted(path.name for path in there.iterdir()) == sorted(f"python.{part}" for part in PARTS)
    root = unpacked(tmp_path / "rootfs", there / "python.tar", digest)  # as driver oci has it
    assert [(root.path / f"file-{number}").read_text() for number in (1, 2)] == ["one 1", "one 2"]


@pytest.mark.parametrize("member", [".tar", "manifest.json", ".json"], ids=["layer", "manifest", "configuration"])
def test_damaged_image_is_neither_saved_nor_loaded(tmp_path: Path, member: str) -> None:
    built(tmp_path / "here", "python", "one")
    save_images(tmp_path / "here", tmp_path / "images.tar", [])
    spoil(tmp_path / "here" / "python.tar", member)
    with pytest.raises(EnvironmentUnavailable):
        save_images(tmp_path / "here", tmp_path / "other.tar", [])
    with tarfile.open(tmp_path / "damaged.tar", "w") as archive:
        for part in PARTS:
            archive.add(tmp_path / "here" / f"python.{part}", f"python.{part}")
    with pytest.raises(EnvironmentUnavailable):
        load_images(tmp_path / "damaged.tar", tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []
    load_images(tmp_path / "images.tar", tmp_path / "there")  # the control


def test_only_the_asked_digest_is_loaded_and_nothing_beside_images(tmp_path: Path) -> None:
    digest = built(tmp_path / "here", "python", "one")
    save_images(tmp_path / "here", tmp_path / "images.tar", [])
    with pytest.raises(EnvironmentUnavailable, match="not asked for"):
        load_images(tmp_path / "images.tar", tmp_path / "there", ["sha256:" + "0" * 64])
    with tarfile.open(tmp_path / "images.tar", "a") as archive:
        for name in ("../evil.json", "evil.sh", "/evil.tar"):
            archive.addfile(tarfile.TarInfo(name))
    assert load_images(tmp_path / "images.tar", tmp_path / "there", [digest]) == {"python": digest}
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == sorted(f"python.{part}" for part in PARTS)
    with pytest.raises(EnvironmentUnavailable, match="node"):
        save_images(tmp_path / "here", tmp_path / "more.tar", ["node"])


@contextmanager
def running(directory: Path, http: str = "", further: str = "", port: int | None = None) -> Iterator[str]:
    """Debian's registry, with such lines in its configuration; the address of a repository in it."""
    kept, port = ROOT / ".mayfly" / "registry", port or free_port()
    kept.mkdir(parents=True, exist_ok=True)
    command = kept / SHA256[:12]
    with locked(kept / "lock"):
        if not command.exists():
            assert fetched(FILE, SHA256, "usr/bin/docker-registry", command), "Debian has no such package any more"
    configuration = CONFIGURATION.format(root=directory / "data", port=port, http=http) + further
    (directory / "registry.yml").write_text(configuration)
    server = Process([str(command), "serve", str(directory / "registry.yml")], {}, directory / "registry.log")

    def answers() -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/v2/").status_code in {200, 401}
        except httpx2.TransportError:
            return False

    try:
        eventually(answers, "the registry answers", 60)
        yield f"http://127.0.0.1:{port}/mayfly"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a repository, and the directory of the registry's data."""
    directory = tmp_path_factory.mktemp("registry")
    with running(directory) as address:
        yield address, directory / "data"


@pytest.mark.thorough
def test_registry_gives_the_same_image(
    registry: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = built(tmp_path / "here", "python", "pushed")
    there = tmp_path / "there"
    commands: list[tuple[Path, list[str]]] = [
        (tmp_path / "here", ["push", registry[0]]),
        (tmp_path / "here", ["push", registry[0]]),  # again: all of it is there
        (there, ["pull", registry[0], f"python={digest}"]),
    ]
    for directory, words in commands:
        monkeypatch.setenv("MAYFLY_IMAGES_DIR", str(directory))
        done = CliRunner().invoke(app, ["images", *words, "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.output) == {"items": [{"name": "python", "image": digest}]}
    assert contents(there, "python")[1:] == contents(tmp_path / "here", "python")[1:]
    root = unpacked(tmp_path / "rootfs", there / "python.tar", digest)
    assert (root.path / "file-2").read_text() == "pushed 2"
    refused = CliRunner().invoke(app, ["images", "pull", registry[0], "python"])
    assert refused.exit_code == 2


def changed_layer(data: Path) -> None:
    for path in data.rglob("data"):
        if b"file-2" in (content := path.read_bytes()):
            path.write_bytes(content.replace(b"spoilt 2", b"SPOILT 2"))


def changed_configuration(data: Path) -> None:
    for path in data.rglob("data"):
        if b'"Entrypoint"' in (content := path.read_bytes()):
            path.write_bytes(content.replace(b"/x", b"/y"))


@pytest.mark.thorough
@pytest.mark.parametrize("change", [changed_layer, changed_configuration])
def test_image_that_a_registry_has_changed_is_refused(
    registry: tuple[str, Path], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    digest = built(tmp_path / "here", "python", "spoilt")
    with closing(Registry(registry[0] + change.__name__.replace("_", "-"))) as place:
        place.push(tmp_path / "here", "python")
        change(registry[1])
        with pytest.raises(EnvironmentUnavailable, match="other bytes"):
            place.pull(tmp_path / "there", "python", digest)
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.thorough
def test_missing_image_is_refused(registry: tuple[str, Path], tmp_path: Path) -> None:
    with closing(Registry(registry[0])) as place, pytest.raises(EnvironmentUnavailable, match="404"):
        place.pull(tmp_path, "python", "sha256:" + "0" * 64)


@contextmanager
def other_host() -> Iterator[tuple[str, list[str | None]]]:
    """Another origin that an answer may name; its address, and the credentials of each request to it."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_error(404)

        def log_message(self, format: str, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.thorough
def test_password_goes_to_the_registrys_own_origin_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry names where each upload goes by an absolute URL."""
    digest = built(tmp_path / "here", "python", "secret")
    (tmp_path / "passwords").write_text(PASSWORD)
    further = WITH_PASSWORD.format(file=tmp_path / "passwords")
    with other_host() as (elsewhere, seen), running(tmp_path, f', host: "{elsewhere}"', further) as address:
        with (
            closing(Registry(address, Credentials("worker", "p@ss"))) as place,
            pytest.raises(EnvironmentUnavailable, match="404 to PUT"),
        ):
            place.push(tmp_path / "here", "python")
        assert seen == [None]
    port = free_port()
    with running(tmp_path, f', host: "http://127.0.0.1:{port}"', further, port) as address:
        with closing(Registry(address)) as place, pytest.raises(EnvironmentUnavailable, match="401"):
            place.push(tmp_path / "here", "python")
        file = tmp_path / "credentials"
        file.write_text("worker:p@ss\n")
        file.chmod(0o600)
        for directory, words in (("here", ["push"]), ("there", ["pull", f"python={digest}"])):
            monkeypatch.setenv("MAYFLY_IMAGES_DIR", str(tmp_path / directory))
            command = ["images", words[0], address, *words[1:], "--credentials", str(file)]
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, done.output
    assert contents(tmp_path / "there", "python")[1:] == contents(tmp_path / "here", "python")[1:]


def test_image_without_provenance_replaces_a_signed_image(tmp_path: Path) -> None:
    built(tmp_path / "there", "python", "signed")
    digest = built(tmp_path / "here", "python", "unsigned")
    (tmp_path / "here" / f"python.{PROVENANCE}").unlink()
    save_images(tmp_path / "here", tmp_path / "images.tar", [])
    assert load_images(tmp_path / "images.tar", tmp_path / "there") == {"python": digest}
    names = {f"python.{part}" for part in PARTS if part != PROVENANCE}
    assert {path.name for path in (tmp_path / "there").iterdir()} == names
