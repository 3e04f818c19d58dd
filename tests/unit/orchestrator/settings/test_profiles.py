"""Profiles: their rules, and what `mayfly doctor --profile` says of settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.settings import Settings
from orchestrator.settings.profiles import NAMES, RULES, differences, rules_of

GOOD: dict[str, Any] = {
    "production": True,
    "engine_proxy": True,
    "redis_url": "rediss://api@redis:6379",
    "tenant_quotas": {"queued": 100},
    "proxies": ["10.0.0.1"],
    "backup_target": "/backups",
    "backup_recipients": ["age1"],
}
FAST: dict[str, Any] = {"driver": "oci", "pool_memory_bytes": 4 * 2**30}
# Settings that suit every purpose with any value: places, names, and bounds that depend on programs and clients.
FREE = """
state_dir url token redis_password_file redis_ca_file redis_timeout_seconds expect_confinement secret_file
admin_key_file local_login token_keys_file
issuers issuers_file blob_dir blobs_url worker_token_file blobs_ca_file
images_dir oci_dir environments_dirs api_port api_metrics_port body_bytes connections
address_connections stall_seconds answer_rate body_seconds body_rate uploads tenant_uploads answers tenant_answers
input_bytes artifact_bytes artifact_files result_bytes result_count streams mcp_hosts mcp_origins mcp_body_bytes
mcp_calls mcp_wait_seconds mcp_output_tokens mcp_filtered mcp_most_output_tokens policy_mode policy_modes
policy_ignored_rules queue_limit tenant_queue_share key_quotas redis_memory_bytes redis_share tenant_redis_share
queue_seconds retention_seconds security_events security_seconds retry_seconds audit_entries janitor_seconds slots
pool_size pool_sizes pool_age_seconds lease_seconds drain_seconds docker_url engine_proxy_socket
engine_metrics_port engine_timeout_seconds hardened_runtime
runsc_arguments installation uid_first uid_count cgroup_root tool_servers_dir tool_secrets_dir tool_calls
tool_calls_at_once tool_bytes tool_wait_seconds tool_request_bytes tool_response_bytes tool_seconds tool_arguments
tool_refresh_seconds tool_http_seconds tool_http_response_bytes tool_http_redirects tool_http_cache_bytes
tool_http_private_hosts tool_http_forbidden_networks tool_sandboxes_rootless tool_users_dir tool_metrics_port
metrics_host metrics_port
"""


def test_profiles_decide_about_every_setting() -> None:
    ruled = {field for name in NAMES for field in rules_of(name)}
    assert ruled | set(FREE.split()) == set(Settings.model_fields)
    assert ruled.isdisjoint(FREE.split())


@pytest.mark.parametrize("name", NAMES)
def test_each_rule_has_one_test_and_a_reason(name: str) -> None:
    for field, table in rules_of(name).items():
        assert len(table) == 2, field
        assert table.keys() & RULES.keys(), field
        assert table["why"].endswith("."), field


def test_settings_that_follow_a_profile_have_no_difference() -> None:
    assert differences(Settings(rate_limit="off"), "development") == []
    assert differences(Settings(**GOOD), "production") == []
    assert differences(Settings(**GOOD, **FAST), "performance") == []


@pytest.mark.parametrize(
    ("name", "given", "variable", "here", "wanted"),
    [
        ("production", {"production": False}, "MAYFLY_PRODUCTION", "false", "true"),
        ("production", {"rate_limit": "off"}, "MAYFLY_RATE_LIMIT", '"off"', 'not "off"'),
        ("production", {"audit_days": 364}, "MAYFLY_AUDIT_DAYS", "364", "at least 365"),
        ("production", {"log_level": "debug"}, "MAYFLY_LOG_LEVEL", '"debug"', 'one of ["info", "warning"]'),
        ("production", {"backup_recipients": []}, "MAYFLY_BACKUP_RECIPIENTS", "[]", "set: true"),
        ("performance", {"production": False}, "MAYFLY_PRODUCTION", "false", "true"),
        ("performance", {"sandbox_dir": "/data"}, "MAYFLY_SANDBOX_DIR", "(set)", "set: false"),
    ],
)
def test_difference_is_named_with_both_values(
    name: str, given: dict[str, Any], variable: str, here: str, wanted: str
) -> None:
    ((found, *values, why),) = differences(Settings(**GOOD | FAST | given), name)
    assert (found, values) == (variable, [here, wanted])
    assert why


def test_command_prints_differences_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAYFLY_REDIS_URL", "redis://:hunter2@redis:6379")
    done = CliRunner().invoke(app, ["doctor", "--profile", "development"])
    assert (done.exit_code, "MAYFLY_REDIS_URL" in done.output, "hunter2" in done.output) == (1, True, False)
    found = json.loads(CliRunner().invoke(app, ["doctor", "--profile", "development", "--json"]).output)
    assert "MAYFLY_REDIS_URL" in [one["variable"] for one in found["differences"]]
    assert "hunter2" not in json.dumps(found)
    unknown = CliRunner().invoke(app, ["doctor", "--profile", "prod"])
    assert (unknown.exit_code, "development, performance, production" in unknown.output) == (2, True)
    for name, value in {"MAYFLY_REDIS_URL": "", "MAYFLY_RATE_LIMIT": "off"}.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["doctor", "--profile", "development"])
    assert (done.exit_code, done.output) == (0, "Every setting follows the profile 'development'.\n")
