"""The one reader of environment variables. Every setting is ``MAYFLY_<NAME>``; ``mayfly doctor`` prints each one.

``docs/configuration.md`` is generated from this file by :mod:`orchestrator.configuration_page`.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.models import Isolation, key_format
from orchestrator.models.issuers import Issuer
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas

PREFIX = "MAYFLY_"
LEAST_SECRET_BYTES = 16
LEAST_PRODUCTION_BYTES, LEAST_DIFFERENT_BYTES = 32, 10  # of secrets, where MAYFLY_PRODUCTION is set
WELL_KNOWN = (b"changeme", b"password", b"default", b"example", b"secret", b"mayfly")
LONGEST_RETRY_SECONDS = 60.0
PACKAGE_ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Every setting, with its default and meaning. Unset paths are below ``state_dir``."""

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
    redis_timeout_seconds: float = Field(5.0, gt=0, description="Time-out of one Redis round trip.")
    secret_file: Path | None = Field(None, description="Key with which the API signs specifications for workers.")
    admin_key_file: Path | None = Field(None, description="File with the API key that has every scope.")
    seal_records: bool = Field(
        False, description="Seal API keys and users that an earlier version left, when the API starts; unset it then."
    )
    local_login: bool = Field(True, description="Whether own users can log in (`on` or `off`, `docs/login.md`).")
    token_keys_file: Path | None = Field(None, description="File with the keys that sign own users' access tokens.")
    production: bool = Field(
        False, description="Refuse to start with a signing key or an admin key that could be guessed."
    )
    issuers: list[Issuer] = Field([], description="OIDC issuers of access tokens (JSON list, `docs/login.md`).")
    issuers_file: Path | None = Field(None, description="TOML file with more of them, as `[[issuer]]` tables.")
    blob_dir: Path | None = Field(None, description="Uploaded blobs and artifacts; shared by API and workers.")
    images_dir: Path | None = Field(None, description="Sandbox images as the image builder wrote them.")
    sandbox_dir: Path | None = Field(
        None,
        description="Inputs on the host; same path for worker and engine. Where it is unset the worker makes it a link "
        "into `/dev/shm`, if that has a GiB free.",
    )
    oci_dir: Path | None = Field(None, description="Unpacked images and containers of driver `oci`; this host's alone.")
    environments_dirs: list[Path] = Field(
        [PACKAGE_ROOT / "sandbox_image" / "environments"], description="Directories of environment files (JSON list)."
    )

    api_host: str = Field("127.0.0.1", description="Address the API listens on.")
    api_port: int = Field(8000, ge=0, le=65535, description="Port the API listens on.")
    body_bytes: int = Field(32 * 2**20, gt=0, description="Largest request body.")
    connections: int = Field(4096, gt=0, description="Connections one API process keeps open; beyond that 503.")
    address_connections: int = Field(
        512,
        gt=0,
        description="The same from one address, or one /64 of IPv6; beyond that 429. Behind a proxy all come from its "
        "address: then let the proxy bound its clients, and set this to as many as it opens.",
    )
    stall_seconds: float = Field(
        30.0, gt=0, description="Longest time in which a client may read nothing of an answer; then it is cut off."
    )
    body_seconds: float = Field(
        20.0, gt=0, description="Longest wait for a request's body, beyond the time by `body_rate`; then 408."
    )
    body_rate: float = Field(16384, gt=0, description="Least rate at which a body must arrive, in bytes a second.")
    uploads: int = Field(
        64, gt=0, description="Bodies over 64 KiB that one API process receives at once; beyond that 503."
    )
    tenant_uploads: int = Field(16, gt=0, description="The same for one tenant; beyond that 429 too_many_uploads.")
    answers: int = Field(
        128, gt=0, description="Answers over 1 MiB that one API process sends at once; beyond that 503."
    )
    tenant_answers: int = Field(32, gt=0, description="The same for one tenant; beyond that 429 too_many_answers.")
    input_bytes: int = Field(32 * 2**20, gt=0, description="Largest sum of one execution's inputs and stdin.")
    artifact_bytes: int = Field(64 * 2**20, gt=0, description="Largest sum of one execution's artifacts.")
    artifact_files: int = Field(1000, gt=0, description="Most artifacts of one execution.")
    result_bytes: int = Field(8 * 2**20, gt=0, description="Largest sum of one execution's results.")
    result_count: int = Field(32, gt=0, le=1000, description="Most results of one execution.")
    rate_limit: str = Field(
        "100/10 second", description="Requests per principal, shared by all API processes; or `off`."
    )
    proxies: list[str] = Field(
        [],
        description="Addresses or networks of reverse proxies (JSON list) whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` count: as the client's address in logs and bounds, and as its scheme.",
    )
    streams: int = Field(100, gt=0, description="Live streams one tenant may follow at once, in each API process.")
    mcp_enabled: bool = Field(True, description="Whether the API serves agents at `/mcp` (`docs/agents.md`).")
    mcp_hosts: list[str] = Field(
        ["127.0.0.1:*", "localhost:*", "[::1]:*"],
        description="`Host` headers that `/mcp` answers, as `name`, `name:port` or `name:*` (JSON list); others get "
        "421. Add the names under which agents reach this API.",
    )
    mcp_origins: list[str] = Field(
        ["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"],
        description="`Origin` headers that `/mcp` answers, for agents in browsers (JSON list); others get 403, and "
        "requests without the header are served.",
    )
    mcp_body_bytes: int = Field(4 * 2**20, gt=0, description="Largest body of a request to `/mcp`.")
    mcp_calls: int = Field(
        256,
        gt=0,
        description="Requests to `/mcp` that one tenant has in progress in each API process; beyond that 429.",
    )
    mcp_wait_seconds: float = Field(
        50.0,
        gt=0,
        description="Longest time that a tool call waits for an execution's end; a longer one is answered with its id. "
        "Many clients give up after 60 s.",
    )
    mcp_output_tokens: int = Field(
        500, ge=100, description="Tokens (o200k) of one tool result, where the call does not ask for more or less."
    )
    mcp_filtered: list[str] = Field(
        [],
        description="Tenants, or keys as `tenant/key id`, whose agents get labels in place of personal data; `*`: all "
        "(JSON list).",
    )
    mcp_most_output_tokens: int = Field(20_000, ge=100, description="Most tokens of a result that a call may ask for.")
    policy_mode: Literal["off", "audit", "enforce"] = Field(
        "audit", description="Static policy for Python programs, where `MAYFLY_POLICY_MODES` does not say otherwise."
    )
    policy_modes: dict[str, Literal["off", "audit", "enforce"]] = Field(
        {},
        description="Mode for single tenants and environments (JSON object). Keys, the first match "
        "wins: `tenant/environment`, `tenant`, `*/environment`.",
    )
    policy_ignored_rules: list[str] = Field([], description="Policy rules that are not applied (JSON list).")
    queue_limit: int = Field(5000, gt=0, description="Most executions queued at once; beyond that 503 queue_full.")
    tenant_queue_share: float = Field(
        0.9, gt=0, le=1, description="Share of the queue that one tenant may fill; beyond that 429 tenant_queue_full."
    )
    tenant_quotas: TenantQuotas = Field(TenantQuotas(), description="Default quotas of tenants (JSON object).")
    key_quotas: KeyQuotas = Field(KeyQuotas(), description="Default quotas of API keys (JSON object).")
    redis_memory_bytes: int = Field(
        2**30,
        gt=0,
        description="Most memory of the Redis that `mayfly up` runs; the bound of any other is its own `maxmemory`.",
    )
    redis_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of Redis's `maxmemory` beyond which submissions are refused (503 store_full), and output "
        "goes to files.",
    )
    tenant_redis_share: float = Field(
        0.5, gt=0, le=1, description="Share of that memory that one tenant may use; beyond that 429 tenant_store_full."
    )
    queue_seconds: float = Field(3600, gt=0, description="Longest wait in the queue before queue_expired.")
    retention_seconds: float = Field(86400, gt=0, description="How long a finished execution is kept.")
    security_events: int = Field(
        10_000, gt=0, description="Security events kept, roughly: of the installation, and of each tenant."
    )
    security_seconds: int = Field(30 * 86400, gt=0, description="How long security events are kept.")
    retry_seconds: float = Field(1.0, ge=0, description="Pause before the second attempt; each further one doubles it.")
    max_attempts: int = Field(3, gt=0, description="Attempts of one execution when the platform fails.")
    audit_days: int = Field(400, ge=1, description="Days for which entries of the audit log are kept.")
    audit_submissions: bool = Field(False, description="Whether each submission is an entry of the audit log, too.")
    audit_tool_calls: Literal["refused", "destructive", "all"] = Field(
        "destructive", description="Calls of tools in the audit log: refused, also those that may destroy data, or all."
    )
    audit_entries: int = Field(
        1_000_000, ge=1000, description="Most entries of the audit log; each takes some 400 bytes of Redis's memory."
    )
    janitor_seconds: float = Field(2.0, gt=0, description="Pause between the janitor's rounds.")
    anomalies: bool = Field(True, description="Whether bursts of failures and security events are reported.")

    slots: int = Field(os.cpu_count() or 1, gt=0, description="Executions one worker runs at a time.")
    spare_slots: int = Field(
        1, ge=0, description="How many more executions a busy worker runs, only for tenants that have nothing running."
    )
    pool_size: int = Field(
        1, ge=0, description="Warm containers kept for each environment even without use (`docs/pool.md`)."
    )
    pool_sizes: dict[str, int] = Field(
        {"python": 2},
        description="The same for single environments (JSON object); `environment/hardened` for the hardened tier, of "
        "which otherwise none is kept before it is asked for.",
    )
    pool_max: int = Field(16, ge=0, description="Most warm containers of one environment, at any demand.")
    pool_memory_bytes: int = Field(2**30, ge=0, description="Most memory that all warm containers together may use.")
    pool_age_seconds: float = Field(3600, gt=0, description="A warm container that waits for longer is replaced.")
    lease_seconds: float = Field(
        7.0,
        gt=0,
        description="A worker without a heartbeat for this long is dead; a worker that cannot reach Redis for this "
        "long ends its executions.",
    )
    drain_seconds: float = Field(
        20.0,
        ge=0,
        description="How long a draining worker lets executions continue before it hands them back.",
    )
    disk_free_bytes: int = Field(
        2**28,
        ge=0,
        description="Least free space where blobs, inputs and containers lie: with less a worker takes nothing, and "
        "uploads are refused.",
    )
    driver: Literal["docker", "oci"] = Field(
        "docker", description="How the worker makes containers: through Docker Engine, or with an OCI runtime directly."
    )
    docker_url: str = Field("unix:///var/run/docker.sock", description="The container engine's API.")
    engine_timeout_seconds: float = Field(30.0, gt=0, description="Time-out of one call to the container engine.")
    standard_runtime: str = Field(
        "", description="Runtime behind isolation `standard`; empty: runc, or with driver `oci` crun where it is there."
    )
    hardened_runtime: str = Field("runsc", description="Runtime behind isolation `hardened`.")
    runsc_arguments: list[str] = Field(
        ["--network=none"],
        description="Arguments of runsc with driver `oci`, and in an engine that `mayfly` starts itself (JSON list).",
    )
    backup_target: str = Field("", description="Where backups go: a directory, or `s3://bucket/prefix`.")
    backup_recipients: list[str] = Field(
        [], description="Public keys of age that backups are encrypted to (JSON list, `docs/operations/backup.md`)."
    )
    installation: str = Field(
        "default", pattern=r"^[a-z0-9-]{1,32}$", description="Label of every container of this installation."
    )
    uid_first: int = Field(200000, gt=65535, description="First of the uids leased to containers.")
    uid_count: int = Field(50000, gt=0, description="How many uids there are to lease.")
    cgroup_root: Path = Field(Path("/sys/fs/cgroup"), description="Mount point of this host's cgroups.")
    accept_weaker: bool = Field(
        False, description="Let workers start although the host cannot keep a promise; a security event reports that."
    )
    tool_servers_dir: Path | None = Field(
        None, description="Declarations of tool servers, a TOML file each, for brokers (`docs/tool-servers.md`)."
    )
    tool_secrets_dir: Path | None = Field(
        None, description="Secrets that brokers send to tool servers, a TOML file each; no other process reads them."
    )
    tool_commands: bool = Field(
        False, description="For development: start tool servers that are commands, outside a sandbox, on this host."
    )
    tool_calls: int = Field(50, gt=0, description="Most calls of tools that one execution makes.")
    tool_calls_at_once: int = Field(8, gt=0, le=64, description="The same at once; further calls wait in the program.")
    tool_bytes: int = Field(
        50 * 2**20, gt=0, description="Largest sum of arguments and results of all calls of one execution."
    )
    tool_wait_seconds: float = Field(
        60.0, ge=0, description="Longest wait for tools that an execution's `wall_seconds` do not count."
    )
    tool_request_bytes: int = Field(2**20, gt=0, description="Largest arguments of one call of a tool.")
    tool_response_bytes: int = Field(10 * 2**20, gt=0, description="Largest result of one call of a tool.")
    tool_seconds: float = Field(30.0, gt=0, description="Longest time of one call of a tool.")
    tool_arguments: list[str] = Field(
        [],
        description="Tenants whose executions keep the arguments of their calls, of up to 4 KiB each, on the record; "
        "`*`: all (JSON list).",
    )
    tool_refresh_seconds: float = Field(
        60.0, gt=0, description="How often brokers list the tools of a tool server that reports no changes."
    )
    tool_http_seconds: float = Field(20.0, gt=0, description="Longest time of one fetch by the built-in tool server.")
    tool_http_response_bytes: int = Field(
        5 * 2**20, gt=0, description="Largest body of an answer that it fetches, before and after decompression alike."
    )
    tool_http_redirects: int = Field(5, ge=0, le=20, description="Most redirects that one fetch follows.")
    tool_http_cache_bytes: int = Field(64 * 2**20, ge=0, description="Most memory of fetched answers; 0: none is kept.")
    tool_http_private_hosts: list[str] = Field(
        [],
        description="Hosts that may have private or loopback addresses, as patterns like those of a tool server's "
        "`hosts` (JSON list); tenants still need them in their own lists.",
    )
    tool_http_forbidden_networks: list[str] = Field(
        [], description="Public networks that are never fetched from, such as the operator's own (JSON list of CIDR)."
    )
    tool_sandboxes_rootless: bool = Field(
        False,
        description="Let a broker that is not root start tool servers in sandboxes: in user namespaces, and with the "
        "caps of memory and CPU time that the broker itself has.",
    )
    tool_users_dir: Path = Field(
        Path("/var/lib/mayfly-tool-users"), description="Uids of tool servers, leased for all installations of a host."
    )
    tool_metrics_port: int = Field(
        9102, ge=0, le=65535, description="Port of the broker's metrics; 0 picks a free one."
    )
    metrics_host: str = Field("127.0.0.1", description="Address of the worker's and the broker's metrics listeners.")
    metrics_port: int = Field(9101, ge=0, le=65535, description="Port of the worker's metrics; 0 picks a free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line logged.")

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
    def admin_key_path(self) -> Path:
        return self._under_state(self.admin_key_file, "api-key")

    @property
    def token_keys_path(self) -> Path:
        return self._under_state(self.token_keys_file, "token-keys")

    @property
    def tool_servers_path(self) -> Path:
        return self._under_state(self.tool_servers_dir, "tool-servers")

    @property
    def tool_secrets_path(self) -> Path:
        return self._under_state(self.tool_secrets_dir, "tool-secrets")

    @property
    def redis_socket(self) -> Path:
        """The embedded Redis's Unix socket."""
        return self._under_state(None, "redis.sock")

    @property
    def effective_redis_url(self) -> str:
        url = self.redis_url or f"unix://{self.redis_socket}"
        if self.redis_password_file is None:
            return url
        scheme, _, rest = url.partition("://")
        user, _, place = rest.rpartition("@")
        password = self.redis_password_file.read_text(encoding="utf-8").strip()
        return f"{scheme}://{user.partition(':')[0]}:{quote(password, safe='')}@{place}"

    def runtime_names(self) -> dict[Isolation, tuple[str, ...]]:
        """The possible runtimes of each isolation, the preferred first."""
        usual = ("runc",) if self.driver == "docker" else ("crun", "runc")
        return {
            "standard": (self.standard_runtime,) if self.standard_runtime else usual,
            "hardened": (self.hardened_runtime,),
        }

    def pool_size_of(self, environment: str, isolation: str) -> int:
        """The least number of warm containers of one environment."""
        if isolation == "standard":
            return self.pool_sizes.get(environment, self.pool_size)
        return self.pool_sizes.get(f"{environment}/{isolation}", 0)

    def retry_pause(self, pauses: int) -> float:
        """Seconds before the next attempt, the ``pauses``-th such pause of an execution; none for 0."""
        return min(LONGEST_RETRY_SECONDS, self.retry_seconds * 2.0 ** (pauses - 1)) if pauses else 0.0

    def secret(self) -> bytes:
        """The signing key.

        Raises ``FileNotFoundError`` without a key, and ``ValueError`` for a guessable key: with an empty key, as a full
        disk leaves it, every client with write access to Redis could sign programs.
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

    def source(self, field: str) -> str:
        """The source of a field's value: ``environment`` or ``default``."""
        return "environment" if field in self.model_fields_set else "default"


def create_secret_file(path: Path, prefix: str = "") -> str:
    """Write a new random secret with mode 600, unless the file exists; returns the file's content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    value = key_format.new_secret() if prefix == key_format.PREFIX else prefix + secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(value + "\n")
    return value


def inherited_environment(**changes: str) -> dict[str, str]:
    """The environment of a child process: this process's, with some variables changed."""
    return {**os.environ, **changes}
