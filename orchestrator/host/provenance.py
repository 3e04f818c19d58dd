"""Provenance of built images: a statement of in-toto with SLSA's predicate, signed by a key (DSSE, Ed25519).

The builder writes NAME.tar, NAME.json and NAME.cdx.json; :func:`sign` adds NAME.provenance.json, which names the image
by its id, its inputs by their digest, and each package by address and digest. There is no time in it: equal builds have
equal statements. :func:`fault` trusts the public key alone, and reads the whole archive.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = (
    "urn:mayfly:image:1"  # packages of Debian, PyPI and npm in an empty root, as sandbox_image/README.md has it
)
BUILDER = "urn:mayfly:builder"
PAYLOAD = "application/vnd.in-toto+json"
ALGORITHMS = {"SHA-256": "sha256", "SHA-512": "sha512"}  # in bills of materials, and in statements
PIECE = 2**20
LARGEST = 64 * 2**20  # of a document beside an image


class ProvenanceError(Exception):
    """A key, or an image's provenance, cannot be used."""


def built(images: Path) -> Iterator[Path]:
    """NAME.json of each image below a directory: of sandboxes, tool servers and services."""
    for path in sorted(images.rglob("*.json")):
        if path.with_suffix(".tar").exists() and not path.name.endswith(".base.json"):
            yield path


def private_key(path: Path) -> Ed25519PrivateKey:
    """A key that signs, in PEM. Raises :class:`ProvenanceError`."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ProvenanceError(f"{path} has no private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ProvenanceError(f"{path} has a key that is not Ed25519's.")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """A key that verifies, in PEM. Raises :class:`ProvenanceError`."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ProvenanceError(f"{path} has no public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ProvenanceError(f"{path} has a key that is not Ed25519's.")
    return key


def statement(summary: dict[str, Any], bill: bytes) -> dict[str, Any]:
    """The statement about one image, by its NAME.json and the bytes of its bill of materials."""
    packages = [_dependency(one) for one in json.loads(bill)["components"]]
    return {
        "_type": STATEMENT,
        "subject": [{"name": summary["tag"], "digest": {"sha256": summary["image_id"].removeprefix("sha256:")}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"name": summary["name"]},
                "internalParameters": {"inputs": summary["inputs_hash"]},
                "resolvedDependencies": packages,
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "byproducts": [
                    {"name": f"{summary['name']}.cdx.json", "digest": {"sha256": hashlib.sha256(bill).hexdigest()}}
                ],
            },
        },
    }


def _dependency(component: dict[str, Any]) -> dict[str, Any]:
    """A package of the bill, with its digest if the bill has one: of a Python package the lock file has several."""
    digests = {ALGORITHMS[one["alg"]]: one["content"] for one in component.get("hashes", ())[:1]}
    return {"uri": component["purl"]} | ({"digest": digests} if digests else {})


def sign(described: Path, key: Ed25519PrivateKey) -> Path:
    """Write the provenance of the image that NAME.json describes; returns its path."""
    summary = json.loads(described.read_bytes())
    payload = json.dumps(statement(summary, _bill(described).read_bytes()), sort_keys=True).encode()
    signature = {"keyid": key_id(key.public_key()), "sig": base64.b64encode(key.sign(_signed(payload))).decode()}
    envelope = {"payloadType": PAYLOAD, "payload": base64.b64encode(payload).decode(), "signatures": [signature]}
    path = described.with_suffix(".provenance.json")
    written = path.with_suffix(".written")
    written.write_text(json.dumps(envelope, indent=1) + "\n", encoding="ascii")
    written.replace(path)
    return path


def fault(described: Path, key: Ed25519PublicKey) -> str | None:
    """The fault of an image's provenance; ``None`` if archive and bill are what the key's owner has signed."""
    try:
        summary = json.loads(described.read_bytes())
        stated = _verified(described.with_suffix(".provenance.json"), key)
        bill = _bill(described).read_bytes()
        if stated != statement(summary, bill):
            return "The statement is about another image, other packages, or other inputs."
        if (found := digest_of(described.with_suffix(".tar"))) != stated["subject"][0]["digest"]["sha256"]:
            return f"The archive has the image sha256:{found[:12]}."
    except ProvenanceError as error:
        return str(error)
    except (OSError, ValueError, KeyError, IndexError, TypeError, tarfile.TarError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def digest_of(archive: Path) -> str:
    """The digest of an archive's image, all of which is read: of its configuration, whose layers must be there.

    Raises :class:`ProvenanceError`, and for a malformed archive ``ValueError``, ``KeyError`` or ``tarfile.TarError``.
    """
    with tarfile.open(archive) as opened:
        (entry,) = json.loads(_member(opened, "manifest.json"))
        config = _member(opened, entry["Config"])
        wanted = json.loads(config)["rootfs"]["diff_ids"]
        found = []
        for name in entry["Layers"]:
            layer = opened.extractfile(name)
            if layer is None:
                raise ProvenanceError(f"{name} in the archive is no file.")
            found.append(f"sha256:{_sha256(layer)}")
    if found != wanted:
        raise ProvenanceError("The archive has other layers than its image.")
    return hashlib.sha256(config).hexdigest()


def key_id(key: Ed25519PublicKey) -> str:
    """The name of a key in an envelope: the digest of its public bytes."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def _verified(path: Path, key: Ed25519PublicKey) -> dict[str, Any]:
    if not path.exists():
        raise ProvenanceError("There is no provenance: the image was not signed.")
    envelope = json.loads(path.read_bytes())
    if envelope["payloadType"] != PAYLOAD:
        raise ProvenanceError("The envelope has no statement of in-toto.")
    payload = base64.b64decode(envelope["payload"], validate=True)
    for signature in envelope["signatures"]:
        try:
            key.verify(base64.b64decode(signature["sig"], validate=True), _signed(payload))
        except InvalidSignature:
            continue
        stated: dict[str, Any] = json.loads(payload)
        return stated
    raise ProvenanceError("No signature is of this key.")


def _signed(payload: bytes) -> bytes:
    """The bytes under a signature (DSSE's pre-authentication encoding)."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _bill(described: Path) -> Path:
    return described.with_suffix(".cdx.json")


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None or archive.getmember(name).size > LARGEST:
        raise ProvenanceError(f"{name} in the archive is no document.")
    return member.read()
