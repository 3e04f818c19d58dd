"""Settings of all processes: files, Redis, keys and issuers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.models import key_format
from orchestrator.models.issuers import Issuer

PREFIX = "MAYFLY_"
LEAST_SECRET_BYTES = 16
LEAST_PRODUCTION_BYTES, LEAST_DIFFERENT_BYTES = 32, 10  # in secrets, if MAYFLY_PRODUCTION is set
WELL_KNOWN = (b"changeme", b"password", b"default", b"example", b"secret", b"mayfly")
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class SharedSettings(BaseSettings):
    """The settings of every process. Unset paths are below ``state_dir``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    state_dir: Path = Field(Path(".mayfly"), description="Directory of all files of a single-host installation.")
    url: str = Field("http://127.0.0.1:8000", description="URL of the API, for the command line.")
    token: str = Field("", description="The API key the command line sends; empty: the admin key's file.")
    redis_url: str = Field(
        "",
        description="Redis to use, or Sentinels that name it (`docs/redis.md`); empty: `mayfly up` runs a private one "
        "under the state dir.",
    )
    redis_password_file: Path | None = Field(None, description="File with the password that goes into `redis_url`.")
    redis_ca_file: Path | None = Field(
        None, description="File with the certificate authorities that a `rediss://` Redis is verified with."
    )
    redis_timeout_seconds: float = Field(5.0, gt=0, description="Time-out of one Redis round trip.")
    secret_file: Path | None = Field(None, description="Key with which the API signs specifications for workers.")
    admin_key_file: Path | None = Field(None, description="File with the API key that has every scope.")
    local_login: bool = Field(True, description="Whether own users can log in (`on` or `off`, `docs/login.md`).")
    token_keys_file: Path | None = Field(None, description="File with the keys that sign own users' access tokens.")
    production: bool = Field(
        False, description="Refuse to start with a signing key or an admin key that could be guessed."
    )
    expect_confinement: bool = Field(
        False,
        description="Report a process that lacks no-new-privileges, an empty set of capabilities, a user other than "
        "root, or a read-only root (`docs/operations/hardening.md`).",
    )
    issuers: list[Issuer] = Field([], description="OIDC issuers of access tokens (JSON list, `docs/login.md`).")
    issuers_file: Path | None = Field(None, description="TOML file with further issuers, as `[[issuer]]` tables.")
    blob_dir: Path | None = Field(None, description="Uploaded blobs and artifacts; shared by API and workers.")
    blobs_url: str = Field(
        "",
        description="Where blobs and artifacts lie instead: `s3://bucket/prefix`, for API and workers, or for a worker "
        "without the directory the API's `https://` URL (`docs/operations/hosts.md`).",
    )
    images_dir: Path | None = Field(None, description="Sandbox images as the image builder wrote them.")
    sandbox_dir: Path | None = Field(
        None,
        description="Inputs on the host; same path for worker and engine. If unset, the worker makes a link into "
        "`/dev/shm`, if that has a GiB free.",
    )
    oci_dir: Path | None = Field(None, description="Unpacked images and containers of driver `oci`; this host's alone.")
    environments_dirs: list[Path] = Field(
        [PACKAGE_ROOT / "sandbox_image" / "environments"], description="Directories of environment files (JSON list)."
    )

    def _under_state(self, chosen: Path | None, name: str) -> Path:
        return (chosen or self.state_dir / name).absolute()

    @property
    def blobs_path(self) -> Path:
        return self._under_state(self.blob_dir, "blobs")

    @property
    def images_path(self) -> Path:
        return self._under_state(self.images_dir, "images")

    @property
    def sandboxes_path(self) -> Path:
        return self._under_state(self.sandbox_dir, "sandboxes")

    @property
    def oci_path(self) -> Path:
        return self._under_state(self.oci_dir, "oci")

    @property
    def secret_path(self) -> Path:
        return self._under_state(self.secret_file, "secret")

    @property
    def sealed_path(self) -> Path:
        """A file that is there if no record of a version without seals is left, so that none must be sealed."""
        return self.state_dir / "records-sealed"

    @property
    def admin_key_path(self) -> Path:
        return self._under_state(self.admin_key_file, "api-key")

    @property
    def token_keys_path(self) -> Path:
        return self._under_state(self.token_keys_file, "token-keys")

    @property
    def redis_socket(self) -> Path:
        """The embedded Redis's Unix socket."""
        return self._under_state(None, "redis.sock")

    @property
    def effective_redis_url(self) -> str:
        """The URL with password and certificate authorities. Raises ``ValueError`` for authorities without TLS."""
        url = self.redis_url or f"unix://{self.redis_socket}"
        scheme, _, rest = url.partition("://")
        if self.redis_ca_file is not None:
            if not scheme.startswith("rediss"):
                raise ValueError("MAYFLY_REDIS_CA_FILE is set, and MAYFLY_REDIS_URL is not encrypted: use rediss://")
            rest += f"{'&' if '?' in rest else '?'}ssl_ca_certs={quote(str(self.redis_ca_file))}"
            url = f"{scheme}://{rest}"
        if self.redis_password_file is None:
            return url
        user, _, place = rest.rpartition("@")
        password = self.redis_password_file.read_text(encoding="utf-8").strip()
        return f"{scheme}://{user.partition(':')[0]}:{quote(password, safe='')}@{place}"

    def secret(self) -> bytes:
        """The signing key.

        Raises ``FileNotFoundError`` without a key, and ``ValueError`` for a guessable key. With an empty key, which a
        full disk may leave, every client with write access to Redis could sign programs.
        """
        key = self.secret_path.read_bytes().strip()
        if len(key) < LEAST_SECRET_BYTES:
            raise ValueError(
                f"{self.secret_path} holds {len(key)} bytes; a signing key has at least {LEAST_SECRET_BYTES}. "
                "Remove it and `mayfly up` makes another, or put the output of `openssl rand -hex 32` there."
            )
        self._refuse_weak(key, self.secret_path)
        return key

    def admin_key(self) -> str | None:
        """The admin API key, or ``None`` without its file. Raises ``ValueError`` as :meth:`secret` does."""
        try:
            key = self.admin_key_path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        if key:
            self._refuse_weak(key.removeprefix(key_format.PREFIX).encode(), self.admin_key_path)
        return key or None

    def _refuse_weak(self, secret: bytes, path: Path) -> None:
        """Raise ``ValueError`` in production for a secret that is short, repeats itself, or has a well-known word."""
        short = len(secret) < LEAST_PRODUCTION_BYTES or len(set(secret)) < LEAST_DIFFERENT_BYTES
        if self.production and (short or any(word in secret.lower() for word in WELL_KNOWN)):
            raise ValueError(
                f"{path} could be guessed, and MAYFLY_PRODUCTION is set. It needs {LEAST_PRODUCTION_BYTES} random "
                "bytes, such as `openssl rand -hex 32` prints."
            )

    def all_issuers(self) -> list[Issuer]:
        """The OIDC issuers of the setting and of the file. Raises ``OSError`` and ``ValueError``."""
        if self.issuers_file is None:
            return self.issuers
        tables = tomllib.loads(self.issuers_file.read_text(encoding="utf-8")).get("issuer", [])
        return [*self.issuers, *map(Issuer.model_validate, tables)]
