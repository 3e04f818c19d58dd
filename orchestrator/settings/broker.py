"""Settings of the broker, and the bounds of calls of tools."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from orchestrator.settings.shared import SharedSettings


class BrokerSettings(SharedSettings):
    """The settings of a broker process, and the bounds that it shares with API and workers."""

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
    tool_calls_at_once: int = Field(
        8, gt=0, le=64, description="Open calls of one execution; further calls wait in the program."
    )
    tool_bytes: int = Field(
        50 * 2**20, gt=0, description="Largest sum of arguments and results of all calls of one execution."
    )
    tool_wait_seconds: float = Field(
        60.0, ge=0, description="Longest wait for tools that is not counted against an execution's `wall_seconds`."
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
        5 * 2**20, gt=0, description="Largest body that a fetch returns, before and after decompression alike."
    )
    tool_http_redirects: int = Field(5, ge=0, le=20, description="Most redirects that one fetch follows.")
    tool_http_cache_bytes: int = Field(
        64 * 2**20, ge=0, description="Most memory for the cache of fetched answers; 0: no cache."
    )
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

    @property
    def tool_servers_path(self) -> Path:
        return self._under_state(self.tool_servers_dir, "tool-servers")

    @property
    def tool_secrets_path(self) -> Path:
        return self._under_state(self.tool_secrets_dir, "tool-secrets")
