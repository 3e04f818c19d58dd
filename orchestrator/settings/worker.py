"""Settings of a worker: slots, warm containers, its engine or runtimes, uids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from orchestrator.models import Isolation
from orchestrator.settings.shared import SharedSettings


class WorkerSettings(SharedSettings):
    """The settings of a worker process."""

    slots: int = Field(os.cpu_count() or 1, gt=0, description="Executions one worker runs at a time.")
    spare_slots: int = Field(
        1, ge=0, description="Further executions of a busy worker, only for tenants without running executions."
    )
    pool_size: int = Field(
        1, ge=0, description="Warm containers kept for each environment even without use (`docs/pool.md`)."
    )
    pool_sizes: dict[str, int] = Field(
        {"python": 2},
        description="Warm containers kept for single environments (JSON object); `environment/hardened` for the "
        "hardened tier, which otherwise has none before its first use.",
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
        description="Least free space where blobs, inputs and containers lie: with less a worker takes no executions, "
        "and uploads are refused.",
    )
    worker_token_file: Path | None = Field(
        None, description="File with the API key, of the scope `worker`, for an API in `MAYFLY_BLOBS_URL`."
    )
    blobs_ca_file: Path | None = Field(
        None, description="File with the certificate authorities that API is verified with; unset: the system's."
    )
    driver: Literal["docker", "oci"] = Field(
        "docker", description="How the worker makes containers: through Docker Engine, or with an OCI runtime directly."
    )
    docker_url: str = Field("unix:///var/run/docker.sock", description="The container engine's API.")
    engine_proxy: bool = Field(
        False,
        description="Reach the container engine only through the engine proxy, which permits the calls that make "
        "sandboxes and no others (`docs/engine-proxy.md`); `mayfly up` then starts a proxy. `mayfly host run` has it "
        "unless this is set to `false`.",
    )
    engine_proxy_socket: Path | None = Field(None, description="The engine proxy's Unix socket.")
    engine_metrics_port: int = Field(
        9103, ge=0, le=65535, description="Port of the engine proxy's metrics; 0 picks a free one."
    )
    engine_timeout_seconds: float = Field(30.0, gt=0, description="Time-out of one call to the container engine.")
    standard_runtime: str = Field(
        "", description="Runtime behind isolation `standard`; empty: runc, or with driver `oci` crun if installed."
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
    uid_count: int = Field(50000, gt=0, description="Number of uids to lease.")
    cgroup_root: Path = Field(Path("/sys/fs/cgroup"), description="Mount point of this host's cgroups.")
    accept_weaker: bool = Field(
        False, description="Let workers start although the host cannot keep a promise; a security event reports that."
    )

    @property
    def engine_proxy_path(self) -> Path:
        return self._under_state(self.engine_proxy_socket, "engine.sock")

    @property
    def uses_engine_proxy(self) -> bool:
        """Whether workers reach the engine through the engine proxy."""
        return self.engine_proxy and self.driver == "docker"

    @property
    def worker_engine_url(self) -> str:
        """The address at which a worker reaches the engine."""
        return f"unix://{self.engine_proxy_path}" if self.uses_engine_proxy else self.docker_url

    def worker_token(self) -> str:
        """The API key of a worker. Raises ``ValueError`` without the setting, ``OSError`` without the file."""
        if self.worker_token_file is None:
            raise ValueError("MAYFLY_BLOBS_URL names an API: set MAYFLY_WORKER_TOKEN_FILE, too")
        return self.worker_token_file.read_text(encoding="ascii").strip()

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
