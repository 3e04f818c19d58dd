"""Provenance of images: signed statements, which openssl verifies too, and every kind of change is found."""

from __future__ import annotations

import base64
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.host import provenance
from sandbox_image import archive, sbom

MTIME = 1735689600


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of keys, as deploy/prepare.sh makes them."""
    made = tmp_path_factory.mktemp("keys")
    for name in ("images", "other"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", made / f"{name}.key")
        openssl("pkey", "-in", made / f"{name}.key", "-pubout", "-out", made / f"{name}.pub")
    return made


def write_image(directory: Path, name: str, content: bytes, packages: tuple[str, ...] = ("dash",)) -> Path:
    """An image as the builder writes it; its NAME.json."""
    directory.mkdir(parents=True, exist_ok=True)
    layer = directory / "layer"
    with tarfile.open(layer, "w") as opened:
        info = tarfile.TarInfo("file")
        info.size = len(content)
        (directory / "content").write_bytes(content)
        with (directory / "content").open("rb") as file:
            opened.addfile(info, file)
    image = archive.write_image(name, {"User": "1"}, "amd64", [layer], directory / f"{name}.tar", MTIME)
    listed = [sbom.Package(package, "1-2", "amd64", "a" * 64, frozenset()) for package in packages]
    bill = sbom.bill(name, "1", image.id, archive.created(MTIME), listed)
    (directory / f"{name}.cdx.json").write_text(json.dumps(bill))
    summary = {"name": name, "image_id": image.id, "tag": image.tag, "inputs_hash": "b" * 64}
    (directory / f"{name}.json").write_text(json.dumps(summary))
    return directory / f"{name}.json"


@pytest.fixture
def described(keys: Path, tmp_path: Path) -> Path:
    """A signed image."""
    made = write_image(tmp_path / "images", "python", b"one")
    provenance.sign(made, provenance.private_key(keys / "images.key"))
    return made


def fault(described: Path, keys: Path, name: str = "images") -> str | None:
    return provenance.fault(described, provenance.public_key(keys / f"{name}.pub"))


def test_signed_image_is_verified_by_its_key_alone(described: Path, keys: Path) -> None:
    assert fault(described, keys) is None
    assert fault(described, keys, "other") == "No signature is of this key."


def test_statement_has_the_form_of_slsa(described: Path) -> None:
    envelope = json.loads(described.with_suffix(".provenance.json").read_text())
    stated = json.loads(base64.b64decode(envelope["payload"]))
    assert (envelope["payloadType"], stated["_type"]) == (provenance.PAYLOAD, "https://in-toto.io/Statement/v1")
    assert stated["predicateType"] == "https://slsa.dev/provenance/v1"
    summary = json.loads(described.read_text())
    assert stated["subject"] == [{"name": summary["tag"], "digest": {"sha256": summary["image_id"][7:]}}]
    build = stated["predicate"]["buildDefinition"]
    assert {"buildType", "externalParameters"} <= build.keys()
    assert stated["predicate"]["runDetails"]["builder"]["id"]
    assert build["resolvedDependencies"] == [
        {"uri": "pkg:deb/debian/dash@1-2?arch=amd64", "digest": {"sha256": "a" * 64}}
    ]


def test_openssl_verifies_the_same_signature(described: Path, keys: Path, tmp_path: Path) -> None:
    """Over the bytes of DSSE, put together here."""
    envelope = json.loads(described.with_suffix(".provenance.json").read_text())
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    (tmp_path / "signed").write_bytes(f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload)
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    verify = ("pkeyutl", "-verify", "-pubin", "-rawin", "-in", tmp_path / "signed", "-sigfile", tmp_path / "signature")
    openssl(*verify, "-inkey", keys / "images.pub")
    with pytest.raises(subprocess.CalledProcessError):
        openssl(*verify, "-inkey", keys / "other.pub")


def test_equal_builds_have_equal_provenance(described: Path, keys: Path, tmp_path: Path) -> None:
    again = write_image(tmp_path / "again", "python", b"one")
    provenance.sign(again, provenance.private_key(keys / "images.key"))
    first, second = (path.with_suffix(".provenance.json").read_bytes() for path in (described, again))
    assert first == second


def other_layer(described: Path) -> None:
    """The image's configuration over a layer of the same name with other content."""
    path = described.with_suffix(".tar")
    with tarfile.open(path) as opened:
        members = [(member, opened.extractfile(member)) for member in opened.getmembers()]
        contents = [(member, file.read() if file else b"") for member, file in members]
    with tarfile.open(path, "w") as opened:
        for member, content in contents:
            changed = content.replace(b"one", b"two") if b"one" in content and member.name.endswith(".tar") else content
            (path.parent / "part").write_bytes(changed)
            with (path.parent / "part").open("rb") as file:
                opened.addfile(member, file)


def other_image(described: Path) -> None:
    """Another image under the same name, described truthfully."""
    write_image(described.parent, "python", b"two")


def other_archive(described: Path) -> None:
    """Another image's archive under the description that was signed."""
    other = write_image(described.parent / "other", "python", b"two")
    other.with_suffix(".tar").replace(described.with_suffix(".tar"))


def other_packages(described: Path) -> None:
    other = write_image(described.parent / "other", "python", b"one", ("dash", "curl"))
    other.with_suffix(".cdx.json").replace(described.with_suffix(".cdx.json"))


def other_inputs(described: Path) -> None:
    described.write_text(json.dumps({**json.loads(described.read_text()), "inputs_hash": "c" * 64}))


def other_statement(described: Path) -> None:
    """A changed statement with the signature of the first."""
    path = described.with_suffix(".provenance.json")
    envelope = json.loads(path.read_text())
    payload = base64.b64decode(envelope["payload"]).replace(b"b" * 64, b"c" * 64)
    other_inputs(described)
    path.write_text(json.dumps({**envelope, "payload": base64.b64encode(payload).decode()}))


def no_signature(described: Path) -> None:
    path = described.with_suffix(".provenance.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "signatures": []}))


def no_provenance(described: Path) -> None:
    described.with_suffix(".provenance.json").unlink()


def no_json(described: Path) -> None:
    described.with_suffix(".provenance.json").write_text("{")


def cut_archive(described: Path) -> None:
    path = described.with_suffix(".tar")
    path.write_bytes(path.read_bytes()[:700])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (other_layer, "The archive has other layers than its image."),
        (other_image, "The statement is about another image, other packages, or other inputs."),
        (other_archive, "The archive has the image sha256:"),
        (other_packages, "The statement is about another image, other packages, or other inputs."),
        (other_inputs, "The statement is about another image, other packages, or other inputs."),
        (other_statement, "No signature is of this key."),
        (no_signature, "No signature is of this key."),
        (no_provenance, "There is no provenance: the image was not signed."),
        (no_json, "JSONDecodeError"),
        (cut_archive, "Error"),
    ],
)
def test_every_change_after_signing_is_found(
    change: Callable[[Path], None], found: str, described: Path, keys: Path
) -> None:
    change(described)
    assert found in (fault(described, keys) or "")


@pytest.mark.parametrize("kind", ["rsa", "public", "none"])
def test_unusable_key_is_named(kind: str, keys: Path, tmp_path: Path) -> None:
    path = tmp_path / "key"
    if kind == "rsa":
        openssl("genpkey", "-algorithm", "RSA", "-out", path)
    elif kind == "public":
        path.write_bytes((keys / "images.pub").read_bytes())
    with pytest.raises(provenance.ProvenanceError, match=str(path)):
        provenance.private_key(path)


def test_command_signs_and_verifies_every_image(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sandboxes and of services; one unsigned image is a failure, and so is none."""
    images = tmp_path / "images"
    monkeypatch.setenv("MAYFLY_IMAGES_DIR", str(images))
    monkeypatch.setenv("MAYFLY_STATE_DIR", str(tmp_path / "state"))

    def called(*words: str) -> tuple[int, dict[str, str | None]]:
        done = CliRunner().invoke(app, ["images", *words, "--json"])
        items = json.loads(done.stdout or '{"items": []}').get("items", [])
        return done.exit_code, {item["name"]: item.get("fault") for item in items}

    verify = ("verify", "--key", str(keys / "images.pub"))
    assert called(*verify)[0] != 0
    write_image(images, "python", b"one")
    write_image(images / "services", "redis", b"two")
    unsigned = "There is no provenance: the image was not signed."
    assert called(*verify) == (1, {"python": unsigned, "redis": unsigned})
    assert called("sign", "--key", str(keys / "images.key")) == (0, {"python": None, "redis": None})
    assert called(*verify) == (0, {"python": None, "redis": None})
    write_image(images / "services", "redis", b"three")
    code, faults = called(*verify)
    assert (code, faults["python"], bool(faults["redis"])) == (1, None, True)


def test_package_without_a_digest_is_named(described: Path) -> None:
    """A Python package in a service's bill, of which the lock file has several digests."""
    summary = json.loads(described.read_bytes())
    made = provenance.statement(summary, json.dumps({"components": [{"purl": "pkg:pypi/anyio@4"}]}).encode())
    assert made["predicate"]["buildDefinition"]["resolvedDependencies"] == [{"uri": "pkg:pypi/anyio@4"}]
