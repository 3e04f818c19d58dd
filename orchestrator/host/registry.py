"""Built images in an operator's registry (OCI distribution), each under a tag that is its digest.

The tag has the image itself, so engines can pull it, and ``<tag>.about`` the description, the list of packages and the
provenance. What a registry answers is compared with the digest that was asked for, down to each layer. User and
password come from a private file, since an address is seen in lists of processes and in the shell's history; they go to
the registry's own origin alone, wherever it sends an upload or a download.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import httpx2

from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host.image_files import PROVENANCE, digests_of, put_in_place
from orchestrator.host.rootfs import check, members

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG, LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
DESCRIPTION, PACKAGES = "application/vnd.mayfly.image+json", "application/vnd.cyclonedx+json"
SIGNED = "application/vnd.dsse.envelope.v1+json"
MOST_BYTES = 2**22  # of a manifest, a configuration, a description, a list of packages, a provenance
CHUNK_BYTES = 2**20
SECONDS = 60.0


class Credentials(NamedTuple):
    """A user of a registry."""

    username: str
    password: str


def read_credentials(file: Path) -> Credentials:
    """``USER:PASSWORD`` from a file that only its owner may read.

    Raises :class:`EnvironmentUnavailable`, whose text has nothing of the content.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                raise EnvironmentUnavailable(f"Other users may read {file}: chmod 600 {file}")
            username, colon, password = opened.readline().rstrip("\r\n").partition(":")
    except UnicodeDecodeError:
        raise EnvironmentUnavailable(f"{file} is not text.") from None
    except OSError as error:
        raise EnvironmentUnavailable(f"{file} cannot be read: {error.strerror}") from error
    if not (username and colon and password):
        raise EnvironmentUnavailable(f"{file} must have USER:PASSWORD in its first line.")
    return Credentials(username, password)


class OwnOrigin(httpx2.BasicAuth):
    """User and password for one origin: a request to any other, which an answer has named, has neither."""

    def __init__(self, base: httpx2.URL, credentials: Credentials) -> None:
        super().__init__(*credentials)
        self._origin = base.origin

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """As :class:`httpx2.Auth` has it."""
        if request.url.origin == self._origin:
            yield from super().auth_flow(request)
        else:
            yield request


class Registry:
    """One repository: ``https://host[:port]/name``, or ``http://`` on this host. Raises :class:`EnvironmentUnavailable`
    for an address of another kind.
    """

    def __init__(self, address: str, credentials: Credentials | None = None) -> None:
        parts = urlsplit(address)
        if "@" in parts.netloc:
            raise EnvironmentUnavailable(
                "An address with user and password is seen by other users of this host. Write USER:PASSWORD into a "
                "file of mode 600, name it by --credentials FILE, and change the password that you typed."
            )
        if (parts.scheme, parts.hostname) != ("http", "127.0.0.1") and parts.scheme != "https":
            found = f", not {parts.scheme}://{parts.hostname}" if parts.hostname else ""
            raise EnvironmentUnavailable(f"A repository has an https:// address{found}.")
        base = httpx2.URL(f"{parts.scheme}://{parts.netloc}/v2/{parts.path.strip('/')}")
        auth = None if credentials is None else OwnOrigin(base, credentials)
        self._client = httpx2.Client(base_url=base, auth=auth, timeout=SECONDS, follow_redirects=True)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def push(self, directory: Path, name: str) -> str:
        """Put a built image there; returns its digest. Raises :class:`EnvironmentUnavailable`."""
        digest = digests_of(directory).get(name)
        if digest is None:
            raise EnvironmentUnavailable(f"No image of {name} in {directory}; build it with `make images`.")
        check(directory / f"{name}.tar", digest)
        tag = digest.removeprefix("sha256:")
        with _failures(), tarfile.open(directory / f"{name}.tar") as archive:
            config, layers = members(archive)
            described = [self._put(io.BytesIO(config), CONFIG), *(self._put(layer, LAYER) for layer in layers)]
            about = [
                self._put(io.BytesIO((directory / f"{name}.{part}").read_bytes()), media_type)
                for part, media_type in (("json", DESCRIPTION), ("cdx.json", PACKAGES), (PROVENANCE, SIGNED))
                if part != PROVENANCE or (directory / f"{name}.{part}").exists()
            ]
            self._put_manifest(f"{tag}.about", about)
            self._put_manifest(tag, described)  # last: an image that is there is complete
        return digest

    def pull(self, directory: Path, name: str, digest: str) -> None:
        """Get the image of a digest as the image of an environment. Raises :class:`EnvironmentUnavailable`."""
        tag = digest.removeprefix("sha256:")
        directory.mkdir(parents=True, exist_ok=True)
        with _failures(), tempfile.TemporaryDirectory(dir=directory, prefix=".pulling-") as made:
            fresh = Path(made)
            image, about = self._manifest(tag), self._manifest(f"{tag}.about")
            config = self._small(digest)
            with tarfile.open(fresh / f"{name}.tar", "w", format=tarfile.PAX_FORMAT) as archive:
                layers = json.loads(config)["rootfs"]["diff_ids"]
                if [layer["digest"] for layer in image["layers"]] != layers:
                    raise EnvironmentUnavailable(f"The registry has other layers than the image {digest} has.")
                for layer in layers:
                    with tempfile.TemporaryFile(dir=fresh) as file:
                        self._get(layer, file)
                        _add(archive, f"{layer.removeprefix('sha256:')}.tar", file)
                _add(archive, f"{tag}.json", io.BytesIO(config))
                names = [f"{layer.removeprefix('sha256:')}.tar" for layer in layers]
                listed = [{"Config": f"{tag}.json", "Layers": names, "RepoTags": [f"mayfly/{name}:{tag[:12]}"]}]
                _add(archive, "manifest.json", io.BytesIO(json.dumps(listed).encode()))
            description = self._small(about["config"]["digest"])
            found = json.loads(description)
            if (found["image_id"], found["name"]) != (digest, name):
                raise EnvironmentUnavailable(f"The registry describes {digest} as {found['name']} {found['image_id']}.")
            (fresh / f"{name}.json").write_bytes(description)
            parts = {layer["mediaType"]: self._small(layer["digest"]) for layer in about["layers"]}
            (fresh / f"{name}.cdx.json").write_bytes(parts[PACKAGES])
            if SIGNED in parts:
                (fresh / f"{name}.{PROVENANCE}").write_bytes(parts[SIGNED])
            check(fresh / f"{name}.tar", digest)
            put_in_place(fresh, name, directory)

    def _put(self, content: IO[bytes], media_type: str) -> dict[str, Any]:
        """Store a blob unless it is there; returns its descriptor."""
        digest = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"  # type: ignore[arg-type]
        size = content.seek(0, io.SEEK_END)
        content.seek(0)
        if self._client.head(f"/blobs/{digest}").status_code != 200:
            place = _succeeded(self._client.post("/blobs/uploads/")).headers["location"]
            target = self._client.base_url.join(place).copy_merge_params({"digest": digest})
            chunks = iter(lambda: content.read(CHUNK_BYTES), b"")
            _succeeded(self._client.put(target, content=chunks, headers={"Content-Length": str(size)}))
        return {"mediaType": media_type, "digest": digest, "size": size}

    def _put_manifest(self, tag: str, described: list[dict[str, Any]]) -> None:
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
        _succeeded(
            self._client.put(f"/manifests/{tag}", content=json.dumps(manifest), headers={"Content-Type": MANIFEST})
        )

    def _manifest(self, tag: str) -> dict[str, Any]:
        with io.BytesIO() as file:
            self._receive(f"/manifests/{tag}", file, MOST_BYTES)
            found: dict[str, Any] = json.loads(file.getvalue())
        return found

    def _small(self, digest: str) -> bytes:
        with io.BytesIO() as file:
            self._get(digest, file, MOST_BYTES)
            return file.getvalue()

    def _get(self, digest: str, file: IO[bytes], most_bytes: int = 2**36) -> None:
        if self._receive(f"/blobs/{digest}", file, most_bytes) != digest:
            raise EnvironmentUnavailable(f"The registry sent other bytes than the digest {digest} names.")

    def _receive(self, path: str, file: IO[bytes], most_bytes: int) -> str:
        """Write an answer to a file; returns its digest."""
        digest = hashlib.sha256()
        with self._client.stream("GET", path, headers={"Accept": MANIFEST} if "/manifests/" in path else {}) as answer:
            _succeeded(answer)
            for chunk in answer.iter_raw():
                digest.update(chunk)
                file.write(chunk)
                if file.tell() > most_bytes:
                    raise EnvironmentUnavailable(f"The registry's answer has more than {most_bytes} bytes.")
        file.seek(0)
        return f"sha256:{digest.hexdigest()}"


def _succeeded(answer: httpx2.Response) -> httpx2.Response:
    if not answer.is_success:
        raise EnvironmentUnavailable(f"The registry answered {answer.status_code} to {answer.request.method}.")
    return answer


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (httpx2.HTTPError, KeyError, IndexError, TypeError, ValueError) as error:
        raise EnvironmentUnavailable(f"The registry failed: {type(error).__name__}: {error}") from error


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size = content.seek(0, io.SEEK_END)
    content.seek(0)
    archive.addfile(info, content)
